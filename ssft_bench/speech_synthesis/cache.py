"""Spoken texts kept on disk, each synthesised once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from pathlib import Path

import soundfile

from ssft_bench.audio import RATE, read_audio
from ssft_bench.digests import cache_folder
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.files import atomic_path, write_json
from ssft_bench.perturbation.resampling import Wave
from ssft_bench.progress import Progress
from ssft_bench.speech_synthesis.engine import Engine, engine_id

RECORD = "engine.json"
"""The file in a cache that names its engine."""


def speech_folder(engine: Engine) -> Path:
    """Where the speech of `engine` is kept by default: `speech/ENGINE` in the cache folder."""
    return cache_folder() / "speech" / re.sub(r"[^A-Za-z0-9.+-]+", "-", engine_id(engine))


class SpeechCache:
    """Speech of one engine, one FLAC file (16 bit, 16 kHz) per text.

    Without an engine it reads a folder that was filled before, on a machine that has none. Texts
    are compared in lower case with single spaces, and so they are spoken. Raises MissingError
    when neither the folder nor the caller names an engine, UsageError when the two disagree.
    """

    def __init__(self, folder: Path, engine: Engine | None = None) -> None:
        self.folder, self.engine = folder, engine
        recorded = self._recorded()
        given = engine_id(engine) if engine else None
        if recorded and given and recorded != given:
            raise UsageError(
                f"{folder / RECORD}: this speech was made by {recorded}, not by {given}; "
                "give another folder, or no engine to use what is there"
            )
        if not (recorded or given):
            raise MissingError(
                f"{folder / RECORD} is missing: no speech has been made there yet; give an engine"
            )
        self.engine_id = str(given or recorded)
        """`name:voice:version` of the engine that speaks."""

    def path(self, text: str) -> Path:
        """The file of `text`, there or not."""
        key = hashlib.sha256(f"{self.engine_id}\n{_spoken(text)}".encode()).hexdigest()
        return self.folder / key[:2] / f"{key}.flac"

    def missing(self, texts: Iterable[str]) -> list[str]:
        """The texts without a file, each once, in order, as they will be spoken."""
        different = dict.fromkeys(_spoken(text) for text in texts)
        return [text for text in different if not self.path(text).exists()]

    def read(self, text: str, utterance: str = "") -> Wave:
        """float32 [samples] at 16 kHz. Raises MissingError that names the utterance and its text."""
        path = self.path(text)
        if not path.exists():
            whose = f"utterance {utterance}: " if utterance else ""
            raise MissingError(
                f"{whose}no speech by {self.engine_id} in {self.folder} for the text {text!r}; "
                "prepare it where that engine is installed"
            )
        return read_audio(path)

    def prepare(
        self, texts: Iterable[str], progress: Progress | None = None, *, jobs: int = 2
    ) -> int:
        """Synthesise what is missing, `jobs` texts at a time; how many that were.

        `progress` advances by one per text; by default there is one of its own. What is done stays done
        when it is interrupted. Raises MissingError when something is missing and there is no
        engine, and what the engine raises.
        """
        todo = self.missing(texts)
        if not todo:
            return 0
        if self.engine is None:
            raise MissingError(
                f"{self.folder} lacks the speech of {len(todo)} texts, the first is {todo[0]!r}; "
                f"prepare it where {self.engine_id} is installed"
            )
        self._record(self.engine)
        label = f"speech by {self.engine.name}"
        shown_by = nullcontext(progress) if progress else Progress(label, len(todo), unit="text")
        with shown_by as shown:
            self._make(self.engine, todo[0])  # alone: an engine may load a model
            shown.advance()
            with ThreadPoolExecutor(jobs) as pool:
                running = [pool.submit(self._make, self.engine, text) for text in todo[1:]]
                try:
                    for done in as_completed(running):
                        done.result()
                        shown.advance()
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
        return len(todo)

    def _make(self, engine: Engine, text: str) -> None:
        wave = engine.speak(text)
        with atomic_path(self.path(text)) as temporary:
            soundfile.write(temporary, wave, RATE, format="FLAC", subtype="PCM_16")

    def _record(self, engine: Engine) -> None:
        """Name the engine in the folder."""
        if not (self.folder / RECORD).exists():
            facts = {"name": engine.name, "voice": engine.voice, "version": engine.version}
            write_json(self.folder / RECORD, facts)

    def _recorded(self) -> str | None:
        """The engine that the folder names, if it names one."""
        path = self.folder / RECORD
        if not path.exists():
            return None
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            return f"{facts['name']}:{facts['voice']}:{facts['version']}"
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path}: cannot be read ({error}); remove the folder") from error


def _spoken(text: str) -> str:
    """Lower case, since some engines spell capitals, and single spaces."""
    return " ".join(text.lower().split())
