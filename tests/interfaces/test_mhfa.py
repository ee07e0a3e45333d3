"""mhfa against loops over utterances, heads, frames and windows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ssft_bench.hidden_states import HiddenStates
from ssft_bench.interfaces.mhfa import MHFA
from tests.mixing.padded import (
    Parameters,
    Reference,
    against,
    built,
    check,
    padded,
    precisions,
    relative,
    runs,
    seeds,
    shapes,
)
from tests.mixing.references import mixed
from tests.states import distance, spec

SMALL = {"compression": 5, "heads": 3, "output": 4}


def linear(p: Parameters, name: str, x: Tensor) -> Tensor:
    return functional.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])


def pooled(p: Parameters, scores: Tensor, values: Tensor) -> Tensor:
    """One vector [E] from frames [n, heads] and [n, c]: heads one by one, side by side."""
    parts = [
        sum(share * value for share, value in zip(own.softmax(0), values, strict=True))
        for own in scores.unbind(1)
    ]
    return linear(p, "project_out", torch.cat(parts))


def scored(p: Parameters, states: list[Tensor]) -> tuple[Tensor, Tensor]:
    keys = linear(p, "keys", mixed(states, p["key_weights"].softmax(0)))
    return (
        linear(p, "attention", keys),
        linear(p, "values", mixed(states, p["value_weights"].softmax(0))),
    )


def whole(p: Parameters, states: list[Tensor]) -> Tensor:
    """The authors' pooling over all frames [1, E]; nothing for an utterance of no frames."""
    scores, values = scored(p, states)
    return pooled(p, scores, values).unsqueeze(0) if len(values) else values.new_zeros(0, 4)


def windowed(window: int, later: int = 0) -> Reference:
    """[n, E]: frames from window // 2 before on, `window` of them, as far as they exist."""

    def plain(p: Parameters, states: list[Tensor]) -> Tensor:
        scores, values = scored(p, states)
        rows = []
        for frame in range(len(values)):
            start = frame - window // 2 + later
            near = slice(max(start, 0), start + window)
            rows.append(pooled(p, scores[near], values[near]))
        return torch.stack(rows) if rows else values.new_zeros(0, 4)

    return plain


@shapes
@runs
@precisions
def test_pooling_equals_plain_pytorch(
    layers: int, dim: int, dtype: torch.dtype, tolerance: float, seed: int, block: int
) -> None:
    errors = check(MHFA, whole, (layers, dim), seed, dtype, block, **SMALL)
    assert max(errors.values()) < tolerance


@pytest.mark.parametrize("window", [1, 2, 3, 4, 7, 25])
@seeds
@precisions
def test_windows_equal_plain_pytorch(
    window: int, dtype: torch.dtype, tolerance: float, seed: int
) -> None:
    errors = check(MHFA, windowed(window), (7, 12), seed, dtype, window=window, **SMALL)
    assert max(errors.values()) < tolerance


def test_the_comparison_would_notice() -> None:
    def keys_and_values_swapped(p: Parameters, states: list[Tensor]) -> Tensor:
        other = {"key_weights": p["value_weights"], "value_weights": p["key_weights"]}
        return whole(p | other, states)

    def layers_reversed(p: Parameters, states: list[Tensor]) -> Tensor:
        return whole(p, states[::-1])

    def without_attention(p: Parameters, states: list[Tensor]) -> Tensor:
        scores, values = scored(p, states)
        return pooled(p, 0 * scores, values).unsqueeze(0)

    def channels_first(p: Parameters, states: list[Tensor]) -> Tensor:
        matrix = p["project_out.weight"].unflatten(1, (5, 3)).transpose(1, 2).flatten(1)
        return whole(p | {"project_out.weight": matrix}, states)

    for wrong in (keys_and_values_swapped, layers_reversed, without_attention, channels_first):
        assert check(MHFA, wrong, (7, 12), 1, **SMALL)["features"] > 0.02, wrong.__name__
    for other in (windowed(3), windowed(5), windowed(4, later=1)):
        assert check(MHFA, other, (7, 12), 1, window=4, **SMALL)["features"] > 0.02


