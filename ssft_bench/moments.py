"""Mean and deviation of each dimension of features, from recordings that come one at a time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.float32]
TINY = 1e-9
"""Smallest deviation that is divided by."""


class Moments:
    """Mean and unbiased variance of each dimension over the frames of all recordings.

    Float64, merged as Chan, Golub & LeVeque (1983) have it: a constant dimension keeps a variance of 0.
    """

    def __init__(self, recordings: Iterable[Frames] = ()) -> None:
        """`recordings` are [T, D], T > 0; more may be added."""
        self.frames = 0
        self.mean, self._squares = np.zeros(0), np.zeros(0)
        for recording in recordings:
            self.add(recording)

    def add(self, recording: Frames) -> None:
        """Take in another recording [T, D], T > 0."""
        own = recording.astype(np.float64)
        own_mean = own.mean(axis=0)
        own -= own_mean
        own_squares = np.einsum("td,td->d", own, own)
        if not self.frames:
            self.frames, self.mean, self._squares = len(own), own_mean, own_squares
            return
        total, apart = self.frames + len(own), own_mean - self.mean
        self.mean = self.mean + apart * (len(own) / total)
        self._squares = (
            self._squares + own_squares + np.square(apart) * (self.frames * len(own) / total)
        )
        self.frames = total

    @property
    def deviation(self) -> NDArray[np.float64]:
        """Standard deviation of each dimension [D], at least `TINY`."""
        return np.maximum(np.sqrt(self._squares / max(1, self.frames - 1)), TINY)
