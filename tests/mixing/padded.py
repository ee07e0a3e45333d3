"""Padded batches with garbage in the padding, and the comparison with a plain reference."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from ssft_bench.hidden_states import HiddenStates, UpstreamSpec
from ssft_bench.interface import Interface
from tests.states import SEEDS, randomize, spec

Parameters = dict[str, Tensor]
Reference = Callable[[Parameters, list[Tensor]], Tensor]
"""Features [T', D'] of one utterance alone, from named parameters and its layers, each [T_l, D_l]."""

SHAPES = [(2, 6), (7, 12), (13, 24)]
LENGTHS = (4, 9, 1, 6)
DRAWS = 5
"""Seed of what an interface draws inside `against`."""
FRAMES = 11
"""More than the longest utterance has, so that some frames are padding in every row."""

shapes = pytest.mark.parametrize(("layers", "dim"), SHAPES)
seeds = pytest.mark.parametrize("seed", SEEDS)
precisions = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=["fp64", "fp32"]
)
block_sizes = pytest.mark.parametrize("block", [3, 512])
"""3 splits utterances, 512 holds the whole batch."""
runs = pytest.mark.parametrize(("seed", "block"), [*zip(SEEDS, (3, 512, 4), strict=True)])


def padded(
    like: UpstreamSpec,
    seed: int,
    dtype: torch.dtype = torch.float64,
    lengths: Sequence[Sequence[int]] = (LENGTHS,),
    garbage: float = 1e3,
) -> HiddenStates:
    """Random states in [T, B, D] memory seen as [B, T, D]; one row of `lengths` is for all layers."""
    torch.manual_seed(seed)
    states, by_row = [], {tuple(own): torch.tensor(own) for own in lengths}
    each = [tuple(own) for own in lengths] * (like.num_layers if len(lengths) == 1 else 1)
    for dim, own in zip(like.dims, each, strict=True):
        frames = FRAMES if len(lengths) == 1 else max(own) + 2
        state = torch.randn(frames, len(own), dim, dtype=dtype).transpose(0, 1)
        for row, length in enumerate(own):
            state[row, length:] = garbage
        states.append(state)
    return HiddenStates(states, [by_row[own] for own in each])


def built(
    cls: Callable[..., Interface], like: UpstreamSpec, dtype: torch.dtype, **options: Any
) -> Interface:
    """With random parameters, for evaluation."""
    return randomize(cls(like, **options).to(dtype)).eval()


@contextlib.contextmanager
def blocks_of(frames: int) -> Iterator[None]:
    """Blocks of so many frames in all kernels."""
    with contextlib.ExitStack() as stack:
        for kernel in ("weighted_sum", "layer_conv", "framewise"):
            # A string would find the function `weighted_sum`, not its module.
            module = __import__(f"ssft_bench.mixing.{kernel}", fromlist=["CPU_FRAMES"])
            stack.enter_context(patch.dict(module.__dict__, CPU_FRAMES=frames))
        yield


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Two threads wait for each other at every small product: 100 times slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def relative(got: Tensor, wanted: Tensor) -> float:
    """Largest absolute difference, divided by the largest value there should be.

    That counts as 0.1 at least: gradients that are zero on paper, as those of a bias before a softmax,
    are rounding errors on both sides.
    """
    assert got.shape == wanted.shape
    if not wanted.numel():
        return 0.0
    largest = float(wanted.detach().abs().max())
    return float((got.double() - wanted).detach().abs().max()) / max(largest, 0.1)


@one_thread()
def against(
    interface: Interface, reference: Reference, hidden: HiddenStates, block: int = 512
) -> dict[str, float]:
    """Relative differences of the features and of the gradients to each parameter and state.

    The reference gets real frames only, one utterance at a time, and computes in fp64. Features and
    gradients of padded frames must be exactly zero.
    """
    states = [s.detach().clone().requires_grad_() for s in hidden.states]
    mine = HiddenStates(states, hidden.layer_lengths, hidden.layers)
    names = [name for name, _ in interface.named_parameters()]
    torch.manual_seed(DRAWS)
    with blocks_of(block):
        got, counts = interface(mine)
        direction = torch.randn_like(got)
        leaves = [*interface.parameters(), *states]
        found = torch.autograd.grad(got, leaves, direction, allow_unused=True)
    plain = {n: p.detach().double().requires_grad_() for n, p in interface.named_parameters()}
    fixed = {n: b.double() for n, b in interface.named_buffers()}
    wanted = torch.zeros_like(got, dtype=torch.float64)
    copies = [s.detach().double().requires_grad_() for s in states]
    for row, count in enumerate(counts.tolist()):
        pairs = zip(copies, hidden.layer_lengths, strict=True)
        alone = reference(plain | fixed, [s[row, : int(own[row])] for s, own in pairs])
        wanted[row, :count] = alone
        assert not got[row, count:].any()
    right = torch.autograd.grad(
        wanted, [*plain.values(), *copies], direction.double(), allow_unused=True
    )
    titles = [*names, *(f"state {layer}" for layer in range(len(states)))]
    errors = {"features": relative(got, wanted)}
    for title, one, other in zip(titles, found, right, strict=True):
        assert (one is None) == (other is None), title
        if one is not None:
            errors[title] = relative(one, other)
    for state, grad, own in zip(states, found[len(names) :], hidden.layer_lengths, strict=True):
        assert grad is not None
        frames = torch.arange(state.shape[1])
        assert not grad[frames >= own.unsqueeze(1)].any()
    return errors


def check(
    cls: Callable[..., Interface],
    reference: Reference,
    shape: tuple[int, int],
    seed: int,
    dtype: torch.dtype = torch.float64,
    block: int = 512,
    **options: Any,
) -> dict[str, float]:
    """`against` for layers of one width."""
    like = spec(*shape)
    hidden = padded(like, seed, dtype)
    return against(built(cls, like, dtype, **options), reference, hidden, block)
