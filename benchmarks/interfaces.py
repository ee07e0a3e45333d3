"""Speed and memory of weighted_sum and hconv beside the code people use today.

    python benchmarks/interfaces.py                   # all cases, about 25 minutes on two cores
    python benchmarks/interfaces.py --quick           # smaller batches, fewer repeats: a look

Rivals, on the same hidden states in the same process: `ssl-interface` 0.1.0, the package of the authors
of HConv (pip install ssl-interface==0.1.0), and s3prl's `Featurizer`. An upstream gives a list of
layers, [T, B, D] memory seen as [B, T, D], and both rivals need it stacked; so the stack is part of
their time. Each pair is timed in turn, ours first, then theirs, forward and backward; a ratio is theirs
over ours, pair by pair, and its median, smallest and largest are printed.

Two kinds of batches: `equal` has utterances of one length, so that only the arithmetic counts; `mini`
has the lengths of 16 utterances drawn at random from the embedded corpus (a new draw for each repeat),
as a shuffled training batch has: ours never computes the padding. Memory is counted in live tensor
bytes, not in the process' size, so it is the same in every run: what is kept for the backward pass
beyond the states, parameters and the output, and the peak; both as multiples of the hidden states' bytes.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench import registry
from ssft_bench.conformance.memory import measure as memory_of
from ssft_bench.hidden_states import HiddenStates, UpstreamSpec
from ssft_bench.interface import Interface

SHAPES = {"13x768": (13, 768), "25x1024": (25, 1024)}
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FRAMES_PER_SECOND = 50

Features = Callable[[HiddenStates], Tensor]


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    interface: str
    rival: str
    shape: str
    dtype: str
    tuned: bool
    batch: str


@dataclass
class Line:
    """What was measured for a case."""

    case: Case
    ours: list[float]
    theirs: list[float]
    our_memory: tuple[float, float]
    their_memory: tuple[float, float]
    """Kept for the backward pass, peak: multiples of the hidden states' bytes."""

    @property
    def ratios(self) -> list[float]:
        """Their time over ours, pair by pair."""
        return [b / a for a, b in zip(self.ours, self.theirs, strict=True)]


def authors_package(interface: str, layers: int, dim: int, output_dim: int) -> nn.Module:
    """The authors' module; it wants to be told the width of its own output."""
    from SSL_Interface import configs, interfaces

    sizes = {"upstream_layer_num": layers, "upstream_feat_dim": dim}
    if interface == "weighted_sum":
        return interfaces.WeightSumInterface(configs.WeightedSumInterfaceConfig(**sizes))
    config = configs.HierarchicalConvInterfaceConfig(**sizes, output_dim=output_dim)
    return interfaces.HierarchicalConvInterface(config)


def s3prl_featurizer(layers: int, dim: int) -> nn.Module:
    """s3prl.nn's Featurizer, for an upstream of that shape."""
    from s3prl.nn.upstream import Featurizer

    shape = SimpleNamespace(
        hidden_sizes=[dim] * layers, downsample_rates=[320] * layers, num_layers=layers
    )
    return Featurizer(shape)


def pair(case: Case) -> tuple[Interface, nn.Module, Features, Features]:
    """Ours and theirs with the same parameters, and how each is called."""
    layers, dim = SHAPES[case.shape]
    spec = UpstreamSpec("random", (dim,) * layers, (320,) * layers)
    ours: Interface = registry.load("interfaces", case.interface)(spec)
    nn.init.normal_(next(ours.parameters()), std=0.02)
    if case.rival == "s3prl":
        theirs = s3prl_featurizer(layers, dim)
        run = lambda hidden: theirs(hidden.states, hidden.layer_lengths)[0]  # noqa: E731
    else:
        theirs = authors_package(case.interface, layers, dim, ours.output_dim)
        run = lambda hidden: theirs(torch.stack(hidden.states))  # noqa: E731
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            # Conv1d keeps [out, in, kernel], hconv [kernel, in, out].
            other.copy_(mine.permute(2, 1, 0) if mine.dim() == 3 else mine)
    theirs.to(TYPES[case.dtype])
    return ours, theirs, lambda hidden: ours(hidden)[0], run


def batches(case: Case, utterances: int, seconds: float, repeats: int) -> Iterator[HiddenStates]:
    """Hidden states of one shape for each repeat; the memory of the first serves all."""
    layers, dim = SHAPES[case.shape]
    frames = round(seconds * FRAMES_PER_SECOND)
    generator = torch.Generator().manual_seed(0)
    memory = torch.randn(layers, frames, utterances, dim, generator=generator)
    states = [state.to(TYPES[case.dtype]).transpose(0, 1) for state in memory]
    del memory
    drawn = random.Random(0)
    for _ in range(repeats):
        lengths = [frames] * utterances
        if case.batch == "mini":
            own = drawn.sample(mini_seconds(), utterances)
            lengths = [round(frames * s / max(own)) for s in own]
        for state in states:
            state.requires_grad_(case.tuned).grad = None
        yield HiddenStates(states, torch.tensor(lengths))


