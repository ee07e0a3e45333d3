"""What a text-to-speech engine is."""

from __future__ import annotations

from typing import Protocol

from ssft_bench.perturbation.resampling import Wave


class Engine(Protocol):
    """A voice that speaks English text. The same text must give the same wave."""

    @property
    def name(self) -> str:
        """The engine's name."""

    @property
    def voice(self) -> str:
        """Its voice's name."""

    @property
    def version(self) -> str:
        """Its version as it tells it."""

    def speak(self, text: str) -> Wave:
        """float32 [samples] at 16 kHz, within [-1, 1]. Raises UsageError when nothing is spoken."""


def engine_id(engine: Engine) -> str:
    """`name:voice:version`, what a result and a cache name."""
    return f"{engine.name}:{engine.voice}:{engine.version}"
