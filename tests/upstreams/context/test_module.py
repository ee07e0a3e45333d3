"""The context module: its formula, its parameters, its padding."""

from __future__ import annotations

import math
import secrets

import numpy as np
import pytest
import torch

from ssft_bench.upstreams.context.module import ContextInput, ContextModule, module_parameters

SEEDS = [1, secrets.randbelow(2**31)]


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("dim", "context_dim", "outputs", "wanted"),
    [(768, 256, 51, 210_689), (1024, 128, 32, 136_321)],
)
def test_parameters(dim: int, context_dim: int, outputs: int, wanted: int) -> None:
    """D + 1 + d_c (D + 1), and d_c V in a linear head; counted, by formula, and as a number."""
    module = ContextModule(dim, context_dim)
    joined = ContextInput(dim, context_dim)
    head = torch.nn.Linear(joined.output_dim, outputs)
    plain = torch.nn.Linear(dim, outputs)
    assert joined.output_dim == dim + context_dim
    assert count(module) + count(joined) + count(head) - count(plain) == wanted
    assert module_parameters(dim, context_dim, "attn", outputs) == wanted
    assert module_parameters(dim, context_dim, "mean") == count(
        ContextModule(dim, context_dim, "mean")
    )
    assert count(ContextModule(dim, context_dim, "mean")) == count(module) - dim - 1


@pytest.mark.parametrize("pool", ["attn", "mean"])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_vector_is_the_plain_one(seed: int, pool: str) -> None:
    """Softmax, sum and projection number by number."""
    rng = np.random.default_rng(seed)
    dim, width, lengths = 5, 3, [4, 1, 6]
    torch.manual_seed(seed)
    module = ContextModule(dim, width, pool).double()  # type: ignore[arg-type]
    states = rng.standard_normal((3, 6, dim))
    got = module(torch.from_numpy(states), torch.tensor(lengths)).detach().numpy()
    weight, bias = (p.detach().numpy() for p in module.output.parameters())
    for b, frames in enumerate(lengths):
        scores = [0.0] * frames
        if module.score is not None:
            w, start = module.score.weight[0].tolist(), module.score.bias.item()
            scores = [sum(a * x for a, x in zip(w, states[b, t], strict=True)) + start
                      for t in range(frames)]  # fmt: skip
        total = sum(math.exp(s) for s in scores)
        pooled = [
            sum(math.exp(scores[t]) / total * states[b, t, d] for t in range(frames))
            for d in range(dim)
        ]
        wanted = [sum(weight[k, d] * pooled[d] for d in range(dim)) + bias[k] for k in range(width)]
        assert got[b] == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    whole = module(torch.from_numpy(states), torch.tensor([6, 6, 6])).detach().numpy()
    assert whole[0] != pytest.approx(got[0], rel=1e-3)  # the control: padding would have shown


@pytest.mark.parametrize("pool", ["attn", "mean"])
@pytest.mark.parametrize("seed", SEEDS)
def test_padding_changes_nothing(seed: int, pool: str) -> None:
    torch.manual_seed(seed)
    module = ContextModule(16, 8, pool)  # type: ignore[arg-type]
    alone = torch.randn(1, 7, 16)
    padded = torch.full((2, 12, 16), torch.nan)
    padded[0, :7] = alone[0]
    padded[1] = torch.randn(12, 16)
    vector = module(alone, torch.tensor([7]))[0]
    beside = module(padded, torch.tensor([7, 12]))[0]
    assert torch.allclose(vector, beside, atol=1e-6)
    beside.sum().backward()
    assert all(p.grad.isfinite().all() for p in module.parameters())
    padded[0, 7:] = 5.0
    counted = module(padded, torch.tensor([12, 12]))[0]
    assert not torch.allclose(vector, counted, atol=1e-3)  # the control


def test_the_head_sees_the_context_in_every_frame() -> None:
    states, own = torch.randn(2, 4, 6), torch.randn(2, 3)
    got = ContextInput(6, 3)(states, own)
    assert got.shape == (2, 4, 9)
    assert torch.equal(got[..., :6], states)
    assert all(torch.equal(got[b, t, 6:], own[b]) for b in range(2) for t in range(4))


def test_projected_context_keeps_the_width() -> None:
    states, own = torch.randn(2, 4, 6), torch.randn(2, 3)
    joined = ContextInput(6, 3, "projected")
    assert joined.output_dim == 6
    assert joined.project is not None
    for b in range(2):
        added = [float(row @ own[b]) for row in joined.project.weight.detach()]
        for t in range(4):
            assert (joined(states, own)[b, t] - states[b, t]).tolist() == pytest.approx(
                added, abs=1e-5
            )


@pytest.mark.parametrize("concat", ["head_input", "projected"])
def test_neighbours_that_are_missing_are_one_learned_vector(concat: str) -> None:
    states, own, other = torch.randn(2, 4, 6), torch.randn(2, 3), torch.randn(3)
    joined = ContextInput(6, 3, concat, neighbours=2)  # type: ignore[arg-type]
    assert joined.missing is not None
    assert not joined.missing.any()
    around = [[other, None], [None, None]]
    if concat == "head_input":
        got = joined(states, own, around)
        assert joined.output_dim == got.shape[-1] == 6 + 3 * 3
        assert torch.equal(got[0, 0, 6:], torch.cat([own[0], other, torch.zeros(3)]))
        with torch.no_grad():
            joined.missing += 1
        assert torch.equal(joined(states, own, around)[0, 0, 12:], torch.ones(3))
    joined(states, own, around).square().sum().backward()
    assert joined.missing.grad is not None
    assert joined.missing.grad.abs().sum() > 0
