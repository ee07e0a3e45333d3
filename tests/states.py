"""Random hidden states for the interface tests."""

from __future__ import annotations

import torch
from torch import Tensor

from ssft_bench.hidden_states import HiddenStates, UpstreamSpec
from ssft_bench.interface import Interface

SEEDS = (11, 12, 13)


def spec(layers: int, dim: int) -> UpstreamSpec:
    return UpstreamSpec("random", (dim,) * layers, (320,) * layers)


def random_states(
    layers: int, dim: int, seed: int, dtype: torch.dtype = torch.float64
) -> HiddenStates:
    """[T, B, D] memory seen as [B, T, D], for a random B and T; every frame is valid."""
    torch.manual_seed(seed)
    batch, frames = int(torch.randint(1, 4, ())), int(torch.randint(1, 9, ()))
    states = [torch.randn(frames, batch, dim, dtype=dtype) for _ in range(layers)]
    return HiddenStates([s.transpose(0, 1) for s in states], torch.full((batch,), frames))


def require_grad(hidden: HiddenStates) -> HiddenStates:
    """The same values in leaves of the same memory layout that take gradients."""
    leaves = [s.detach().clone(memory_format=torch.preserve_format) for s in hidden.states]
    return HiddenStates([s.requires_grad_() for s in leaves], hidden.lengths, hidden.layers)


def randomize(interface: Interface) -> Interface:
    """Random parameters: what starts at zero would hide mistakes."""
    with torch.no_grad():
        for parameter in interface.parameters():
            scale = 1.0 if parameter.dim() < 2 else parameter[0].numel() ** -0.5
            parameter.copy_(torch.randn_like(parameter) * scale)
    return interface


def gradients(hidden: HiddenStates) -> list[Tensor]:
    found = [s.grad for s in hidden.states]
    assert all(g is not None for g in found)
    return [g for g in found if g is not None]


def distance(one: Tensor, other: Tensor) -> float:
    """Largest absolute difference."""
    assert one.shape == other.shape
    return float((one - other).detach().abs().max())
