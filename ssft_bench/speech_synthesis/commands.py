"""Engines that are programs of their own. Text reaches them in a file, never through a shell."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ssft_bench.audio import BrokenAudio, read_audio
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.perturbation.resampling import Wave

PATIENCE = 300.0
"""Seconds that one text may take."""
SILENCE = 1e-4
"""Peak below which nothing was spoken."""


@dataclass(frozen=True)
class Festival:
    """Festival's `text2wave` (Debian: `festival`, `festvox-kallpc16k`), the engine of Rewiring."""

    voice: str = "kal_diphone"
    name: str = "festival"

    @property
    def version(self) -> str:
        """As `festival --version` says it."""
        return _version(_found("festival"))

    def speak(self, text: str) -> Wave:
        """float32 [samples] at 16 kHz. Raises MissingError without the program or the voice."""
        load = f"(voice_{_plain(self.voice)})"
        return _speak(self, text, ["text2wave", "-F", "16000", "-eval", load, "-o"], [])


@dataclass(frozen=True)
class Flite:
    """CMU Flite (Debian: `flite`)."""

    voice: str = "rms"
    name: str = "flite"

    @property
    def version(self) -> str:
        """As `flite --version` says it."""
        return _version(_found("flite"))

    def speak(self, text: str) -> Wave:
        """float32 [samples] at 16 kHz. Raises MissingError without the program or the voice."""
        voices = _flite_voices(_found("flite"))
        if self.voice not in voices:  # it would take another one and say nothing
            raise MissingError(f"flite has no voice {self.voice!r}; it has {', '.join(voices)}")
        return _speak(self, text, ["flite", "-voice", self.voice, "-o"], ["-f"])


@dataclass(frozen=True)
class Espeak:
    """eSpeak NG (Debian: `espeak-ng`), only as a program: its library is under the GPL."""

    voice: str = "en-us"
    name: str = "espeak"

    @property
    def version(self) -> str:
        """As `espeak-ng --version` says it."""
        return _version(_found("espeak-ng"))

    def speak(self, text: str) -> Wave:
        """float32 [samples] at 16 kHz. Raises MissingError without the program or the voice."""
        return _speak(self, text, ["espeak-ng", "-v", _plain(self.voice), "-w"], ["-f"])


def _speak(
    engine: Festival | Flite | Espeak, text: str, before: Sequence[str], after: Sequence[str]
) -> Wave:
    """Run `before WAVE after TEXTFILE` and read the wave."""
    if not any(sign.isalnum() for sign in text):  # Flite murmurs at such a text
        raise UsageError(f"{engine.name}: no word in the text {text!r}; take it out of the list")
    with tempfile.TemporaryDirectory(prefix="ssft-speech-") as folder:
        script, spoken = Path(folder) / "text.txt", Path(folder) / "speech.wav"
        script.write_text(text.strip() + "\n", encoding="utf-8")
        done = _run([*before, str(spoken), *after, str(script)])
        words = " ".join((done.stderr or done.stdout).split())
        if "voice" in words and _failed(done, spoken):
            raise MissingError(f"{engine.name}: voice {engine.voice!r} does not load: {words}")
        try:
            wave = read_audio(spoken)
        except BrokenAudio:
            wave = np.zeros(0, np.float32)
    if not np.abs(wave).max(initial=0.0) > SILENCE:
        why = f": {words}" if words else "; take it out of the list"
        raise UsageError(f"{engine.name} spoke nothing for the text {text!r}{why}")
    return np.clip(wave, -1.0, 1.0)


def _failed(done: subprocess.CompletedProcess[str], wave: Path) -> bool:
    """Whether a program failed. Festival ends with 0 whatever happens, so the wave tells."""
    return done.returncode != 0 or not wave.exists() or wave.stat().st_size == 0


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a program without a shell and without input."""
    try:
        return subprocess.run(
            [_found(command[0]), *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MissingError(f"{command[0]} did not end within {PATIENCE:.0f} s") from error


def _plain(voice: str) -> str:
    """A voice's name, refused when it could be anything else (Festival reads it as a program)."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_+.-]*", voice):
        raise UsageError(f"voice {voice!r}: letters, digits and _ + . - only")
    return voice


def _found(program: str) -> str:
    """Its full path. Raises MissingError when it is not on PATH."""
    place = shutil.which(program)
    if place is None:
        raise MissingError(f"the speech synthesiser {program} is not installed (not on PATH)")
    return place


@functools.cache
def _flite_voices(program: str) -> list[str]:
    """From its line `Voices available: kal rms ...`."""
    return _run([program, "-lv"]).stdout.split(":")[-1].split()


@functools.cache
def _version(program: str) -> str:
    """The first number such as 2.5.0 in what a program says about itself."""
    done = _run([program, "--version"])
    found = re.search(r"\d+(?:\.\d+)+", done.stdout + done.stderr)
    return found.group() if found else "unknown"
