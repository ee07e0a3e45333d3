"""One function per text-to-speech engine, all with the same form.

Each takes a sentence (upper-case words), the voice's own settings and a speaking rate relative to
that voice's normal one, and gives mono audio with its sampling rate in Hz. The command-line
engines write a wave file that is read back.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from ssft_bench.corpora.mini.make import kokoro as kokoro_model

Audio = tuple[NDArray[np.float32], int]
Settings = Mapping[str, Any]

ESPEAK_WORDS_PER_MINUTE = 150  # slower than its default of 175: the least intelligible engine


def _run(command: list[str], wave: Path, script: str | None = None) -> Audio:
    """Run an engine that writes `wave`; raise with its own words if it does not."""
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not wave.exists():
        raise RuntimeError(f"{command[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    audio, rate = soundfile.read(wave, dtype="float32", always_2d=True)
    return np.asarray(audio.mean(axis=1), np.float32), int(rate)


def _spoken(text: str) -> str:
    """Lower case, since some engines spell capitals, and a full stop for the falling tone."""
    return text.lower() + "."


def flite(text: str, settings: Settings, speed: float) -> Audio:
    """CMU Flite (Debian `flite`); `settings`: voice, stretch (duration factor of the voice)."""
    stretch = settings.get("stretch", 1.0) / speed
    with tempfile.TemporaryDirectory() as folder:
        wave = Path(folder) / "a.wav"
        command = ["flite", "-voice", settings["voice"], "-t", _spoken(text), "-o", str(wave)]
        return _run([*command, "--setf", f"duration_stretch={stretch:.4f}"], wave)


def festival(text: str, settings: Settings, speed: float) -> Audio:
    """Festival (Debian `festival` and `festvox-*`); `settings`: voice (a Scheme function), hts."""
    # HTS voices do not look at Duration_Stretch: their synthesiser has a rate of its own
    rate = (
        f'(set! hts_engine_params (append hts_engine_params (list (list "-r" {speed:.4f}))))\n'
        if settings.get("hts")
        else f"(Param.set 'Duration_Stretch {1.0 / speed:.4f})\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        wave = Path(folder) / "a.wav"
        script = (
            f"({settings['voice']})\n"
            f"{rate}"
            f'(set! utt (utt.synth (Utterance Text "{_spoken(text)}")))\n'
            f'(utt.save.wave utt "{wave}" (quote riff))\n'
        )
        return _run(["festival", "--pipe"], wave, script)


def espeak(text: str, settings: Settings, speed: float) -> Audio:
    """espeak-ng (Debian `espeak-ng`); `settings`: voice (with variant), pitch 0-99."""
    rate = round(ESPEAK_WORDS_PER_MINUTE * settings.get("rate", 1.0) * speed)
    with tempfile.TemporaryDirectory() as folder:
        wave = Path(folder) / "a.wav"
        command = ["espeak-ng", "-v", settings["voice"], "-p", str(settings.get("pitch", 50))]
        return _run([*command, "-s", str(rate), "-w", str(wave), _spoken(text)], wave)


def kokoro(text: str, settings: Settings, speed: float) -> Audio:
    """Kokoro-82M; `settings`: timbre, prosody (weights of style tables), rate."""
    timbre = settings["timbre"]
    prosody = settings.get("prosody", timbre)
    audio = kokoro_model.speak(text, timbre, prosody, speed * settings.get("rate", 1.0))
    return audio, kokoro_model.SAMPLE_RATE


ENGINES: dict[str, Callable[[str, Settings, float], Audio]] = {
    "flite": flite,
    "festival": festival,
    "espeak": espeak,
    "kokoro": kokoro,
}