@pytest.mark.parametrize("garbage", [0.0, 1e3, float("nan")])
def test_padding_gets_no_attention(garbage: float) -> None:
    """Each utterance as if alone; the authors' softmax over the padded batch differs."""
    hidden = padded(spec(7, 12), 2, garbage=garbage)
    interface = built(MHFA, spec(7, 12), torch.float64, **SMALL)
    features, lengths = interface(hidden)
    assert lengths.tolist() == [1, 1, 1, 1]
    parameters = {name: p.detach() for name, p in interface.named_parameters()}
    for row, length in enumerate(hidden.lengths.tolist()):
        real = [s[row : row + 1, :length] for s in hidden.states]
        alone, _ = interface(HiddenStates(real, torch.tensor([length])))
        assert distance(features[row], alone[0]) < 1e-12
        unmasked = whole(parameters, [s[row].nan_to_num(0.0) for s in hidden.states])
        assert distance(features[row], unmasked) > 0.01


@pytest.mark.parametrize("window", [18, 19, 100])
def test_a_window_of_twice_the_frames_sees_all(window: int) -> None:
    hidden = padded(spec(7, 12), 3)
    torch.manual_seed(1)
    near = built(MHFA, spec(7, 12), torch.float64, window=window, **SMALL)
    pooling = MHFA(spec(7, 12), **SMALL).double()
    pooling.load_state_dict(near.state_dict())
    frames, lengths = near(hidden)
    one, _ = pooling(hidden)
    assert torch.equal(lengths, hidden.lengths)
    for row, length in enumerate(lengths.tolist()):
        assert distance(frames[row, :length], one[row].expand(length, -1)) < 1e-12
    narrow = built(MHFA, spec(7, 12), torch.float64, window=8, **SMALL)
    narrow.load_state_dict(near.state_dict())
    assert relative(narrow(hidden)[0][1, :9], one[1].expand(9, -1)) > 0.01


@pytest.mark.parametrize("window", [None, 3, 4, 100])
@pytest.mark.parametrize("lengths", [(0, 5), (3, 0, 1)])
def test_utterances_of_no_frames(window: int | None, lengths: tuple[int, ...]) -> None:
    """Zeros come out, and no NaN of an empty softmax reaches a gradient."""
    hidden = padded(spec(5, 6), 4, lengths=[lengths] * 5, garbage=float("nan"))
    interface = built(MHFA, spec(5, 6), torch.float64, window=window, **SMALL)
    reference = whole if window is None else windowed(window)
    assert max(against(interface, reference, hidden).values()) < 1e-10
    wanted = [int(n > 0) for n in lengths] if window is None else list(lengths)
    assert interface(hidden)[1].tolist() == wanted


@pytest.mark.parametrize("window", [None, 3])
def test_nothing_but_utterances_of_no_frames(window: int | None) -> None:
    hidden = padded(spec(5, 6), 5, lengths=[(0, 0)] * 5, garbage=float("nan"))
    interface = built(MHFA, spec(5, 6), torch.float64, window=window, **SMALL)
    features, lengths = interface(hidden)
    assert lengths.tolist() == [0, 0]
    assert not features.any()
    features.sum().backward()
    assert not any(p.grad.any() for p in interface.parameters())


@pytest.mark.parametrize("option", ["compression", "heads", "output", "window"])
def test_options_that_cannot_be(option: str) -> None:
    with pytest.raises(ValueError, match=rf"{option}=0.*must be at least 1"):
        MHFA(spec(7, 12), **{option: 0})


def test_usage() -> None:
    interface = built(MHFA, spec(3, 4), torch.float64)
    keys, values = interface.key_weights.softmax(0), interface.value_weights.softmax(0)
    assert interface.layer_usage() == pytest.approx(((keys + values) / 2).tolist())
    assert interface.usage_details()["keys"] == pytest.approx(keys.tolist())
    assert interface.usage_details()["values"] == pytest.approx(values.tolist())
