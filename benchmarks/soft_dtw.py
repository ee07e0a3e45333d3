"""Speed, precision and memory of the soft-DTW divergence beside the authors' code and plain numba.

    git clone https://github.com/Trikaldarshi/SCORE_Finetuning
    python benchmarks/soft_dtw.py --score-repo SCORE_Finetuning    # about 5 minutes on two cores

Everyone gets the same frames in the same process: sdtw(x, y) - (sdtw(x, x) + sdtw(y, y)) / 2 of squared
Euclidean costs, forward and backward, with a gradient in x and in y. Rivals: our torch operations, the
same mathematics in plain loops that numba compiles (one alignment per thread), and the soft-DTW of SCORE
as its training calls it: on the CPU, three times, one batch; and one utterance after the other, as its
recipe has it. `--laser-repo` adds the one of LASER (https://github.com/Trikaldarshi/LASER).

Turns are interleaved: one run of each, then again. A ratio is the rival's time over that of our compiled
kernels in the same turn; median, smallest and largest are printed. Errors are relative, in the norm of
the batch, against plain loops in float64 on distances computed difference by difference. Peak memory is
that of the process over what it held before the run (Linux only). The authors' code holds
batch x N x M x D numbers several times (17 GB for the default): rows that do not fit are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from ssft_bench.alignment import soft_dtw_divergence

Divergence = Callable[[Tensor, Tensor], Tensor]
OURS = "ours, compiled"


@dataclass
class Rival:
    """One line of the table."""

    name: str
    run: Divergence
    turns: int
    needs: float = 0.0
    """Bytes, where they are many."""
    times: dict[int, float] = field(default_factory=dict)
    """Seconds by turn."""
    errors: tuple[float, float] = (0.0, 0.0)
    """Relative, of the value and of the gradient."""
    peak: float = math.nan
    """Bytes."""


@njit(parallel=True)
def loops_forward(cost, gamma):
    """Accumulated costs [B, N + 1, M + 1] of costs [B, N, M]."""
    batch, n, m = cost.shape
    total = np.full((batch, n + 1, m + 1), np.inf)
    for b in prange(batch):
        total[b, 0, 0] = 0.0
        for i in range(n):
            for j in range(m):
                diagonal, up, left = total[b, i, j], total[b, i, j + 1], total[b, i + 1, j]
                low = min(diagonal, up, left)
                mass = math.exp((low - diagonal) / gamma)
                mass += math.exp((low - up) / gamma) + math.exp((low - left) / gamma)
                total[b, i + 1, j + 1] = cost[b, i, j] + low - gamma * math.log(mass)
    return total


@njit(parallel=True)
def loops_backward(cost, total, gamma):
    """Gradient of the last accumulated cost in the costs [B, N, M]."""
    batch, n, m = cost.shape
    grad = np.zeros(cost.shape)
    for b in prange(batch):
        grad[b, n - 1, m - 1] = 1.0
        for i in range(n - 1, -1, -1):
            for j in range(m - 1, -1, -1):
                own = total[b, i + 1, j + 1]
                if i + 1 < n:
                    step = total[b, i + 2, j + 1] - cost[b, i + 1, j] - own
                    grad[b, i, j] += grad[b, i + 1, j] * math.exp(step / gamma)
                if j + 1 < m:
                    step = total[b, i + 1, j + 2] - cost[b, i, j + 1] - own
                    grad[b, i, j] += grad[b, i, j + 1] * math.exp(step / gamma)
                if i + 1 < n and j + 1 < m:
                    step = total[b, i + 2, j + 2] - cost[b, i + 1, j + 1] - own
                    grad[b, i, j] += grad[b, i + 1, j + 1] * math.exp(step / gamma)
    return grad


class Loops(torch.autograd.Function):
    """Soft-DTW by the loops above."""

    @staticmethod
    def forward(ctx: Any, cost: Tensor, gamma: float) -> Tensor:
        total = loops_forward(cost.detach().numpy(), gamma)
        ctx.save_for_backward(cost)
        ctx.total, ctx.gamma = total, gamma
        return torch.from_numpy(total[:, -1, -1]).to(cost.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (cost,) = ctx.saved_tensors
        own = torch.from_numpy(loops_backward(cost.numpy(), ctx.total, ctx.gamma))
        return grad[:, None, None] * own.to(cost.dtype), None


def by_product(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances [B, N, M] by matrix product."""
    return x.square().sum(2)[:, :, None] + y.square().sum(2)[:, None] - 2 * (x @ y.mT)


