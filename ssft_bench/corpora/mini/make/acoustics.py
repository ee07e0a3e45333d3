"""Speaking rate, pitch, level, room and noise of each utterance.

They are drawn without looking at the speaker or the text. Order: voice -> room -> noise -> level,
as between a mouth and a microphone.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy import signal

SAMPLE_RATE = 16_000  # Hz, of the corpus
NOISES = ("white", "pink", "brown", "speech-shaped", "hum")
EDGE_SECONDS = 0.15  # silence kept at each end
SPEED_OF_SOUND = 340.0  # m/s, sound in air

Signal = NDArray[np.float64]


@dataclass(frozen=True)
class Conditions:
    """What is done to one utterance."""

    speed: float  # speaking rate relative to the voice's normal one
    pitch_semitones: float  # by resampling, so the formants move along
    level_db: float  # RMS of the speech in dB relative to full scale
    rt60: float  # s, reverberation time; 0 is no room
    snr_db: float | None  # speech to noise ratio; None is no added noise
    noise: str | None  # one of NOISES


def draw_conditions(rng: random.Random, gentle: bool = False) -> Conditions:
    """Conditions of an utterance; `gentle` (isolated queries): less room and noise."""
    speed = round(rng.uniform(0.95, 1.05) if gentle else rng.uniform(0.87, 1.13), 3)
    pitch = round(rng.uniform(-0.6, 0.6) if gentle else rng.uniform(-1.2, 1.2), 2)
    level = round(rng.uniform(-32.0, -18.0), 1)
    room, longest = rng.random(), 0.3 if gentle else 0.6
    rt60 = 0.0 if room < 0.4 else round(rng.uniform(0.12, longest), 2)
    clean, snr = rng.random() < 0.25, round(rng.uniform(20.0 if gentle else 12.0, 35.0), 1)
    kind = rng.choice(NOISES)
    return Conditions(speed, pitch, level, rt60, None if clean else snr, None if clean else kind)


def pitch_ratio(semitones: float) -> float:
    """Frequency ratio of an interval of equal temperament."""
    return float(2.0 ** (semitones / 12.0))


def resample(audio: Signal, rate: int, ratio: float) -> Signal:
    """To 16 kHz, at the same time `ratio` times faster and higher."""
    step = Fraction(SAMPLE_RATE / (rate * ratio)).limit_denominator(400)
    return np.asarray(signal.resample_poly(audio, step.numerator, step.denominator))


def trim(audio: Signal) -> Signal:
    """Cut silence at both ends down to EDGE_SECONDS (frames 45 dB below the loudest)."""
    hop = SAMPLE_RATE // 100
    frames = audio[: len(audio) // hop * hop].reshape(-1, hop)
    energy = np.sqrt((frames**2).mean(axis=1))
    loud = np.flatnonzero(energy > energy.max() * 10 ** (-45 / 20))
    edge = int(EDGE_SECONDS * SAMPLE_RATE)
    start, end = int(loud[0]) * hop, (int(loud[-1]) + 1) * hop
    return np.pad(audio[start:end], edge)


def room_response(rt60: float, rng: np.random.Generator) -> Signal:
    """A synthetic impulse response: direct sound, six early echoes, a decaying diffuse tail.

    The energy falls by 60 dB in `rt60` seconds; the tail is darker than the direct sound, since
    air and walls take away high frequencies.
    """
    length = int(rt60 * SAMPLE_RATE)
    time = np.arange(length) / SAMPLE_RATE
    decay = 10.0 ** (-3.0 * time / rt60)
    tail = signal.lfilter([0.5], [1.0, -0.5], rng.standard_normal(length)) * decay
    tail[: int(0.004 * SAMPLE_RATE)] = 0.0
    direct_to_tail_db = rng.uniform(2.0, 10.0)
    tail *= 10 ** (-direct_to_tail_db / 20) / np.sqrt(np.sum(tail**2) + 1e-12)
    response = np.asarray(tail)
    response[0] = 1.0
    for metres in rng.uniform(0.7, 6.0, size=6):  # detour of an echo
        at = int(metres / SPEED_OF_SOUND * SAMPLE_RATE)
        if at < length:
            response[at] += 0.25 * decay[at] * rng.choice([-1.0, 1.0])
    return response


def _coloured(size: int, exponent: float, rng: np.random.Generator) -> Signal:
    """Noise whose power falls as 1 / frequency ** exponent, flat below 50 Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(size))
    frequency = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 50.0)
    return np.fft.irfft(spectrum / frequency ** (exponent / 2), size)


def make_noise(kind: str, speech: Signal, rng: np.random.Generator) -> Signal:
    """Noise of the length of `speech`; "speech-shaped" takes over its spectrum."""
    size = len(speech)
    if kind == "hum":  # mains and its harmonics over a quiet hiss
        time = np.arange(size) / SAMPLE_RATE
        base = float(rng.choice([50.0, 60.0]))
        tones = [
            np.sin(2 * np.pi * base * k * time + rng.uniform(0, 6.28)) / k for k in range(1, 12)
        ]
        return np.asarray(np.sum(tones, axis=0) + 0.15 * rng.standard_normal(size))
    if kind == "speech-shaped":  # random phases; slowly swelling like a room full of people
        spectrum = np.abs(np.fft.rfft(speech))
        smooth = np.convolve(spectrum, np.ones(101) / 101, mode="same")
        phases = np.exp(2j * np.pi * rng.random(len(smooth)))
        swell = 1.0 + 0.4 * np.sin(
            2 * np.pi * rng.uniform(0.3, 2.0) * np.arange(size) / SAMPLE_RATE
        )
        return np.asarray(np.fft.irfft(smooth * phases, size) * swell)
    return _coloured(size, {"white": 0.0, "pink": 1.0, "brown": 2.0}[kind], rng)


def _rms(audio: Signal) -> float:
    return float(np.sqrt(np.mean(audio**2)) + 1e-12)


def render(
    audio: NDArray[np.float32], rate: int, warp: float, conditions: Conditions, seed: int
) -> NDArray[np.float32]:
    """Everything but the speaking rate, which the engine has made; 16 kHz, never clipped."""
    rng = np.random.default_rng(seed)
    ratio = warp * pitch_ratio(conditions.pitch_semitones)
    speech = trim(resample(audio.astype(np.float64), rate, ratio))
    if conditions.rt60 > 0:
        speech = signal.fftconvolve(speech, room_response(conditions.rt60, rng))
        # the tail may ring on a little, but not for its whole 60 dB
        ring = int(min(0.2, conditions.rt60 / 2) * SAMPLE_RATE)
        speech = speech[: len(speech) - int(conditions.rt60 * SAMPLE_RATE) + 1 + ring]
    speech = speech * 10 ** (conditions.level_db / 20) / _rms(speech)
    if conditions.snr_db is not None and conditions.noise is not None:
        noise = make_noise(conditions.noise, speech, rng)
        speech = speech + noise * _rms(speech) / _rms(noise) * 10 ** (-conditions.snr_db / 20)
    peak = float(np.abs(speech).max())
    return np.asarray(speech * min(1.0, 0.97 / peak), np.float32)
