"""Reading recordings as mono 16 kHz."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import MissingError

RATE = 16000
"""Sampling rate in Hz of everything `read_audio` gives."""
_BLOCK = 1 << 18  # frames decoded at a time; some headers do not tell how many there are


class BrokenAudio(MissingError):
    """Recordings that cannot be used; `problems` names every one, the message the first few."""

    def __init__(self, problems: Sequence[str], files: int = 1, source: str = "") -> None:
        self.problems = tuple(problems)
        again = f" or get the corpus again from {source}" if source else ""
        if len(problems) == 1:
            super().__init__(f"cannot use the audio file {problems[0]}; mend or replace it{again}")
        else:
            head = (
                f"cannot use {len(problems)} of {files} audio files; mend or replace them{again}:"
            )
            super().__init__(head + listing(problems))


class Broken(Exception):
    """Why one file cannot be used."""


def listing(problems: Sequence[str], limit: int = 5) -> str:
    """The first few of many problems, one indented line each, and how many more there are."""
    lines = [f"\n  {problem}" for problem in problems[:limit]]
    if len(problems) > limit:
        lines.append(f"\n  ... and {len(problems) - limit} more")
    return "".join(lines)


def read_audio(
    path: Path, start: float | None = None, end: float | None = None
) -> NDArray[np.float32]:
    """Waveform of a recording, float32 [samples], mono, 16 kHz.

    Reads what libsndfile reads (FLAC, WAV, Ogg Vorbis and Opus, NIST SPHERE, ...) and headerless
    `.raw` as AN4 has it (16 kHz, 16 bit, either byte order). Channels are averaged; other rates are
    resampled by torchaudio's windowed sinc. `start` and `end` are seconds into the file and cut at
    `int(seconds * rate)` of the stored rate, as the SLUE toolkit cuts its segments.

    Raises BrokenAudio when the file cannot be read or the segment is empty.
    """
    try:
        with open_audio(path) as file:
            rate = int(file.samplerate)
            first = int((start or 0.0) * rate)
            count = None if end is None else max(0, int(end * rate) - first)
            if first:
                file.seek(min(first, file.frames))
            parts = [block.mean(axis=1) for block in blocks(file, count)]
    except (OSError, soundfile.SoundFileError, Broken) as error:
        raise BrokenAudio([f"{path}: {reason(path, error)}"]) from error
    wave = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if wave.size == 0:
        raise BrokenAudio([f"{path}: no sample between {start or 0} s and {end or 'the end'}"])
    return _resample(wave, rate)


def read_utterance(utterance: Utterance) -> NDArray[np.float32]:
    """Waveform of a manifest row: its segment of the file, at the level that its corpus asks for.

    The gain is `10 ** (dB / 20)`, sox's `gain`, but nothing is clipped. Raises BrokenAudio.
    """
    wave = read_audio(utterance.audio, utterance.start, utterance.end)
    return wave * np.float32(10 ** (utterance.gain_db / 20)) if utterance.gain_db else wave


def open_audio(path: Path) -> Any:
    """The open soundfile.SoundFile. Raises Broken with the reason where that is plain to see."""
    if not path.exists():
        raise Broken("the file is missing (a transcript without audio)")
    if not path.is_file():
        raise Broken("not a file")
    if path.stat().st_size == 0:
        raise Broken("zero bytes")
    if path.suffix != ".raw":
        return soundfile.SoundFile(path)
    layout = {"samplerate": RATE, "channels": 1, "format": "RAW", "subtype": "PCM_16"}
    return soundfile.SoundFile(path, **layout, endian=_byte_order(path))


def _byte_order(path: Path) -> str:
    """BIG or LITTLE: AN4's raw files come in both; in the wrong one, speech looks like noise."""
    data = path.read_bytes()
    if len(data) % 2:
        raise Broken("truncated: an odd number of bytes in a 16-bit file")
    roughness = [
        np.abs(np.diff(np.frombuffer(data, kind + "i2").astype(float))).sum() for kind in "><"
    ]
    return "BIG" if roughness[0] <= roughness[1] else "LITTLE"


def blocks(file: Any, count: int | None = None) -> Iterator[NDArray[np.float32]]:
    """Decoded blocks [frames, channels] of at most `count` frames in all."""
    while count is None or count > 0:
        ask = _BLOCK if count is None else min(_BLOCK, count)
        block = file.read(ask, dtype="float32", always_2d=True)
        if len(block) == 0:
            return
        if count is not None:
            count -= len(block)
        yield block


def reason(path: Path, error: Exception) -> str:
    """One line on why a file could not be read."""
    if isinstance(error, Broken):
        return str(error)
    if isinstance(error, OSError):
        return error.strerror or str(error)
    try:
        with path.open("rb") as file:
            text = file.read(48).decode("ascii")
    except UnicodeDecodeError:
        text = ""
    except OSError as refusal:
        return refusal.strerror or str(refusal)
    if text and all(c.isprintable() or c.isspace() for c in text):
        return f"not audio but text, it begins with {' '.join(text.split())!r}"
    why = str(getattr(error, "error_string", error)).removeprefix("Error : ").rstrip(".")
    return f"damaged, truncated or not audio ({why})"


def _resample(wave: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """[samples at `rate`] -> [samples at 16 kHz]."""
    if rate == RATE:
        return wave
    import torch
    import torchaudio.functional

    # The kernel grows with the terms of the ratio. Every usual rate is exact within this bound;
    # 44101 Hz and the like are off by parts per million instead of needing gigabytes.
    ratio = Fraction(RATE, rate).limit_denominator(512)
    done = torchaudio.functional.resample(
        torch.from_numpy(wave), orig_freq=ratio.denominator, new_freq=ratio.numerator
    )
    return np.ascontiguousarray(done.numpy())
