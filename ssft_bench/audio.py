"""Reading recordings as mono 16 kHz, and checking all of them before any long work begins."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.digests import cache_folder
from ssft_bench.errors import MissingError
from ssft_bench.files import atomic_path
from ssft_bench.progress import Progress

RATE = 16000
"""Sampling rate in Hz of everything `read_audio` gives."""
MIN_SECONDS = 0.05  # below two frames of a 50 Hz upstream
PLAUSIBLE_RATES = range(4000, 384_001)
SILENT = 1e-4  # peak of full scale, -80 dB
CHECKS = 1  # part of the stamp: raise it when a check below becomes stricter
_BLOCK = 1 << 18  # frames decoded at a time; some headers do not tell how many there are
_UNKNOWN_SIZE = 0x7FFFF000  # written at or above by programs that stream WAV into a pipe
_NO_COUNT = 1 << 62  # what libsndfile gives for a FLAC stream that was written into a pipe
_TRUNCATED = re.compile(r"^\s*(?:data|SSND|Data Size|riff)\s*: (\d+) \(should be (\d+)\)", re.M)
_BYTE_RATE = re.compile(r"Bytes/sec\s*: (\d+) \(should be (\d+)\)")
_OGG_CUT = re.compile(
    r"[Ll]acks an end-of-stream|without an End-Of-Stream|Junk after the last page"
)


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


class _Broken(Exception):
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
        with _open(path) as file:
            rate = int(file.samplerate)
            first = int((start or 0.0) * rate)
            count = None if end is None else max(0, int(end * rate) - first)
            if first:
                file.seek(min(first, file.frames))
            blocks = [block.mean(axis=1) for block in _blocks(file, count)]
    except (OSError, soundfile.SoundFileError, _Broken) as error:
        raise BrokenAudio([f"{path}: {_reason(path, error)}"]) from error
    wave = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    if wave.size == 0:
        raise BrokenAudio([f"{path}: no sample between {start or 0} s and {end or 'the end'}"])
    return _resample(wave, rate)


def _open(path: Path) -> Any:
    """The open soundfile.SoundFile. Raises _Broken with the reason where that is plain to see."""
    if not path.exists():
        raise _Broken("the file is missing (a transcript without audio)")
    if not path.is_file():
        raise _Broken("not a file")
    if path.stat().st_size == 0:
        raise _Broken("zero bytes")
    if path.suffix != ".raw":
        return soundfile.SoundFile(path)
    layout = {"samplerate": RATE, "channels": 1, "format": "RAW", "subtype": "PCM_16"}
    return soundfile.SoundFile(path, **layout, endian=_byte_order(path))


def _byte_order(path: Path) -> str:
    """BIG or LITTLE: AN4's raw files come in both; in the wrong one, speech looks like noise."""
    data = path.read_bytes()
    if len(data) % 2:
        raise _Broken("truncated: an odd number of bytes in a 16-bit file")
    roughness = [
        np.abs(np.diff(np.frombuffer(data, kind + "i2").astype(float))).sum() for kind in "><"
    ]
    return "BIG" if roughness[0] <= roughness[1] else "LITTLE"


def _blocks(file: Any, count: int | None = None) -> Iterator[NDArray[np.float32]]:
    """Decoded blocks [frames, channels] of at most `count` frames in all."""
    while count is None or count > 0:
        ask = _BLOCK if count is None else min(_BLOCK, count)
        block = file.read(ask, dtype="float32", always_2d=True)
        if len(block) == 0:
            return
        if count is not None:
            count -= len(block)
        yield block


def _reason(path: Path, error: Exception) -> str:
    """One line on why a file could not be read."""
    if isinstance(error, _Broken):
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


@dataclass(frozen=True)
class AudioSummary:
    """What `check_audio` found."""

    files: int
    """Different files."""
    hours: float
    """Speech in the utterances."""
    seconds: tuple[float, ...]
    """Length of each utterance, in the order given."""
    rate: int
    """Sampling rate in Hz of most files, as stored."""
    rates: dict[int, int]
    """Files per sampling rate in Hz."""
    warnings: tuple[str, ...]
    """Remarks that stop nothing, such as recordings that hold only silence."""