def by_difference(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances [B, N, M], no digit lost."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()


def divergence(soft_dtw: Divergence) -> Divergence:
    """The divergence of a soft-DTW, as SCORE's training computes it."""
    return lambda x, y: soft_dtw(x, y) - 1 / 2 * (soft_dtw(x, x) + soft_dtw(y, y))


def one_by_one(run: Divergence) -> Divergence:
    """Values of a batch, each utterance by itself; gradients are already added up."""

    def each(x: Tensor, y: Tensor) -> Tensor:
        values = []
        for b in range(len(x)):
            value = run(x[b : b + 1], y[b : b + 1])
            value.sum().backward()
            values.append(value.detach())
        return torch.cat(values)

    return each


def module_at(repository: Path, name: str) -> ModuleType:
    """The authors' module from their repository."""
    found = sorted(repository.rglob(name))
    if not found:
        raise SystemExit(f"{repository}: no {name} in it; give a clone of the authors' repository")
    sys.path.insert(0, str(found[0].parent))
    return importlib.import_module(found[0].stem)


def rivals(args: argparse.Namespace) -> list[Rival]:
    """Ours first; the others as they are asked for."""
    gamma, (n, m), repeats = args.gamma, args.frames, args.repeats
    sizes = torch.full((args.batch,), n), torch.full((args.batch,), m)
    ours = {
        backend: lambda x, y, b=backend: soft_dtw_divergence(x, y, *sizes, gamma, b)
        for backend in ("compiled", "torch")
    }
    plain = divergence(lambda x, y: Loops.apply(by_product(x, y), gamma))
    # What autograd keeps of the three alignments, and two temporaries of the largest.
    one = 4.0 * args.dim * (n * m + n * n + m * m + 2 * max(n, m) ** 2)
    found = [
        Rival(OURS, ours["compiled"], repeats),
        Rival("ours, torch operations", ours["torch"], repeats),
        Rival("plain loops, numba", plain, repeats),
    ]
    authors = []
    if args.score_repo:
        module = module_at(args.score_repo, "soft_dtw_cuda.py")
        authors.append(("SCORE", module.SoftDTW(use_cuda=False, gamma=gamma)))
    if args.laser_repo:
        module = module_at(args.laser_repo, "soft_dtw.py")
        authors.append(("LASER", module.SoftDTW(gamma=gamma)))
    for name, soft_dtw in authors:
        run, turns = divergence(soft_dtw), min(args.slow_repeats, repeats)
        found.append(Rival(f"{name}'s, one by one", one_by_one(run), turns, one))
        found.append(Rival(f"{name}'s, whole batch", run, turns, one * args.batch))
    return found


def frames(args: argparse.Namespace) -> list[Tensor]:
    """Two views of the same random utterances, of unit length as SCORE has them, fp32."""
    generator = torch.Generator().manual_seed(args.seed)
    n, m = args.frames
    steps = torch.randn(args.batch, args.dim, max(n, m), generator=generator)
    walk = torch.randn(args.batch, args.dim, 1, generator=generator) + 0.3 * steps.cumsum(2)
    views = []
    for size in (n, m):
        view = torch.nn.functional.interpolate(walk, size=size, mode="linear").mT
        noisy = view + 0.3 * torch.randn(view.shape, generator=generator)
        views.append(torch.nn.functional.normalize(noisy, dim=2).contiguous())
    return views


def step(run: Divergence, views: list[Tensor]) -> tuple[float, Tensor, Tensor]:
    """Seconds of forward and backward, values [B] and all gradients in one vector."""
    x, y = (view.clone().requires_grad_() for view in views)
    began = time.perf_counter()
    value = run(x, y)
    if value.requires_grad:
        value.sum().backward()
    seconds = time.perf_counter() - began
    assert x.grad is not None
    assert y.grad is not None
    return seconds, value.detach(), torch.cat((x.grad.flatten(), y.grad.flatten()))


def status(name: str, file: str = "/proc/self/status") -> float:
    """Bytes that Linux tells of this process, or of the machine."""
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return math.nan
    return next((float(r.split()[1]) * 1024 for r in lines if r.startswith(name)), math.nan)


def measure(rival: Rival, views: list[Tensor], exact: tuple[Tensor, Tensor], turn: int) -> None:
    """One turn; errors and peak memory are those of the last."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    rival.times[turn], value, grad = step(rival.run, views)
    rival.peak = status("VmHWM") - before
    errors = [
        float((found.double() - wanted).norm() / wanted.norm())
        for found, wanted in zip((value, grad), exact, strict=True)
    ]
    rival.errors = errors[0], errors[1]


def row(rival: Rival, ours: Rival) -> str:
    """One line of the Markdown table."""
    if not rival.times:
        return f"| {rival.name} | needs {rival.needs / 1e9:.0f} GB of memory | | | | |"
    times = sorted(rival.times.values())
    ratios = sorted(seconds / ours.times[turn] for turn, seconds in rival.times.items())
    cells = (
        rival.name,
        f"{statistics.median(times):.3f} ({times[0]:.3f} to {times[-1]:.3f})",
        "1" if rival is ours
        else f"**{statistics.median(ratios):.1f}** ({ratios[0]:.1f} to {ratios[-1]:.1f})",
        *(f"{error:.1e}" for error in rival.errors),
        f"{rival.peak / 1e6:,.0f}",
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


HEADER = (
    "| soft-DTW divergence | s (smallest to largest) | times ours (smallest to largest) "
    "| error of value | of gradient | peak, MB |\n|---|---|---|---|---|---|"
)


def main() -> None:
    """Measure everyone, turn by turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--score-repo", type=Path, help="a clone of the authors' repository")
    parser.add_argument("--laser-repo", type=Path, help="a clone of LASER's")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--frames", type=int, nargs=2, default=(600, 650), metavar=("N", "M"))
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--gamma", type=float, default=0.1)
    parser.add_argument("--repeats", type=int, default=7, help="turns after one to warm up")
    parser.add_argument("--slow-repeats", type=int, default=3, help="turns of the authors' code")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    numba.set_num_threads(args.threads)
    print(
        f"torch {torch.__version__}, numba {numba.__version__}, {platform.machine()}, "
        f"{args.threads} threads; batch {args.batch}, {args.frames[0]} x {args.frames[1]} frames, "
        f"{args.dim} dimensions, gamma {args.gamma:g}, fp32, forward + backward\n"
    )
    views = frames(args)
    exact_run = divergence(lambda x, y: Loops.apply(by_difference(x, y), args.gamma))
    _, *exact = step(one_by_one(exact_run), [view.double() for view in views])
    everyone = rivals(args)
    for rival in everyone:  # compile; on few frames where that is slow
        step(rival.run, [view[:, : 8 if rival.needs else None] for view in views])
    for turn in range(args.repeats):
        for rival in everyone:
            fits = not rival.needs > 0.8 * status("MemAvailable", "/proc/meminfo")
            if turn < rival.turns and fits:
                measure(rival, views, (exact[0], exact[1]), turn)
    print(HEADER)
    for rival in everyone:
        print(row(rival, everyone[0]))


if __name__ == "__main__":
    main()
