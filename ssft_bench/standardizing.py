"""Standardised hidden states: each dimension of each layer minus its mean, over its deviation.

The mean and deviation are those of one set of recordings and do not change afterwards: what speech
toolkits call global mean and variance normalisation (ESPnet's `global_mvn`, Kaldi's CMVN over a corpus).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ssft_bench.moments import Moments

SMALLEST_DEVIATION = 1e-5
"""A dimension that hardly moves is centred, not blown up."""


class Standardizer:
    """Mean and deviation of every dimension, layer by layer, from frames of many utterances."""

    def __init__(self, utterances: Iterable[Sequence[Tensor]]) -> None:
        """`utterances`: the layers' states of each, [T_l, D_l]. Raises ValueError where there is none."""
        moments: list[Moments] = []
        for states in utterances:
            moments = moments or [Moments() for _ in states]
            for layer, state in zip(moments, states, strict=True):
                layer.add(state.detach().float().numpy())
        if not moments:
            raise ValueError("no utterance to take means and deviations from")
        self.means = [torch.from_numpy(layer.mean).float() for layer in moments]
        """[D_l] of each layer."""
        self.deviations = [
            torch.from_numpy(layer.deviation).float().clamp(min=SMALLEST_DEVIATION)
            for layer in moments
        ]
        """[D_l] of each layer."""

    def __call__(self, states: Sequence[Tensor]) -> list[Tensor]:
        """The layers' states of an utterance, each [T_l, D_l], standardised; new float32 tensors."""
        alike = zip(states, self.means, self.deviations, strict=True)
        return [(state.float() - mean) / deviation for state, mean, deviation in alike]