@cache
def mini_seconds() -> list[float]:
    """Lengths of the embedded corpus' training utterances."""
    corpus = registry.load("corpora", "mini")()
    return [u.end - u.start if u.end is not None else _seconds(u.audio)
            for u in corpus.utterances("train")]  # fmt: skip


def _seconds(path: Path) -> float:
    import soundfile

    return float(soundfile.info(str(path)).duration)


def step(run: Features, hidden: HiddenStates) -> float:
    """Seconds of one forward and backward pass."""
    began = time.perf_counter()
    features = run(hidden)
    features.backward(torch.ones_like(features))
    return time.perf_counter() - began


def measure(case: Case, utterances: int, seconds: float, repeats: int) -> Line:
    """Time and memory of both; the first pair warms up and is checked for equal features."""
    ours, theirs, run_ours, run_theirs = pair(case)
    our_times, their_times = [], []
    for turn, hidden in enumerate(batches(case, utterances, seconds, repeats + 1)):
        if turn == 0:
            check_equal(run_ours(hidden), run_theirs(hidden), hidden)
        for run, times, module in ((run_ours, our_times, ours), (run_theirs, their_times, theirs)):
            forget(module, hidden)
            times.append(step(run, hidden))
    memory = []
    for run, module in ((run_ours, ours), (run_theirs, theirs)):
        forget(module, hidden)
        memory.append(memory_of(run, hidden))
    return Line(case, our_times[1:], their_times[1:], *memory)


def forget(module: nn.Module, hidden: HiddenStates) -> None:
    """Drop the gradients of parameters and states."""
    module.zero_grad(set_to_none=True)
    for state in hidden.states:
        state.grad = None


def check_equal(one: Tensor, other: Tensor, hidden: HiddenStates) -> None:
    """Raise unless both give the same features; a fast wrong answer is none."""
    real = hidden.valid()
    difference = (one[real].float() - other[real].float()).abs().max()
    bound = (0.02 if one.dtype == torch.bfloat16 else 1e-5) * float(other.abs().max())
    if difference > bound:
        raise SystemExit(f"features differ by {difference:.2g} (bound {bound:.2g})")


def cases(interfaces: list[str], shapes: list[str], types: list[str]) -> list[Case]:
    """Every case that is asked for."""
    rivals = {"weighted_sum": ("ssl-interface", "s3prl"), "hconv": ("ssl-interface",)}
    return [
        Case(interface, rival, shape, dtype, tuned, batch)
        for interface in interfaces
        for rival in rivals[interface]
        for shape, dtype, tuned, batch in product(shapes, types, (False, True), ("equal", "mini"))
    ]


def row(line: Line) -> str:
    """One line of the Markdown table."""
    case, ratios = line.case, sorted(line.ratios)
    ours, theirs = statistics.median(line.ours), statistics.median(line.theirs)
    cells = (
        case.interface, case.rival, case.shape.replace("x", " x "), case.dtype,
        "fine-tuned" if case.tuned else "frozen", case.batch, f"{ours * 1e3:,.1f}",
        f"{theirs * 1e3:,.1f}",
        f"**{statistics.median(ratios):.2f}** ({ratios[0]:.2f} to {ratios[-1]:.2f})",
        *(f"{a:.2f} / {b:.2f}" for a, b in zip(line.our_memory, line.their_memory, strict=True)),
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


HEADER = (
    "| interface | rival | L x D | type | upstream | batch | ours, ms | theirs, ms | "
    "times faster (smallest to largest) | kept for backward, ours / theirs | peak, ours / theirs |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Measure what is asked for and print it line by line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--interfaces", default="weighted_sum,hconv")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--types", default=",".join(TYPES))
    parser.add_argument("--utterances", type=int, default=16, help="in a batch")
    parser.add_argument("--seconds", type=float, default=8.0, help="of the longest utterance")
    parser.add_argument("--repeats", type=int, default=5, help="counted pairs after one warm-up")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="4 utterances of 4 s, 3 repeats")
    parser.add_argument("--json", type=Path, help="also write every time and multiple there")
    args = parser.parse_args()
    if args.quick:
        args.utterances, args.seconds, args.repeats = 4, 4.0, 3
    logging.disable(logging.INFO)
    torch.set_num_threads(args.threads)
    print(
        f"torch {torch.__version__}, {platform.machine()}, {args.threads} threads, "
        f"{args.utterances} utterances of at most {args.seconds:g} s, {args.repeats} pairs\n\n{HEADER}"
    )
    found: list[dict[str, Any]] = []
    chosen = cases(args.interfaces.split(","), args.shapes.split(","), args.types.split(","))
    for number, case in enumerate(chosen, 1):
        print(f"{number}/{len(chosen)} {case}", file=sys.stderr)
        line = measure(case, args.utterances, args.seconds, args.repeats)
        print(row(line), flush=True)
        found.append(vars(line) | {"case": vars(case)})
    if args.json:
        args.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
