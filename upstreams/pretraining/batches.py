"""Batches of crops of one length: nothing is ever padded, so no attention mask is needed.

Micro-batch `index` is a function of (seed, index) alone, as `ssft_bench.training.Batches` wants.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssft_bench.upstreams.pretraining.audio import SAMPLE_RATE, Recording, normalised
from ssft_bench.upstreams.pretraining.recipe import Surroundings
from ssft_bench.upstreams.pretraining.surroundings import surrounded

STRIDE = 320
"""Samples from frame to frame: 50 frames a second."""
WINDOW = 640
"""Samples one frame sees."""


def frame_count(samples: int) -> int:
    """Frames of the convolutional stack (window 640, stride 320) over `samples` samples."""
    return max(0, (samples - WINDOW) // STRIDE + 1)


class Crops(NamedTuple):
    """`waves`: (batch, samples), normalised; `targets`: (batch, frames) cluster numbers, or None."""

    waves: Tensor
    targets: Tensor | None


class CropBatches:
    """Draw an anchor utterance, then neighbours of about its length, and crop all to the shortest.

    An utterance is drawn with probability in proportion to its (capped) length times the weight of
    its corpus.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        targets: Sequence[NDArray[np.int16]] | None,
        *,
        batch_seconds: float,
        crop_seconds: float,
        weights: Mapping[str, float],
        seed: int,
        surroundings: Surroundings | None = None,
    ) -> None:
        """`targets` runs parallel to `recordings`, one int16 array of frames each."""
        crop = int(crop_seconds * SAMPLE_RATE)
        lengths = np.array([min(len(r.samples), crop) for r in recordings])
        self._order = np.argsort(lengths, kind="stable")
        self._lengths = lengths[self._order]
        share = np.array([weights.get(r.corpus, 1.0) for r in recordings])[self._order]
        self._share = share
        mass = share * self._lengths
        self._cumulative = np.cumsum(mass / mass.sum())
        self._recordings, self._targets = recordings, targets
        self._samples, self._seed = batch_seconds * SAMPLE_RATE, seed
        self._surroundings = surroundings

    def __call__(self, first: int, rank: int, world: int) -> Iterator[Crops]:
        """Micro-batches from `first` on; ranks draw different ones."""
        index = first
        while True:
            yield self.batch(index * world + rank)
            index += 1

    def batch(self, index: int) -> Crops:
        """Micro-batch `index`."""
        rng = np.random.default_rng((self._seed, index))
        members = self._members(rng)
        length = int(self._lengths[members].min())
        length -= (length - WINDOW) % STRIDE
        frames = frame_count(length)
        waves, targets = [], []
        for member in self._order[members]:
            wave = normalised(self._recordings[member].samples)
            start = int(rng.integers(0, (len(wave) - length) // STRIDE + 1))
            crop = wave[start * STRIDE : start * STRIDE + length]
            if self._surroundings is not None:
                corpus = self._recordings[member].corpus
                crop = surrounded(crop, corpus, self._surroundings, rng)
            waves.append(crop)
            if self._targets is not None:
                targets.append(self._targets[member][start : start + frames])
        labels = torch.from_numpy(np.stack(targets).astype(np.int64)) if targets else None
        return Crops(torch.from_numpy(np.stack(waves)), labels)

    def _members(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Positions, in order of length, of one batch's utterances."""
        anchor = min(int(np.searchsorted(self._cumulative, rng.random())), len(self._order) - 1)
        count = max(2, round(self._samples / self._lengths[anchor]))
        count = min(count, len(self._order))
        # Everything at most a tenth shorter or longer may come along, and enough to choose from.
        low = int(np.searchsorted(self._lengths, 0.9 * self._lengths[anchor]))
        high = int(np.searchsorted(self._lengths, 1.1 * self._lengths[anchor], side="right"))
        low = max(0, min(low, anchor - count))
        high = min(len(self._order), max(high, anchor + count))
        p = self._share[low:high] / self._share[low:high].sum()
        chosen: NDArray[np.int64] = rng.choice(np.arange(low, high), size=count, replace=False, p=p)
        return chosen
