"""Plain PyTorch for what several tests compare with; one utterance, nothing padded."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional


def mixed(states: list[Tensor], shares: Tensor) -> Tensor:
    """sum_l shares[l] * states[l]: shares [L] or [L, D], states [n, D]."""
    shares = shares if shares.dim() == 2 else shares.unsqueeze(1)
    return (torch.stack(states) * shares.unsqueeze(1)).sum(0)


def stretched(states: list[Tensor], count: int) -> Tensor:
    """L layers [n, D] at `count` places from the first to the last: [n, D, count]."""
    planes = torch.stack(states, -1)
    return functional.interpolate(planes, size=count, mode="linear", align_corners=True)


def convolved(
    parameters: Mapping[str, Tensor], planes: Tensor, kernel: int = 5, stride: int = 3
) -> Tensor:
    """HConv's convolutions `convs.N.weight` [kernel, in, out] over planes [n, D, L]: [n, C * P]."""
    place = 0
    while f"convs.{place}.weight" in parameters:
        weight = parameters[f"convs.{place}.weight"].permute(2, 1, 0)
        bias = parameters[f"convs.{place}.bias"]
        planes = functional.conv1d(planes, weight, bias, stride, kernel // 2).relu()
        place += 1
    return planes.flatten(1)


def resampled(state: Tensor, ratio: float, wanted: int) -> Tensor:
    """`state` [n, D] at another frame rate, frame by frame: [wanted, D]."""
    frames = []
    for frame in range(wanted):
        place = min(max((frame + 0.5) / ratio - 0.5, 0.0), len(state) - 1.0)
        low = math.floor(place)
        high = min(low + 1, len(state) - 1)
        frames.append(state[low] * (1 - (place - low)) + state[high] * (place - low))
    return torch.stack(frames)
