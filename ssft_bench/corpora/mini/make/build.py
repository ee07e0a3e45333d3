"""From the plan to files: synthesis (cached), acoustics, audio files, manifest, lexicon."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from ssft_bench.corpora.mini.make import acoustics, lexicon, ogg
from ssft_bench.corpora.mini.make.engines import ENGINES, Audio
from ssft_bench.corpora.mini.make.plan import Utterance, make_plan

Plan = Callable[[int, Mapping[str, list[str]]], list[Utterance]]
"""Seed and lexicon -> the corpus to be."""


def synthesise(utterance: Utterance, cache: Path) -> Audio:
    """The engine's own audio, from the cache if it has said this before."""
    voice, conditions = utterance.voice, utterance.conditions
    # resampling makes the speech faster as it makes it higher: ask for that much slower speech
    ratio = voice.warp * acoustics.pitch_ratio(conditions.pitch_semitones)
    speed = round(conditions.speed / ratio, 4)
    key = json.dumps([voice.engine, voice.settings, utterance.text, speed], sort_keys=True)
    path = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.wav"
    if not path.exists():
        audio, rate = ENGINES[voice.engine](utterance.text, voice.settings, speed)
        part = path.with_suffix(".part")
        soundfile.write(part, audio, rate, format="WAV", subtype="FLOAT")
        part.replace(path)
    audio, rate = soundfile.read(path, dtype="float32")
    return np.asarray(audio, np.float32), int(rate)


def _number(text: str) -> int:
    """A 32-bit number from a text, the same on every machine (unlike `hash`)."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def _row(utterance: Utterance, audio: str, samples: int, sha256: str) -> dict[str, object]:
    """The manifest's line of an utterance; keys in the documented order."""
    return {
        "id": utterance.id,
        "kind": utterance.kind,
        "split": utterance.split,
        "audio": audio,
        "samples": samples,
        "speaker": utterance.voice.speaker,
        "engine": utterance.voice.engine,
        "text": utterance.text,
        "phones": utterance.phones,
        "session": utterance.session,
        "segment": utterance.segment,
        "entities": [asdict(entity) for entity in utterance.entities],
        "sentiment": utterance.sentiment,
        "conditions": asdict(utterance.conditions),
        "sha256": sha256,
    }


def _make(utterance: Utterance, out: Path, cache: Path, seed: int) -> dict[str, object]:
    """Make the audio file of one utterance and its row."""
    raw, rate = synthesise(utterance, cache)
    serial = _number(f"{seed}/{utterance.id}")
    audio = acoustics.render(raw, rate, utterance.voice.warp, utterance.conditions, serial)
    name = f"audio/{utterance.split}/{utterance.id}.ogg"
    samples = ogg.write(out / name, audio, acoustics.SAMPLE_RATE, serial)
    sha256 = hashlib.sha256((out / name).read_bytes()).hexdigest()
    return _row(utterance, name, samples, sha256)


def warm(engines: Sequence[str], seed: int, cache: Path) -> None:
    """Only fill the cache with what these engines have to say (the slow part)."""
    cache.mkdir(parents=True, exist_ok=True)
    plan = make_plan(seed, lexicon.load_pocketsphinx())
    for utterance in tqdm([u for u in plan if u.voice.engine in engines], unit="utt"):
        synthesise(utterance, cache)


def build(
    out: Path, seed: int, cache: Path | None = None, planned: Plan = make_plan
) -> list[dict[str, object]]:
    """Write audio, `manifest.jsonl` and `lexicon.txt` to `out`; gives the manifest's rows."""
    words: Mapping[str, list[str]] = lexicon.load_pocketsphinx()
    plan = planned(seed, words)
    with tempfile.TemporaryDirectory() as temporary:
        store = cache or Path(temporary)
        store.mkdir(parents=True, exist_ok=True)
        rows = [_make(utterance, out, store, seed) for utterance in tqdm(plan, unit="utt")]
    kept = {str(row["audio"]) for row in rows}
    for old in sorted((out / "audio").rglob("*.ogg")):  # of an earlier plan
        if old.relative_to(out).as_posix() not in kept:
            old.unlink()
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (out / "manifest.jsonl").write_text("".join(lines), encoding="utf-8")
    lexicon.write(out / "lexicon.txt", " ".join(u.text for u in plan).split(), words)
    return rows
