"""Rooms and noise around a crop whose targets stay those of the clean speech.

So the model learns to hear the speaker through them, as WavLM does by mixing (Chen et al. 2022) and robust
HuBERT by noise and rooms (Huang et al. 2022, arXiv:2203.16104); here they are those of the embedded corpora.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from ssft_bench.corpora.mini.make.acoustics import NOISES, make_noise, room_response
from ssft_bench.upstreams.pretraining.recipe import Surroundings


def surrounded(
    wave: NDArray[np.float32], corpus: str, spec: Surroundings, rng: np.random.Generator
) -> NDArray[np.float32]:
    """`wave` (samples,) as heard in a drawn room and noise, or as it is; same length.

    The direct sound stays where it was, so frames keep their targets.
    """
    if rng.random() >= spec.probability.get(corpus, 0.0):
        return wave
    heard = wave.astype(np.float64)
    if rng.random() < spec.rooms:
        response = room_response(float(rng.uniform(*spec.rt60)), rng)
        heard = signal.fftconvolve(heard, response)[: len(wave)]
    noise = make_noise(str(rng.choice(NOISES)), heard, rng)
    ratio = 10 ** (-rng.uniform(*spec.decibels) / 20)
    heard = heard + noise * ratio * heard.std() / (noise.std() + 1e-12)
    return np.asarray((heard - heard.mean()) / (heard.std() + 1e-5), np.float32)
