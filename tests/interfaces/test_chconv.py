"""chconv against concatenation, a linear layer and conv1d."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interfaces.chconv import CHConv
from ssft_bench.interfaces.hconv import HConv
from tests.mixing.padded import (
    LENGTHS,
    Parameters,
    Reference,
    against,
    built,
    padded,
    precisions,
    runs,
    shapes,
)
from tests.mixing.references import convolved, resampled, stretched
from tests.states import distance, spec

COARSE = tuple(-(-n // 2) for n in LENGTHS)
CASES = {
    "alike": (UpstreamSpec("a+b", (12,) * 12, (320,) * 12, (7, 5)), [LENGTHS]),
    "widths": (UpstreamSpec("a+b", (6,) * 5 + (12,) * 7, (320,) * 12, (5, 7)), [LENGTHS]),
    "strides": (
        UpstreamSpec("a+b", (12,) * 7 + (6,) * 5, (640,) * 7 + (320,) * 5, (7, 5)),
        [COARSE] * 7 + [LENGTHS] * 5,
    ),
    "three": (
        UpstreamSpec("a+b+c", (4,) * 2 + (8,) * 13 + (6,), (320,) * 2 + (640,) * 13 + (160,), (2, 13, 1)),
        [LENGTHS] * 2 + [COARSE] * 13 + [tuple(2 * n for n in LENGTHS)],
    ),
    "ones": (UpstreamSpec("a+b", (6, 8), (320, 320), (1, 1)), [LENGTHS]),
}  # fmt: skip
"""Upstreams side by side, and lengths in frames: for all layers, or for each."""
cases = pytest.mark.parametrize("case", CASES)


def joint(like: UpstreamSpec, **wrong: Any) -> Reference:
    """`wrong` makes one mistake: order of the parts, corners, or a projection of one depth more."""

    def plain(p: Parameters, states: list[Tensor]) -> Tensor:
        finest = min(like.strides)
        frames = max(
            len(s) for s, stride in zip(states, like.strides, strict=True) if stride == finest
        )
        even = [
            resampled(s, stride / finest, frames)
            for s, stride in zip(states, like.strides, strict=True)
        ]
        groups, start = [], 0
        for layers in like.parts:
            planes = torch.stack(even[start : start + layers], -1)
            corners = wrong.get("corners", True)
            start, depth = start + layers, max(like.parts)
            mode = {"mode": "linear", "align_corners": corners}
            groups.append(
                stretched(list(planes.unbind(-1)), depth)
                if corners
                else functional.interpolate(planes, size=depth, **mode)
            )
        both = torch.cat(groups[::-1] if wrong.get("swap") else groups, 1)
        weight, bias = p["projection.weight"][0].T, p["projection.bias"] * wrong.get("bias", 1)
        fused = functional.linear(both.mT, weight, bias).mT
        return convolved(p, fused.flip(-1) if wrong.get("flip") else fused)

    return plain


@cases
@runs
@precisions
def test_joint_upstreams(
    case: str, dtype: torch.dtype, tolerance: float, seed: int, block: int
) -> None:
    like, lengths = CASES[case]
    hidden = padded(like, seed, dtype, lengths)
    errors = against(built(CHConv, like, dtype), joint(like), hidden, block)
    assert max(errors.values()) < tolerance


@cases
def test_the_comparison_would_notice(case: str) -> None:
    like, lengths = CASES[case]
    hidden = padded(like, 1, lengths=lengths)
    interface = built(CHConv, like, torch.float64)
    mistakes: list[dict[str, Any]] = [{"bias": 0}]
    mistakes += [{"flip": True}, {"corners": False}] if case != "ones" else []
    mistakes += [{"swap": True}] if case == "alike" else []
    for mistake in mistakes:
        assert against(interface, joint(like, **mistake), hidden)["features"] > 1e-3, mistake


@shapes
def test_one_upstream_is_hconv(layers: int, dim: int) -> None:
    hidden = padded(spec(layers, dim), 2)
    one, other = (built(cls, spec(layers, dim), torch.float64) for cls in (CHConv, HConv))
    assert distance(one(hidden)[0], other(hidden)[0]) > 0.01
    one.load_state_dict(other.state_dict())
    assert torch.equal(one(hidden)[0], other(hidden)[0])
    assert one.layer_usage() == pytest.approx(other.layer_usage())
    same = UpstreamSpec("random", (dim,) * layers, (320,) * layers, parts=(layers,))
    named = built(CHConv, same, torch.float64)
    named.load_state_dict(other.state_dict())
    assert torch.equal(named(hidden)[0], other(hidden)[0])


@cases
def test_declared_parameters_and_usage(case: str) -> None:
    like, _ = CASES[case]
    interface = built(CHConv, like, torch.float32)
    assert CHConv.expected_parameters(like) == sum(p.numel() for p in interface.parameters())
    usage = interface.layer_usage()
    assert len(usage) == like.num_layers
    assert min(usage) > 0
    assert sum(usage) == pytest.approx(1)


def test_an_upstream_of_several_widths() -> None:
    uneven = UpstreamSpec("a+b", (4, 6, 8, 8), (320,) * 4, (2, 2))
    with pytest.raises(ValueError, match=r"an upstream of a\+b has layers of several widths"):
        CHConv(uneven)
