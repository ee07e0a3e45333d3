"""Cutting and silencing of Rewiring's views (Yang et al., Findings of EMNLP 2022; its code)."""

from __future__ import annotations

import numpy as np

from ssft_bench.errors import UsageError
from ssft_bench.perturbation.resampling import Wave


def zero_block(wave: Wave, rng: np.random.Generator, share_denominator: int = 5) -> Wave:
    """A copy of `wave` [n] with one block of n // 5 samples set to zero, its place drawn from `rng`.

    With m = n // d the start is uniform in [0, (d - 1) m - 2], as the authors draw it; the last two
    possible places are never taken. Raises UsageError when the wave is shorter than d samples, or so
    short that no place remains.
    """
    block = len(wave) // share_denominator
    places = (share_denominator - 1) * block - 1
    if share_denominator < 2 or places < 1:
        raise UsageError(
            f"zero_block: {len(wave)} samples have no block of 1/{share_denominator} to silence; "
            "drop utterances this short from the training list"
        )
    start = int(rng.integers(places))
    silenced = wave.copy()
    silenced[start : start + block] = 0
    return silenced


def half(wave: Wave, even: bool) -> Wave:
    """The first (`even`) or second half of `wave` [n], a view [n // 2 - 1] or [n - n // 2].

    First: `wave[: n // 2 - 1]`; second: `wave[n // 2 - 1 : -1]`, as the authors cut. Raises
    UsageError below five samples.
    """
    if len(wave) < 5:
        raise UsageError(
            f"half: an utterance of {len(wave)} samples cannot be halved; "
            "drop utterances this short from the training list"
        )
    middle = len(wave) // 2 - 1
    return wave[:middle] if even else wave[middle:-1]
