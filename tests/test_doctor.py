"""`ssft-bench doctor` tells what is there and how to get the rest."""

from __future__ import annotations

import pytest

from ssft_bench import doctor
from ssft_bench.speech_synthesis import choose


def found(what: str) -> dict[str, str]:
    return next(f for f in doctor.examine(None) if f["what"] == what)


def test_the_speech_synthesiser(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in choose._present:
        monkeypatch.setitem(choose._present, name, lambda: False)
    absent = found("text to speech")
    assert absent["status"] == "absent"
    assert "festival" in absent["found"]
    monkeypatch.setitem(choose._present, "flite", lambda: True)
    monkeypatch.setattr("ssft_bench.speech_synthesis.engine_id", lambda engine: f"{engine.name}!")
    assert found("text to speech") == {"what": "text to speech", "status": "ok", "found": "flite!"}
