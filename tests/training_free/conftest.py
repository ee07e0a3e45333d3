"""Fixtures: the corpus of tones and a QbE run on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.training_free.toy import Bench, Run, corpus_of_tones


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    (tmp_path / "tones").mkdir()
    return corpus_of_tones(tmp_path / "tones")


@pytest.fixture
def common(tones: Path, toy_plugins: Path, tmp_path: Path) -> list[str]:
    return [
        "run", "--upstream", f"{toy_plugins}/spectrum.py:Spectrum", "--corpus", f"mini:folder={tones}",
        "--out", str(tmp_path / "runs"), "--json",
    ]  # fmt: skip


@pytest.fixture
def run(bench: Bench, common: list[str]) -> Run:
    """The record of a QbE run through an interface."""

    def call(interface: str, *more: object) -> dict[str, Any]:
        code, out, err = bench(*common, "--interface", interface, "--task", "qbe", *more)
        assert code == 0, err
        record: dict[str, Any] = json.loads(out)
        return record

    return call
