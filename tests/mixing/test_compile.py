"""Interfaces inside a compiled model: traced around, the same numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ssft_bench import registry
from ssft_bench.hidden_states import HiddenStates
from ssft_bench.interface import Interface
from tests.mixing.padded import built, padded
from tests.states import spec

NAMES = [p.name for p in registry.plugins("interfaces") if p.origin == "built-in"]


class Model(nn.Module):
    """Something to compile before and after the interface."""

    def __init__(self, interface: Interface) -> None:
        super().__init__()
        self.interface = interface
        self.head = nn.Linear(interface.output_dim, 3, dtype=torch.float64)

    def forward(self, hidden: HiddenStates) -> Tensor:
        doubled = HiddenStates([2 * s for s in hidden.states], hidden.lengths)
        features, lengths = self.interface(doubled.select(self.interface.layers_used()))
        logits: Tensor = self.head(features.tanh()) * lengths.view(-1, 1, 1)
        return logits


def results(model: nn.Module, call: nn.Module, hidden: HiddenStates) -> list[Tensor]:
    torch.manual_seed(1)
    model.zero_grad()
    out = call(hidden)
    out = out if isinstance(out, Tensor) else out[0]
    if out.requires_grad:
        out.square().sum().backward()
    return [out.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


def compare(model: nn.Module, hidden: HiddenStates) -> None:
    plain = results(model, model, hidden)
    compiled = results(model, torch.compile(model, backend="eager"), hidden)
    assert len(plain) == len(compiled) > 0
    for one, other in zip(plain, compiled, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_training_of_a_compiled_model(name: str) -> None:
    torch.compiler.reset()
    interface = built(registry.load("interfaces", name), spec(7, 12), torch.float64)
    compare(Model(interface).train(), padded(spec(7, 12), 1))


@pytest.mark.parametrize("name", ["weighted_sum", "hconv", "gated"])
def test_a_compiled_interface(name: str) -> None:
    """One for each kernel."""
    torch.compiler.reset()
    interface = built(registry.load("interfaces", name), spec(7, 12), torch.float64)
    compare(interface, padded(spec(7, 12), 1))
