"""`ssft-bench doctor` tells what is there and how to get the rest."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

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


def test_every_optional_package_is_listed_with_the_extra_that_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = Path(__file__).parent.parent / "pyproject.toml"
    extras = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    declared = {
        extra: tuple(Requirement(text).name for text in texts)
        for extra, texts in extras.items()
        if extra not in ("test", "lint")
    }
    assert declared == doctor.EXTRAS

    def nothing(name: str) -> str:
        raise doctor.PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", nothing)
    assert found("submitit")["status"] == "absent"
    assert found("submitit")["found"] == "pip install 'ssft-bench[slurm]'"
    assert found("torch")["status"] == "broken"
