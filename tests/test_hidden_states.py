"""HiddenStates: what is refused, and that nothing is copied."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssft_bench.hidden_states import HiddenStates, UpstreamSpec


def views(layers: int, batch: int, frames: int, dim: int) -> list[Tensor]:
    """s3prl's layout: [T, B, D] memory seen as [B, T, D]."""
    return [torch.randn(frames, batch, dim).transpose(0, 1) for _ in range(layers)]


@pytest.mark.parametrize(
    ("states", "lengths", "message"),
    [
        ([], [1], "no layer was given"),
        ([torch.zeros(2, 3)], [3, 3], r"layer 0 has shape \(2, 3\), expected \[B, T, D\]"),
        (
            [torch.zeros(2, 3, 4), torch.zeros(2, 5, 4)],
            [3, 3],
            r"layer 1 is \[B, T\] = \(2, 5\), but layer 0 is \(2, 3\)",
        ),
        (
            [torch.zeros(2, 3, 4), torch.zeros(1, 3, 4)],
            [3, 3],
            r"layer 1 is \[B, T\] = \(1, 3\), but layer 0 is \(2, 3\)",
        ),
        ([torch.zeros(2, 3, 4)], [3], r"lengths has shape \(1,\), not \[2\]"),
        ([torch.zeros(2, 3, 4)], [3, 4], r"outside 0\.\.3: \[3, 4\]"),
        ([torch.zeros(2, 3, 4)], [-1, 3], r"outside 0\.\.3: \[-1, 3\]"),
    ],
)
def test_what_does_not_fit_is_refused(
    states: list[Tensor], lengths: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        HiddenStates(states, torch.tensor(lengths))


def test_layer_numbers_must_match_the_states() -> None:
    with pytest.raises(ValueError, match=r"2 states, but layers \(0, 3, 4\)"):
        HiddenStates(views(2, 1, 3, 4), torch.tensor([3]), [0, 3, 4])


def test_layers_of_other_widths_are_welcome() -> None:
    hidden = HiddenStates([torch.zeros(2, 3, 4), torch.zeros(2, 3, 6)], torch.tensor([3, 2]))
    assert [s.shape[-1] for s in hidden.states] == [4, 6]
    assert UpstreamSpec("x", (4, 6), (320, 320)).num_layers == len(hidden) == 2


def test_nothing_is_copied() -> None:
    states = views(4, 3, 7, 5)
    hidden = HiddenStates(states, torch.tensor([7, 2, 0]))
    selected = hidden.select([3, 1])
    same = hidden.to("cpu")
    for layer, state in enumerate(states):
        assert not state.is_contiguous()
        assert hidden.states[layer].data_ptr() == state.data_ptr()
        assert hidden.states[layer].stride() == state.stride()
        assert same.states[layer] is state
    assert [s.data_ptr() for s in selected.states] == [states[i].data_ptr() for i in (3, 1)]
    assert selected.layers == (3, 1)


def test_select_goes_by_the_upstreams_numbers() -> None:
    states = views(3, 2, 4, 5)
    some = HiddenStates(states, torch.tensor([4, 1]), [2, 5, 9])
    assert some.select([9, 2]).states[0] is states[2]
    assert some.select([9]).layers == (9,)
    with pytest.raises(ValueError, match=r"no layer \[0, 1\]; here are \[2, 5, 9\]"):
        some.select([0, 5, 1])


def test_to_keeps_lengths_and_layers() -> None:
    hidden = HiddenStates(views(2, 2, 4, 5), torch.tensor([4, 1]), [3, 6])
    low = hidden.to("cpu", torch.bfloat16)
    assert [s.dtype for s in low.states] == [torch.bfloat16] * 2
    assert low.lengths.dtype == torch.int64
    assert low.layers == (3, 6)


def test_pad_and_valid() -> None:
    lengths = (3, 5, 1)
    items = [[torch.randn(n, dim) for dim in (4, 6)] for n in lengths]
    hidden = HiddenStates.pad(items, [1, 2])
    assert hidden.layers == (1, 2)
    assert hidden.lengths.tolist() == list(lengths)
    assert [tuple(s.shape) for s in hidden.states] == [(3, 5, 4), (3, 5, 6)]
    mask = torch.tensor([[f < n for f in range(5)] for n in lengths])
    assert torch.equal(hidden.valid(), mask)
    for place, state in enumerate(hidden.states):
        assert torch.equal(state[~mask], torch.zeros_like(state[~mask]))
        for row, item in enumerate(items):
            assert torch.equal(state[row, : lengths[row]], item[place])


def test_stack_is_a_new_tensor() -> None:
    hidden = HiddenStates(views(3, 2, 4, 5), torch.tensor([4, 1]))
    stacked = hidden.stack()
    assert stacked.shape == (3, 2, 4, 5)
    assert torch.equal(stacked[2], hidden.states[2])
    assert stacked.untyped_storage().data_ptr() != hidden.states[0].untyped_storage().data_ptr()


def test_an_empty_batch() -> None:
    hidden = HiddenStates([torch.zeros(0, 0, 4)], torch.zeros(0, dtype=torch.int64))
    assert hidden.valid().shape == (0, 0)
