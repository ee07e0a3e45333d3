"""Steps to the base's best: by hand, and every way in which two runs cannot be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssft_bench import results
from ssft_bench.analysis.convergence import (
    compare,
    median_ratio,
    pairs_of,
    read_curve,
    report,
)
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.results import MetricValue, ResultRecord
from ssft_bench.spec import RunSpec, resolve


@pytest.fixture(scope="module")
def spec() -> RunSpec:
    return resolve(upstream="fbank", interface="weighted_sum", task="pr")


def finished(
    folder: Path,
    spec: RunSpec,
    values: list[float],
    *,
    steps: list[int] | None = None,
    higher: bool = False,
    upstream: str = "tuned",
    **changes: Any,
) -> Path:
    """A record with this dev curve; `changes` are of the specification, dots as double underscores."""
    dumped = spec.model_dump(mode="json")
    dumped["upstream"] = {"name": upstream, "options": {}}
    for key, value in changes.items():
        *path, last = key.split("__")
        place = dumped
        for part in path:
            place = place[part]
        place[last] = value
    metric = MetricValue(
        name=dumped["selection"]["metric"], split="dev", value=0, unit="%", n=1,
        higher_is_better=higher, ci95=None, ci_method=None, primary=True,
    )  # fmt: skip
    grid = steps or [100 * (i + 1) for i in range(len(values))]
    record = ResultRecord(
        status="done", signature="x", spec=RunSpec.model_validate(dumped), metrics=[metric],
        content={"corpus": "c", "upstream_weights": upstream},
        learning_curve=[
            {"step": s, f"dev_{metric.name}": v} for s, v in zip(grid, values, strict=True)
        ],
    )  # fmt: skip
    results.save(folder, record)
    return folder


def test_ratio_by_hand(tmp_path: Path, spec: RunSpec) -> None:
    base = finished(tmp_path / "b", spec, [90, 60, 40, 30, 30, 35], upstream="base")
    tuned = finished(tmp_path / "t", spec, [70, 29, 31, 20, 22, 21])
    row = compare(*pairs_of([base], [tuned])[0])
    assert (row["base_best"], row["base_step"]) == (30, 400)  # the first of two equal ones
    assert (row["tuned_step"], row["ratio"]) == (200, 0.5)
    assert (row["tuned_best"], row["tuned_best_step"], row["grid"]) == (20, 400, 100)
    back = compare(*pairs_of([tuned], [base])[0])
    assert (back["tuned_step"], back["ratio"]) == (None, None)


def test_ratio_equals_a_plain_search(tmp_path: Path, spec: RunSpec) -> None:
    seed = int(np.random.default_rng().integers(2**31))
    rng = np.random.default_rng(seed)
    for higher in (False, True):
        ours, theirs = rng.integers(0, 20, (2, 15)).astype(float).tolist()
        base = finished(tmp_path / f"b{higher}", spec, ours, higher=higher)
        tuned = finished(tmp_path / f"t{higher}", spec, theirs, higher=higher)
        row = compare(read_curve(base), read_curve(tuned))
        target = max(ours) if higher else min(ours)
        at = 100 * (ours.index(target) + 1)
        enough = [
            100 * (i + 1) for i, v in enumerate(theirs) if (v >= target if higher else v <= target)
        ]
        assert row["base_step"] == at, seed
        assert row["ratio"] == (enough[0] / at if enough else None), seed


def test_a_nan_is_never_the_best(tmp_path: Path, spec: RunSpec) -> None:
    base = read_curve(finished(tmp_path / "b", spec, [50, 40]))
    values = (float("nan"), 45.0)
    broken = type(base)(base.folder, base.record, base.steps, values, False)
    assert broken.best() == (200, 45.0)
    assert broken.reaches(50) == 200


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 2}, "seed (1 and 2)"),
        ({"interface__name": "hconv"}, "interface.name ('weighted_sum' and 'hconv')"),
        ({"task__name": "asr"}, "task.name ('pr' and 'asr')"),
        ({"data__corpus": "an4"}, "data.corpus ('mini' and 'an4')"),
        ({"data__max_utterances": 10}, "data.max_utterances (None and 10)"),
        ({"train__optimizer__lr": 0.5}, "train.optimizer.lr"),
        ({"steps": [50, 200]}, "steps at which they were evaluated"),
    ],
)
def test_runs_that_differ_in_more_than_the_upstream_are_refused(
    tmp_path: Path, spec: RunSpec, change: dict[str, Any], named: str
) -> None:
    base = finished(tmp_path / "b", spec, [2, 1], upstream="base")
    tuned = finished(tmp_path / "t", spec, [2, 1], **change)
    with pytest.raises(UsageError) as refusal:
        pairs_of([base], [tuned])
    assert named in str(refusal.value)
    assert "Only the upstream may differ" in str(refusal.value)


def test_other_bytes_of_the_corpus_are_refused_and_another_place_is_not(
    tmp_path: Path, spec: RunSpec
) -> None:
    base = finished(tmp_path / "b", spec, [2, 1])
    moved = finished(tmp_path / "t", spec, [2, 1], data__root="elsewhere", train__save_every=7)
    assert len(pairs_of([base], [moved])) == 1
    record = results.load(moved)
    assert record is not None
    record.content["corpus"] = "other"
    results.save(moved, record)
    with pytest.raises(UsageError, match="bytes"):
        pairs_of([base], [moved])


def test_several_pairs(tmp_path: Path, spec: RunSpec) -> None:
    bases = [finished(tmp_path / f"b{s}", spec, [5, 3, 3], seed=s) for s in (1, 2, 3)]
    curves = ([3, 3, 3], [4, 4, 3], [9, 9, 9])
    tuned = [
        finished(tmp_path / f"t{s}", spec, list(map(float, v)), seed=s)
        for s, v in zip((1, 2, 3), curves, strict=True)
    ]
    made = report(pairs_of(bases, tuned), {})
    assert [row["ratio"] for row in made.rows] == [0.5, 1.5, None]
    assert made.settings["median_ratio"] == 1.5
    assert "1 of 3 never reached" in made.markdown()
    assert median_ratio([{"ratio": None}, {"ratio": None}, {"ratio": 1.0}]) is None
    assert median_ratio([{"ratio": 1.0}, {"ratio": 2.0}]) == 1.5
    with pytest.raises(UsageError, match="2 --base and 3 --tuned"):
        pairs_of(bases[:2], tuned)
    with pytest.raises(UsageError, match=r"seed \(1 and 2\)"):
        pairs_of(bases[:1], tuned)


def test_a_run_that_is_not_there_or_not_done(tmp_path: Path, spec: RunSpec) -> None:
    with pytest.raises(MissingError, match=r"no result\.json"):
        read_curve(tmp_path)
    folder = finished(tmp_path / "b", spec, [2, 1])
    assert read_curve(folder / "result.json").best() == (200, 1)
    record = results.load(folder)
    assert record is not None
    record.learning_curve = []
    results.save(folder, record)
    with pytest.raises(UsageError, match="no dev scores of per"):
        read_curve(folder)
    record.status = "running"
    results.save(folder, record)
    with pytest.raises(MissingError, match="is running, not done"):
        read_curve(folder)
