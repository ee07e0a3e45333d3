"""Standardised hidden states: each dimension of each layer minus its mean, over its deviation.

The mean and deviation are those of one set of recordings and do not change afterwards: what speech
toolkits call global mean and variance normalisation (ESPnet's `global_mvn`, Kaldi's CMVN over a corpus).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

SMALLEST_DEVIATION = 1e-5
"""A dimension that hardly moves is centred, not blown up."""


class Standardizer:
    """Mean and deviation of every dimension, layer by layer, from frames of many utterances."""

    def __init__(self, utterances: Iterable[Sequence[Tensor]]) -> None:
        """`utterances`: the layers' states of each, [T_l, D_l]. Sums are float64, in the order given.

        Raises ValueError where there is none.
        """
        sums: list[Tensor] = []
        squares: list[Tensor] = []
        origin: list[Tensor] = []
        frames: list[int] = []
        for states in utterances:
            exact = [state.detach().double() for state in states]
            if not sums:
                # Sums of differences to the first frame: no cancellation where a mean is large.
                origin = [state[0].clone() for state in exact]
                sums = [torch.zeros_like(first) for first in origin]
                squares = [torch.zeros_like(first) for first in origin]
                frames = [0] * len(exact)
            for layer, state in enumerate(exact):
                moved = state - origin[layer]
                sums[layer] += moved.sum(0)
                squares[layer] += moved.square().sum(0)
                frames[layer] += len(state)
        if not sums:
            raise ValueError("no utterance to take means and deviations from")
        means = [total / count for total, count in zip(sums, frames, strict=True)]
        self.means = [(o + m).float() for o, m in zip(origin, means, strict=True)]
        """[D_l] of each layer."""
        self.deviations = [
            (square / count - mean.square())
            .clamp(min=0)
            .sqrt()
            .clamp(min=SMALLEST_DEVIATION)
            .float()
            for square, count, mean in zip(squares, frames, means, strict=True)
        ]
        """[D_l] of each layer."""

    def __call__(self, states: Sequence[Tensor]) -> list[Tensor]:
        """The layers' states of an utterance, each [T_l, D_l], standardised; new float32 tensors."""
        alike = zip(states, self.means, self.deviations, strict=True)
        return [(state.float() - mean) / deviation for state, mean, deviation in alike]
