"""Which engine speaks."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from ssft_bench.errors import MissingError, UsageError
from ssft_bench.speech_synthesis.commands import Espeak, Festival, Flite
from ssft_bench.speech_synthesis.engine import Engine
from ssft_bench.speech_synthesis.kokoro import Kokoro, installed

ENGINES: dict[str, tuple[type[Festival] | type[Flite] | type[Espeak] | type[Kokoro], str]] = {
    "festival": (Festival, "apt-get install festival festvox-kallpc16k"),
    "flite": (Flite, "apt-get install flite"),
    "kokoro": (Kokoro, "pip install 'ssft-bench[tts]'"),
    "espeak": (Espeak, "apt-get install espeak-ng"),
}
"""Class and way to get it, by name."""
AUTO = ("festival", "flite", "kokoro")
"""What `auto` tries, in this order: the paper's engine first."""

_present: dict[str, Callable[[], bool]] = {
    "festival": lambda: shutil.which("text2wave") is not None,
    "flite": lambda: shutil.which("flite") is not None,
    "espeak": lambda: shutil.which("espeak-ng") is not None,
    "kokoro": installed,
}


def pick_engine(name: str = "auto", voice: str | None = None) -> Engine:
    """The engine of that name, with its default voice unless one is given.

    `auto` takes the first of Festival, Flite and Kokoro that is there. Raises UsageError on an unknown
    name or a voice without an engine, MissingError when the engine is not installed, with the ways to
    get it.
    """
    if name == "auto":
        found = next((one for one in AUTO if _present[one]()), None)
        if found is None:
            ways = "; or ".join(ENGINES[one][1] for one in AUTO)
            raise MissingError(f"no speech synthesiser is installed: {ways}")
        name = found if voice is None else _refuse_voice(voice)
    if name not in ENGINES:
        raise UsageError(f"speech engine {name!r}: give auto, {', '.join(ENGINES)}")
    kind, way = ENGINES[name]
    if not _present[name]():
        raise MissingError(f"the speech synthesiser {name} is not installed: {way}")
    return kind() if voice is None else kind(voice)


def _refuse_voice(voice: str) -> str:
    raise UsageError(f"voice {voice!r} of which engine? Name one of {', '.join(ENGINES)}")
