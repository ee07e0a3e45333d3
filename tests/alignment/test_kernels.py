"""What the kernels promise beyond the mathematics: precision, memory, threads, forks, caches."""

from __future__ import annotations

import importlib.util
import multiprocessing
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ssft_bench.alignment import soft_dtw, soft_dtw_compiled, soft_dtw_divergence
from tests.alignment.batches import apart, backends, grad, lengths, sides, unit_frames
from tests.alignment.references import divergence, loops

compiled_loops = numba.njit(loops)
Loss = Callable[[Tensor, Tensor], Tensor]


def frames(rng: np.random.Generator, *sizes: int, dim: int = 16) -> list[Tensor]:
    """float32 [1, n, dim] for each size, with gradient."""
    return [
        torch.from_numpy(unit_frames(rng, n, dim)).float()[None].requires_grad_() for n in sizes
    ]


def all_of(side: Tensor) -> Tensor:
    """Lengths of a batch without padding."""
    return torch.full((len(side),), side.shape[1])


@pytest.mark.parametrize("gamma", [0.1, 0.01])
def test_long_input_in_fp32(rng: np.random.Generator, gamma: float) -> None:
    """1,500 x 1,300 frames with an accumulated cost in the hundreds, beside a loop in float64."""
    cost = torch.from_numpy(rng.uniform(0, 4, (1, 1500, 1300))).float().requires_grad_()
    value = soft_dtw(cost, torch.tensor([1500]), torch.tensor([1300]), gamma)
    value.sum().backward()
    plain = cost.detach()[0].numpy()
    wanted, wanted_grad = compiled_loops(plain.astype(np.float64), gamma)
    assert wanted > 500
    assert value.item() == pytest.approx(wanted, rel=1e-7)
    assert apart(grad(cost)[0], wanted_grad) < 1e-5
    # Negative control: the same loop, accumulating in float32, misses the bound.
    assert apart(compiled_loops(plain, gamma)[1], wanted_grad) > 1e-4


@pytest.mark.parametrize("gamma", [0.1, 0.01])
def test_long_divergence_in_fp32(rng: np.random.Generator, gamma: float) -> None:
    """As SCORE uses it, on frames that are rounded to fp32 before: 1e-4 of value and gradients."""
    x, y = frames(rng, 700, 600)
    soft_dtw_divergence(x, y, all_of(x), all_of(y), gamma).sum().backward()
    value = soft_dtw_divergence(x, y, all_of(x), all_of(y), gamma)
    exact = [side.detach().double().requires_grad_() for side in (x, y)]
    cost = [(a[0][:, None] - b[0][None]).square().sum(2)
            for a, b in ((exact[0], exact[1]), (exact[0], exact[0]), (exact[1], exact[1]))]  # fmt: skip
    solved = [compiled_loops(c.detach().numpy(), gamma) for c in cost]
    wanted = solved[0][0] - (solved[1][0] + solved[2][0]) / 2
    shares = [torch.from_numpy(s[1]) * w for s, w in zip(solved, (1, -0.5, -0.5), strict=True)]
    torch.autograd.backward(cost, shares)
    assert value.item() == pytest.approx(wanted, rel=1e-4)
    assert apart(grad(x), grad(exact[0])) < 1e-4
    assert apart(grad(y), grad(exact[1])) < 1e-4


