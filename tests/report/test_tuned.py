"""Hours of tuning, and steps to the base's best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from ssft_bench import cost
from ssft_bench.report.collect import Run, collect
from ssft_bench.report.convergence import speedups
from ssft_bench.report.tuned import Tunings
from ssft_bench.upstream import load_upstream, weights_sha256
from tests.report.runs import finish, texts

ROOT = Path(__file__).resolve().parents[2]


def hours_in(name: str) -> float:
    """What the metadata of a packaged checkpoint says, read without our code."""
    (path,) = ROOT.glob(f"upstreams/*/{name}.safetensors")
    with safe_open(path, "np") as file:
        return float(json.loads(file.metadata()["about"])["hours_processed"])


def old_run(tmp_path: Path, rng: np.random.Generator, weights: str = "w", **choice: Any) -> Run:
    """A run whose record does not tell of tuning yet."""
    folder = finish(tmp_path, texts(rng, 8, 0.4))
    record = json.loads((folder / "result.json").read_text())
    del record["cost"]["tuning"]
    record["content"]["upstream_weights"] = weights
    record["spec"]["upstream"] = {"name": "fbank", "options": {}, **choice}
    (folder / "result.json").write_text(json.dumps(record))
    return collect(tmp_path).runs[0]


@pytest.mark.parametrize(
    ("name", "options", "wanted"),
    [
        ("score_hubert", {}, ["score_hubert"]),
        ("hubert_mini", {}, []),
        ("score_hubert+spin_hubert", {}, ["score_hubert", "spin_hubert"]),
        ("context_hubert", {"base": "laser_hubert"}, ["laser_hubert"]),
    ],
)
def test_hours_are_those_of_the_checkpoint(
    name: str, options: dict[str, Any], wanted: list[str], tmp_path: Path, rng: np.random.Generator
) -> None:
    upstream = load_upstream(name, options)
    told = cost.tuning(upstream)
    assert [one["hours_processed"] for one in told] == [hours_in(own) for own in wanted]
    assert all(one["base"] == "hubert_mini" for one in told)
    run = old_run(tmp_path, rng, weights_sha256(upstream), name=name, options=options)
    found = Tunings().of(run)
    assert found.hours == pytest.approx(sum(hours_in(own) for own in wanted))
    assert found.base == ("hubert_mini" if wanted else None)


def test_a_record_that_tells_is_believed(tmp_path: Path, rng: np.random.Generator) -> None:
    finish(tmp_path, texts(rng, 8, 0.4), upstream="score_hubert", hours=7.25)
    found = Tunings().of(collect(tmp_path).runs[0])
    assert (found.hours, found.base, found.remark) == (7.25, "b", "from the record")


@pytest.mark.parametrize(
    ("choice", "hours", "remark"),
    [
        ({"name": "score_hubert"}, None, "weights have changed"),
        ({"name": "fbank"}, 0.0, "not tuned"),
        ({"name": "hf_hubert_custom", "options": {"ckpt": "x"}}, None, "not known of the model x"),
        ({"name": "somewhere/mine.py:Mine"}, None, "plug-in"),
        ({"name": "score_hubert_local", "options": {"ckpt": "/no/file"}}, None, "is not here"),
    ],
)
def test_what_is_not_known_is_not_zero(
    choice: dict[str, Any],
    hours: float | None,
    remark: str,
    tmp_path: Path,
    rng: np.random.Generator,
) -> None:
    found = Tunings().of(old_run(tmp_path, rng, **choice))
    assert found.hours == hours
    assert remark in found.remark


def test_steps_to_the_bases_best(tmp_path: Path, rng: np.random.Generator) -> None:
    curves = {
        ("hubert_mini", 1): [(100, 60.0), (200, 50.0), (300, 40.0), (400, 45.0)],
        ("hubert_mini", 2): [(100, 60.0), (200, 44.0), (300, 44.0), (400, 45.0)],
        ("fbank", 1): [(100, 39.0), (200, 38.0), (300, 37.0), (400, 36.0)],  # 100 / 300
        ("fbank", 2): [(100, 50.0), (200, 48.0), (300, 46.0), (400, 44.0)],  # 400 / 200
        ("fbank", 3): [(100, 1.0), (200, 1.0), (300, 1.0), (400, 1.0)],  # no base with this seed
    }
    for (upstream, seed), curve in curves.items():
        finish(tmp_path, texts(rng, 8, 0.4), upstream=upstream, seed=seed, curve=curve)
    (group,) = collect(tmp_path).groups
    found = speedups(group, "hubert_mini")
    assert found is not None
    (row,) = found.rows
    assert (row.upstream, row.pairs, row.reached) == ("fbank", 2, 2)
    assert row.ratio == pytest.approx((1 / 3 + 2) / 2)
    assert found.grid == 100
    assert speedups(group, "wavlm") is None
