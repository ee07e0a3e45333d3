"""Standardised hidden states: each dimension of each layer minus its mean, over its deviation.

The mean and deviation are those of one set of recordings and do not change afterwards: what speech
toolkits call global mean and variance normalisation (ESPnet's `global_mvn`, Kaldi's CMVN over a corpus).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ssft_bench.files import atomic_path
from ssft_bench.moments import Moments

FILE = "standardizer.safetensors"
"""In the folder of a run that standardises: whoever takes its interface over needs it."""

SMALLEST_DEVIATION = 1e-5
"""A dimension that hardly moves is centred, not blown up."""


class Standardizer:
    """Mean and deviation of every dimension, layer by layer."""

    def __init__(self, means: Sequence[Tensor], deviations: Sequence[Tensor]) -> None:
        """[D_l] of each layer, float32."""
        self.means, self.deviations = list(means), list(deviations)

    @classmethod
    def of(cls, utterances: Iterable[Sequence[Tensor]]) -> Standardizer:
        """That of the frames of all `utterances`: the layers' states of each, [T_l, D_l].

        Raises ValueError where there is none.
        """
        moments: list[Moments] = []
        for states in utterances:
            moments = moments or [Moments() for _ in states]
            for layer, state in zip(moments, states, strict=True):
                layer.add(state.detach().float().numpy())
        if not moments:
            raise ValueError("no utterance to take means and deviations from")
        return cls(
            [torch.from_numpy(layer.mean).float() for layer in moments],
            [
                torch.from_numpy(layer.deviation).float().clamp(min=SMALLEST_DEVIATION)
                for layer in moments
            ],
        )

    def save(self, folder: Path) -> None:
        """Write `standardizer.safetensors` into a run's folder."""
        tensors = {f"mean.{n}": mean for n, mean in enumerate(self.means)}
        tensors |= {f"deviation.{n}": one for n, one in enumerate(self.deviations)}
        with atomic_path(folder / FILE) as temporary:
            save_file(tensors, temporary)

    @classmethod
    def load(cls, folder: Path) -> Standardizer:
        """What `save` has written. Raises OSError or SafetensorError where it cannot be read."""
        found = load_file(folder / FILE)
        places = range(len(found) // 2)
        return cls([found[f"mean.{n}"] for n in places], [found[f"deviation.{n}"] for n in places])

    def __call__(self, states: Sequence[Tensor]) -> list[Tensor]:
        """The layers' states of an utterance, each [T_l, D_l], standardised; new float32 tensors."""
        alike = zip(states, self.means, self.deviations, strict=True)
        return [(state.float() - mean) / deviation for state, mean, deviation in alike]
