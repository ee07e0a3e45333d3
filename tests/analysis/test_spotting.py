"""Spotting against plain recursion, and on speech that was put together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ssft_bench.alignment.subsequence_dtw import subsequence_cost
from ssft_bench.analysis import spotting
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.corpora.mini_corpus import Mini
from ssft_bench.upstream import load_upstream


def test_a_term_inside_costs_nothing() -> None:
    rng = np.random.default_rng()
    term, before, after = (rng.standard_normal((n, 5)) for n in (6, 9, 4))
    utterance = np.concatenate([before, term, after])
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (term, utterance, after)]
    assert subsequence_cost(1 - unit[0] @ unit[1].T) == pytest.approx(0, abs=1e-6)
    assert subsequence_cost(1 - unit[0] @ unit[2].T) > 0.05  # the control


def test_what_an_utterance_says() -> None:
    row = Utterance("u", Path("u"), "test", text="THE ART OF STARTING")
    assert spotting.says(row, "ART")
    assert spotting.says(row, "ART OF")
    assert not spotting.says(row, "START")


def test_on_the_embedded_corpus() -> None:
    splits = spotting.terms(Mini())
    few = {"test": (splits["test"][0][:4], splits["test"][1][:40])}
    heard = [
        q for q in few["test"][0] if any(spotting.says(u, str(q.text)) for u in few["test"][1])
    ]
    rows = spotting.measure(load_upstream("fbank", {}), [0], few)
    assert rows[0]["queries"] == len(heard) > 0
    assert 0 <= rows[0]["map_ci95"][0] <= rows[0]["map"] <= rows[0]["map_ci95"][1] <= 100
    assert rows[0]["chance"] < 40


def test_the_command(
    bench: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    splits = spotting.terms(Mini())
    few = {"test": (splits["test"][0][:3], splits["test"][1][:30])}
    monkeypatch.setattr(spotting, "terms", lambda corpus: few)
    code, out, err = bench("analyse", "spotting", "--upstream", "fbank", "-o", tmp_path, "--json")
    assert code == 0, err
    assert json.loads(out)["rows"][0]["upstream"] == "fbank"
    assert (tmp_path / "spotting.png").stat().st_size > 1000
    code, _, err = bench("analyse", "spotting", "--upstream", "fbank", "--corpus", "an4")
    assert code == 3
    assert "--data" in err
