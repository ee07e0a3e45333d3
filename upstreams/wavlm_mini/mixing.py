"""Utterance mixing: a part of another utterance, or noise, is added to some utterances of a batch.

Chen et al. 2022, "WavLM", algorithm 1. The targets stay those of the primary utterance, so the model learns
to tell it from what overlaps. The added part is at most half as long (`Mixing.longest`): otherwise nothing
would say which of the two is meant. Where the paper takes recorded noise, ours is Gaussian with a power
spectrum of 1/f^a, a drawn between 0 (white) and 2 (brown).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ssft_bench.upstreams.pretraining.recipe import Mixing


def mixed(waves: Tensor, spec: Mixing, generator: torch.Generator) -> Tensor:
    """A copy of `waves` (batch, samples) in which some rows have something added; same shape.

    Secondary utterances are taken from `waves` as they came in, never from a row already mixed. In a
    batch of one, noise is all there is to add.
    """
    out = waves.clone()
    count, samples = waves.shape
    for row in range(count):
        if _uniform(generator, 0, 1) >= spec.probability:
            continue
        length = _below(generator, max(1, int(samples * spec.longest))) + 1
        noisy = count == 1 or _uniform(generator, 0, 1) < spec.noise
        if noisy:
            other = coloured_noise(samples, _uniform(generator, 0, 2), generator)
        else:
            other = waves[(row + 1 + _below(generator, count - 1)) % count]
        decibels = _uniform(generator, *(spec.noise_decibels if noisy else spec.speech_decibels))
        target, source = (_below(generator, samples - length + 1) for _ in range(2))
        part = scale(waves[row], other, decibels) * other[source : source + length]
        out[row, target : target + length] += part
    return out


def scale(primary: Tensor, secondary: Tensor, decibels: float) -> Tensor:
    """Factor of `secondary` that puts the energy of `primary` `decibels` above it; 0 for silence."""
    energy, other = primary.pow(2).mean(), secondary.pow(2).mean()
    if other == 0:
        return torch.zeros_like(other)
    factor: Tensor = (energy / (10 ** (decibels / 10) * other)).sqrt()
    return factor


def coloured_noise(samples: int, exponent: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise (samples,) whose power falls as frequency to the `exponent`, without direct current."""
    spectrum = torch.fft.rfft(torch.randn(samples, generator=generator))
    bins = torch.arange(len(spectrum), dtype=torch.float32)
    weights = torch.where(bins > 0, bins.clamp(min=1) ** (-exponent / 2), 0.0)
    noise: Tensor = torch.fft.irfft(spectrum * weights, n=samples)
    return noise


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _below(generator: torch.Generator, limit: int) -> int:
    """An integer from 0 to `limit` - 1."""
    return int(torch.randint(limit, (), generator=generator))
