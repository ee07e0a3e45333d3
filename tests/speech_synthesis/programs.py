"""Small programs that stand in for synthesisers on PATH."""

from __future__ import annotations

import json
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

_SCRIPT = """#!{python}
import json, pathlib, sys, wave
arguments = sys.argv[1:]
home = pathlib.Path({home!r})
if "--version" in arguments:
    print("fake speech 1.2.3"); sys.exit()
if "-lv" in arguments:
    print("Voices available: rms slt"); sys.exit()
words = pathlib.Path(arguments[-1]).read_text(encoding="utf-8")
with (home / "calls").open("a") as log:
    log.write(json.dumps([pathlib.Path(sys.argv[0]).name, arguments, words]) + "\\n")
if "(voice_absent)" in arguments:
    print("SIOD ERROR: unbound variable : voice_absent", file=sys.stderr); sys.exit()
if "silence" in words:
    sys.exit()
out = arguments[arguments.index("-w" if "-w" in arguments else "-o") + 1]
with wave.open(out, "wb") as file:
    file.setnchannels(1); file.setsampwidth(2); file.setframerate({rate})
    count = {rate} // 100 * len(words.strip())
    file.writeframes(b"".join((len(words) * 50 * (-1) ** (i // 40)).to_bytes(2, "little", signed=True)
                              for i in range(count)))
"""


@dataclass(frozen=True)
class Programs:
    """A folder that is all of PATH, and what was called in it."""

    folder: Path

    def install(self, *names: str, rate: int = 16000) -> None:
        """A program of each name: 10 ms of sound per character of the text."""
        for name in names:
            path = self.folder / name
            text = _SCRIPT.format(python=sys.executable, home=str(self.folder), rate=rate)
            path.write_text(text)
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    @property
    def calls(self) -> list[tuple[str, list[str], str]]:
        """(program, arguments, text) of each synthesis, in order."""
        log = self.folder / "calls"
        return (
            [tuple(json.loads(line)) for line in log.read_text().splitlines()]
            if log.exists()
            else []
        )


def only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """An empty PATH to install programs in."""
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return Programs(folder)