class _Facts(NamedTuple):
    """A good file's measurements, as kept in the stamp."""

    rate: int
    frames: int
    silent: bool


def check_audio(
    utterances: Sequence[Utterance],
    *,
    allow_mixed_rates: bool = False,
    label: str = "checking audio",
    source: str = "",
) -> AudioSummary:
    """Decode every recording once and refuse the broken ones before any long work begins.

    Refused: absent, empty, not audio, truncated, NaN or infinite samples, shorter than 0.05 s, a
    rate that cannot be or that the header contradicts, a segment outside its file, and, unless
    `allow_mixed_rates`, a rate that differs from nearly all others': then the header is the likely
    culprit. A whole corpus at another rate or with several channels is fine, `read_audio` converts.
    Good files are remembered by path, size and modification time under `cache_folder()`.

    `label` names the progress bar, `source` where the corpus can be had again.
    Raises BrokenAudio naming the files; all of them are in its `problems`.
    """
    owner: dict[Path, str] = {}
    for utterance in utterances:
        owner.setdefault(Path(os.path.abspath(utterance.audio)), utterance.id)
    facts, problems = _inspect_all(list(owner), label)
    rates = Counter(fact.rate for fact in facts.values())
    if not allow_mixed_rates:
        problems |= _odd_rates(facts, rates)
    seconds = []
    for utterance in utterances:
        path = Path(os.path.abspath(utterance.audio))
        if path in facts:
            try:
                seconds.append(_seconds(utterance, facts[path]))
            except _Broken as error:
                if path not in problems:
                    problems[path], owner[path] = str(error), utterance.id
    if problems:
        # Sorted, so that the message is the same whether or not some were remembered as good.
        lines = [f"{p} (utterance {owner[p]}): {problems[p]}" for p in sorted(problems)]
        raise BrokenAudio(lines, len(owner), source)
    silent = [owner[path] for path, fact in facts.items() if fact.silent]
    warning = f"{len(silent)} of {len(owner)} files hold only silence: {', '.join(silent[:5])}"
    return AudioSummary(
        files=len(facts),
        hours=sum(seconds) / 3600,
        seconds=tuple(seconds),
        rate=rates.most_common(1)[0][0] if rates else RATE,
        rates=dict(sorted(rates.items())),
        warnings=(warning + (", ..." if len(silent) > 5 else ""),) if silent else (),
    )


def _inspect(path: Path) -> _Facts | str:
    """Decode the whole file; its facts, or the reason why it cannot be trusted."""
    try:
        with _open(path) as file:
            _check_header(path, file)
            frames, peak = 0, 0.0
            for block in _blocks(file):
                if not np.isfinite(block).all():
                    return "NaN or infinite samples"
                frames += len(block)
                peak = max(peak, float(np.abs(block).max()))
            if frames < file.frames:
                return f"truncated: {frames} samples of the {file.frames} in its header"
            return _Facts(int(file.samplerate), frames, peak < SILENT)
    except (OSError, soundfile.SoundFileError, _Broken) as error:
        return _reason(path, error)


def _check_header(path: Path, file: Any) -> None:
    """Compare what the header declares with the bytes that are there (libsndfile notes both)."""
    log, rate = file.extra_info, file.samplerate
    if rate not in PLAUSIBLE_RATES:
        raise _Broken(f"header says {rate} Hz, which no speech recording has; correct the header")
    if found := _BYTE_RATE.search(log):
        block = int(found[2]) / rate
        raise _Broken(
            f"header contradicts itself: {rate} Hz, but its byte rate is that of "
            f"{int(found[1]) / block:g} Hz; correct the sampling rate in the header"
        )
    declared, present = 0, 0
    if found := _TRUNCATED.search(log):
        declared, present = int(found[1]), int(found[2])
    elif file.format == "NIST":
        declared, present = _sphere_count(path), file.frames
    if present < declared < _UNKNOWN_SIZE:
        raise _Broken(f"truncated: its header declares {declared}, only {present} are there")
    if file.format == "OGG" and _OGG_CUT.search(log):
        raise _Broken("truncated: the Ogg stream ends without its end-of-stream page")
    if file.frames >= _NO_COUNT:
        raise _Broken("its header does not tell the number of samples; encode it anew")
    if file.frames == 0:
        raise _Broken("zero length: a header without samples")


