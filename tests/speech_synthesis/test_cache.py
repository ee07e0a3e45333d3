"""The cache: what is spoken once stays, and what is missing is named."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ssft_bench.errors import MissingError, UsageError
from ssft_bench.perturbation import Wave
from ssft_bench.progress import Progress
from ssft_bench.speech_synthesis import SpeechCache, pick_engine, speech_folder
from tests.speech_synthesis.programs import only


class Voice:
    """An engine that hums: its wave follows from the text alone."""

    name, version = "hum", "1.0"

    def __init__(self, voice: str = "low", fails_on: str = "\0") -> None:
        self.voice, self.fails_on, self.spoken = voice, fails_on, list[str]()

    def speak(self, text: str) -> Wave:
        if self.fails_on in text:
            raise UsageError(f"hum spoke nothing for the text {text!r}")
        self.spoken.append(text)
        rng = np.random.default_rng(list(text.encode()))
        return rng.uniform(-0.9, 0.9, 160 * len(text)).astype(np.float32)


def texts(count: int) -> list[str]:
    rng = np.random.default_rng()
    return [f"TEXT {k} {' '.join(rng.choice(['Ab', 'cD', 'eF'], 4))}" for k in range(count)]


def test_each_text_is_spoken_once_in_lower_case(tmp_path: Path) -> None:
    engine, some = Voice(), texts(9)
    cache = SpeechCache(tmp_path, engine)
    assert cache.prepare([*some, *some, some[0].lower(), some[1] + "  "]) == 9
    assert sorted(engine.spoken) == sorted(text.lower() for text in some)
    assert cache.prepare(some) == 0
    assert len(engine.spoken) == 9
    for text in some:
        np.testing.assert_allclose(cache.read(text), engine.speak(text.lower()), atol=1 / 32768)
        assert soundfile.info(str(cache.path(text))).samplerate == 16000
    assert not np.allclose(cache.read(some[0])[:100], cache.read(some[1])[:100], atol=0.01)


def test_the_key_is_the_engine_and_the_text(tmp_path: Path) -> None:
    cache = SpeechCache(tmp_path, Voice())
    key = hashlib.sha256(b"hum:low:1.0\nhello you").hexdigest()
    assert cache.path("Hello  YOU") == tmp_path / key[:2] / f"{key}.flac"
    assert cache.path("hello you") != SpeechCache(tmp_path / "b", Voice("high")).path("hello you")


def test_a_full_cache_needs_no_engine(tmp_path: Path) -> None:
    some = texts(4)
    SpeechCache(tmp_path, Voice()).prepare(some)
    facts = json.loads((tmp_path / "engine.json").read_text())
    assert facts == {"name": "hum", "voice": "low", "version": "1.0"}
    offline = SpeechCache(tmp_path)
    assert offline.engine_id == "hum:low:1.0"
    assert offline.prepare(some) == 0
    assert len(offline.read(some[2])) > 0
    offline.path(some[1]).unlink()
    with pytest.raises(MissingError, match=f"utterance 19-198-0001: .*{some[1]}"):
        offline.read(some[1], "19-198-0001")
    with pytest.raises(MissingError, match=f"1 texts, the first is '{some[1].lower()}'"):
        offline.prepare(some)


def test_a_folder_belongs_to_one_engine(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"engine\.json is missing"):
        SpeechCache(tmp_path)
    SpeechCache(tmp_path, Voice()).prepare(["one"])
    with pytest.raises(UsageError, match=r"made by hum:low:1\.0, not by hum:high:1\.0"):
        SpeechCache(tmp_path, Voice("high"))
    (tmp_path / "engine.json").write_text("{}")
    with pytest.raises(UsageError, match=r"engine\.json"):
        SpeechCache(tmp_path)


def test_what_was_done_stays_when_a_text_fails(tmp_path: Path) -> None:
    some = texts(6)
    cache = SpeechCache(tmp_path, Voice(fails_on=some[4].lower()))
    with pytest.raises(UsageError, match=some[4].lower()):
        cache.prepare(some)
    assert cache.path(some[0]).exists()
    assert not cache.path(some[4]).exists()
    assert not list(tmp_path.rglob("*.tmp"))
    again = Voice()
    left = len(cache.missing(some))
    assert SpeechCache(tmp_path, again).prepare(some) == left == len(again.spoken)
    assert 1 <= left < 6


def test_progress_counts_every_text(tmp_path: Path) -> None:
    shown = Progress("speech", 5, unit="text")
    SpeechCache(tmp_path, Voice()).prepare(texts(5), shown)
    assert shown.count == 5


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    cache = SpeechCache(tmp_path, Voice())
    cache.prepare(["one"])
    cache.path("one").write_bytes(b"")
    with pytest.raises(MissingError, match=cache.path("one").name):
        cache.read("one")


def test_a_program_fills_the_default_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSFT_BENCH_CACHE", str(tmp_path / "cache"))
    programs = only(tmp_path / "bin", monkeypatch)
    programs.install("text2wave", "festival")
    engine = pick_engine()
    folder = speech_folder(engine)
    assert folder == tmp_path / "cache" / "speech" / "festival-kal-diphone-1.2.3"
    cache = SpeechCache(folder, engine)
    assert cache.prepare(["HELLO", "you there", "hello"]) == 2
    assert sorted(text.strip() for _, _, text in programs.calls) == ["hello", "you there"]
    assert len(cache.read("you THERE")) == 160 * 9
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert len(SpeechCache(folder).read("hello")) == 800
