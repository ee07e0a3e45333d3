"""Parameters and multiply-adds against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ssft_bench import cost


def test_linear_and_convolution() -> None:
    linear, conv = nn.Linear(30, 50), nn.Conv1d(4, 8, 5)
    assert cost.macs(lambda: linear(torch.randn(7, 30)), linear) == 7 * 30 * 50
    assert cost.macs(lambda: conv(torch.randn(1, 4, 20)), conv) == 16 * 5 * 4 * 8


@pytest.mark.parametrize("packed", [False, True])
def test_lstm_formula_is_added_once(packed: bool) -> None:
    lstm = nn.LSTM(10, 20, num_layers=2, bidirectional=True, batch_first=True)
    x = torch.randn(3, 11, 10)
    data = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([11, 5, 2]), True) if packed else x
    frames = 18 if packed else 33
    expected = frames * 2 * 4 * 20 * (10 + 20) + frames * 2 * 4 * 20 * (40 + 20)
    assert cost.macs(lambda: lstm(data), lstm) == expected


def test_lstm_beside_linear() -> None:
    net = nn.ModuleDict({"lstm": nn.LSTM(6, 6, batch_first=True), "out": nn.Linear(6, 3)})
    expected = 5 * 4 * 6 * 12 + 5 * 6 * 3
    assert cost.macs(lambda: net["out"](net["lstm"](torch.randn(1, 5, 6))[0]), net) == expected


def test_shared_parameters_count_once() -> None:
    first = nn.Linear(4, 4, bias=False)
    second = nn.Linear(4, 4, bias=False)
    second.weight = first.weight
    first.weight.requires_grad_(False)
    assert cost.parameters(nn.Sequential(first, second)) == {"total": 16, "trainable": 0}