def _sphere_count(path: Path) -> int:
    with path.open("rb") as file:
        found = re.search(rb"sample_count -i (\d+)", file.read(1024))
    return int(found[1]) if found else 0


def _seconds(utterance: Utterance, facts: _Facts) -> float:
    """Length of an utterance; a segment may overshoot its file by rounding only."""
    length = facts.frames / facts.rate
    start, end = utterance.start or 0.0, length if utterance.end is None else utterance.end
    if not 0 <= start < end <= length + 0.1:
        raise _Broken(f"segment {start}-{end} s does not lie in its {length:.2f} s")
    seconds = min(end, length) - start
    if seconds < MIN_SECONDS:
        raise _Broken(f"only {seconds:.3f} s long, under {MIN_SECONDS} s")
    return seconds


def _odd_rates(facts: dict[Path, _Facts], rates: Counter[int]) -> dict[Path, str]:
    """Files whose rate differs when at least 90 % of the files, or all but one, have another."""
    if not rates:
        return {}
    usual, agreeing = rates.most_common(1)[0]
    if not 0 < len(facts) - agreeing <= max(1, len(facts) // 10) < agreeing:
        return {}
    return {
        path: f"header says {fact.rate} Hz but the other {agreeing} files say {usual} Hz; if that "
        "is right pass --set data.mixed_rates=true and it is resampled, else its header is wrong"
        for path, fact in facts.items()
        if fact.rate != usual
    }


def _inspect_all(paths: list[Path], label: str) -> tuple[dict[Path, _Facts], dict[Path, str]]:
    """Facts of the good files and reasons of the broken ones, in the order of `paths`."""
    stamp = _stamp(paths)
    remembered = _remembered(stamp)
    keys = {path: _key(path) for path in paths}  # before decoding: a file may change meanwhile
    new = [p for p in paths if not keys[p] or remembered.get(str(p), [])[:2] != keys[p]]
    found: dict[Path, _Facts | str] = {}
    # libsndfile decodes without the interpreter's lock, so threads use all cores.
    with (
        Progress(label, len(new), unit="file") as bar,
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
    ):
        for path, result in zip(new, pool.map(_inspect, new), strict=True):
            bar.advance()
            found[path] = result
    facts, problems = {}, {}
    for path in paths:
        result = found.get(path) or _facts(remembered[str(path)])
        if isinstance(result, str):
            problems[path] = result
        else:
            facts[path] = result
            remembered[str(path)] = [*keys[path], *map(int, result)]
    if found:
        with suppress(OSError), atomic_path(stamp) as temporary:  # unwritable: only speed is lost
            temporary.write_text(json.dumps({"checks": CHECKS, "files": remembered}))
    return facts, problems


def _stamp(paths: Sequence[Path]) -> Path:
    """Where good files are remembered: one small JSON file per corpus folder."""
    try:
        folder = os.path.commonpath([path.parent for path in paths])
    except ValueError:  # no path, or several drives
        folder = ""
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return cache_folder() / "audio" / f"{name}.json"


def _remembered(stamp: Path) -> dict[str, list[int]]:
    """Absolute path -> [size, modification time in ns, *_Facts] of the files found good before."""
    try:
        stored = json.loads(stamp.read_text())
        if stored["checks"] == CHECKS:
            return {str(path): list(row) for path, row in stored["files"].items() if _facts(row)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        pass  # absent or damaged: every file is checked again
    return {}


def _facts(row: list[int]) -> _Facts:
    return _Facts(int(row[2]), int(row[3]), bool(row[4]))


def _key(path: Path) -> list[int]:
    try:
        now = path.stat()
    except OSError:
        return []
    return [now.st_size, now.st_mtime_ns]