def test_backends_agree(rng: np.random.Generator) -> None:
    """Lengths around the size of a tile, several threads."""
    torch.set_num_threads(3)
    sizes = [(15, 33), (16, 16), (17, 2), (48, 31), (1, 40)]
    left, right = ([unit_frames(rng, size[side]) for size in sizes] for side in (0, 1))
    results = []
    for backend in ("compiled", "torch"):
        x, y = sides(left), sides(right)
        value = soft_dtw_divergence(x, y, lengths(left), lengths(right), 0.1, backend)  # type: ignore[arg-type]
        value.sum().backward()
        results.append((value.detach().numpy(), grad(x), grad(y)))
    for one, other in zip(*results, strict=True):
        assert np.abs(one - other).max() < 1e-11


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor that any operation returns."""

    numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, Tensor):
                self.numel = max(self.numel, tensor.untyped_storage().nbytes() // 4)
        return out


def largest(loss: Loss, x: Tensor, y: Tensor) -> tuple[int, int]:
    """Numbers in the largest tensor, and bytes that numpy held at most, in a step of `loss`."""
    tracemalloc.start()
    with Largest() as seen:
        loss(x, y).sum().backward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return seen.numel, peak


@backends
def test_memory_does_not_grow_with_the_width(rng: np.random.Generator, backend: Any) -> None:
    """The largest tensor is a few cost matrices for 4 and for 64 dimensions; broadcasting's is not."""
    ours: Loss = lambda x, y: soft_dtw_divergence(x, y, all_of(x), all_of(y), 0.1, backend)  # noqa: E731
    broadcast: Loss = lambda x, y: soft_dtw(  # noqa: E731
        (x[:, :, None] - y[:, None]).square().sum(3), all_of(x), all_of(y), 0.1, backend
    )
    cells = 150 * 150
    with Largest():
        ours(*frames(rng, 3, 3))  # what is imported and compiled once is so now
    found = {dim: largest(ours, *frames(rng, 140, 150, dim=dim)) for dim in (4, 64)}
    assert found[4][0] == found[64][0]
    assert found[4][0] <= (1 if backend == "compiled" else 3 * 2 * 3) * cells
    assert found[64][1] <= 2 * 4 * cells + 100_000
    assert largest(broadcast, *frames(rng, 140, 150, dim=64))[0] > 20 * cells


def test_threads_are_as_many_as_torch_has(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """set_num_threads rules; never more threads than alignments, none at all for one."""
    asked = []

    def pool(threads: int, **options: Any) -> ThreadPoolExecutor:
        asked.append(threads)
        return ThreadPoolExecutor(threads, **options)

    monkeypatch.setattr(soft_dtw_compiled, "ThreadPoolExecutor", pool)
    x, y = frames(rng, 9, 8)
    for threads in (1, 2, 7):
        torch.set_num_threads(threads)
        soft_dtw_divergence(x, y, all_of(x), all_of(y))
    assert asked == [2, 3]


def _in_child(pair: tuple[Tensor, Tensor]) -> tuple[float, float]:
    torch.set_num_threads(1)  # as data workers do: torch's own matrix products hang with more
    x, y = pair
    divergence = soft_dtw_divergence(x, y, all_of(x), all_of(y), 0.1)
    cost = (x.mT @ x).expand(3, -1, -1).contiguous()
    torch.set_num_threads(2)  # ours do not
    return float(divergence), float(soft_dtw(cost, all_of(cost), all_of(cost), 0.1).sum())


def test_forked_processes_can_call_it(rng: np.random.Generator) -> None:
    """Data workers are forked after the parent has used its threads."""
    work = [tuple(s.detach() for s in frames(rng, *sizes)) for sizes in ((30, 25), (22, 31))]
    wanted = [_in_child(pair) for pair in work]  # type: ignore[arg-type]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map_async(_in_child, work).get(timeout=30)
    assert found == wanted


def test_a_read_only_installation_compiles_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where numba can write neither beside the source nor in the user's cache, it only forgets."""
    (tmp_path / "__pycache__").write_text("a file where a folder should be")
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/none")
    monkeypatch.setenv("HOME", "/dev/null/none")
    source = tmp_path / "readonly.py"
    source.write_text("def plus_one(x):\n    return x + 1\n")
    found = importlib.util.spec_from_file_location("readonly", source)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    with pytest.raises(RuntimeError, match="cache"):
        numba.njit(cache=True)(module.plus_one)
    assert soft_dtw_compiled.entry(module.plus_one)(1) == 2


def test_kernels_are_kept_on_disk() -> None:
    """The second process does not compile again."""
    assert soft_dtw_compiled._align.stats.cache_path  # type: ignore[attr-defined]


def test_the_reference_is_right_about_a_case_by_hand() -> None:
    """Two frames against one: both paths' cells, so gradient and value are known."""
    value, grad_x, grad_y = divergence(np.array([[0.0], [1.0]]), np.array([[0.0]]), 1e-3)
    # sdtw(x, y) = 0 + 1; sdtw(x, x) = 0 and sdtw(y, y) = 0 (paths through the diagonal).
    assert value == pytest.approx(1.0, abs=1e-9)
    assert grad_x[:, 0] == pytest.approx([0.0, 2.0], abs=1e-9)
    assert grad_y[:, 0] == pytest.approx([-2.0], abs=1e-9)
