"""Checking every recording of a run by name, before any long work begins."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from ssft_bench.audio import RATE, Broken, BrokenAudio, blocks, open_audio, reason
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.digests import cache_folder
from ssft_bench.files import atomic_path
from ssft_bench.progress import Progress

MIN_SECONDS = 0.05  # below two frames of a 50 Hz upstream
PLAUSIBLE_RATES = range(4000, 384_001)
SILENT = 1e-4  # peak of full scale, -80 dB
CHECKS = 1  # part of the stamp: raise it when a check below becomes stricter
_UNKNOWN_SIZE = 0x7FFFF000  # written at or above by programs that stream WAV into a pipe
_NO_COUNT = 1 << 62  # what libsndfile gives for a FLAC stream that was written into a pipe
_TRUNCATED = re.compile(r"^\s*(?:data|SSND|Data Size|riff)\s*: (\d+) \(should be (\d+)\)", re.M)
_BYTE_RATE = re.compile(r"Bytes/sec\s*: (\d+) \(should be (\d+)\)")
_OGG_CUT = re.compile(
    r"[Ll]acks an end-of-stream|without an End-Of-Stream|Junk after the last page"
)


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
            except Broken as error:
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
        with open_audio(path) as file:
            _check_header(path, file)
            frames, peak = 0, 0.0
            for block in blocks(file):
                if not np.isfinite(block).all():
                    return "NaN or infinite samples"
                frames += len(block)
                peak = max(peak, float(np.abs(block).max()))
            if frames < file.frames:
                return f"truncated: {frames} samples of the {file.frames} in its header"
            return _Facts(int(file.samplerate), frames, peak < SILENT)
    except (OSError, soundfile.SoundFileError, Broken) as error:
        return reason(path, error)


def _check_header(path: Path, file: Any) -> None:
    """Compare what the header declares with the bytes that are there (libsndfile notes both)."""
    log, rate = file.extra_info, file.samplerate
    if rate not in PLAUSIBLE_RATES:
        raise Broken(f"header says {rate} Hz, which no speech recording has; correct the header")
    if found := _BYTE_RATE.search(log):
        block = int(found[2]) / rate
        raise Broken(
            f"header contradicts itself: {rate} Hz, but its byte rate is that of "
            f"{int(found[1]) / block:g} Hz; correct the sampling rate in the header"
        )
    declared, present = 0, 0
    if found := _TRUNCATED.search(log):
        declared, present = int(found[1]), int(found[2])
    elif file.format == "NIST":
        declared, present = _sphere_count(path), file.frames
    if present < declared < _UNKNOWN_SIZE:
        raise Broken(f"truncated: its header declares {declared}, only {present} are there")
    if file.format == "OGG" and _OGG_CUT.search(log):
        raise Broken("truncated: the Ogg stream ends without its end-of-stream page")
    if file.frames >= _NO_COUNT:
        raise Broken("its header does not tell the number of samples; encode it anew")
    if file.frames == 0:
        raise Broken("zero length: a header without samples")


def _sphere_count(path: Path) -> int:
    with path.open("rb") as file:
        found = re.search(rb"sample_count -i (\d+)", file.read(1024))
    return int(found[1]) if found else 0


def _seconds(utterance: Utterance, facts: _Facts) -> float:
    """Length of an utterance; a segment may overshoot its file by rounding only."""
    length = facts.frames / facts.rate
    start, end = utterance.start or 0.0, length if utterance.end is None else utterance.end
    if not 0 <= start < end <= length + 0.1:
        raise Broken(f"segment {start}-{end} s does not lie in its {length:.2f} s")
    seconds = min(end, length) - start
    if seconds < MIN_SECONDS:
        raise Broken(f"only {seconds:.3f} s long, under {MIN_SECONDS} s")
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
