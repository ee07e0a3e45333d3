"""leaderboard build: columns that scripts rely on, places, seeds, marks, flags."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from ssft_bench import leaderboard, results
from ssft_bench.comparison import paired
from ssft_bench.comparison.corrections import holm
from ssft_bench.leaderboard.entries import entries, finished, metric_of, pooled_interval
from ssft_bench.metric import Prediction
from tests.leaderboard.conftest import Derive

FORMER = (
    "suite", "corpus", "synthetic", "stands_in", "task", "metric", "unit", "higher_is_better", "upstream",
    "interface", "protocol", "seed", "value", "ci_low", "ci_high", "utterances", "ci_method",
    "interface_parameters", "head_parameters", "upstream_parameters", "macs_per_second",
    "steps", "lr", "best_step", "events", "signature",
)  # fmt: skip
"""Of version 0.1.0: scripts read them by name and place."""


def speakers(n: int, each: int) -> list[Prediction]:
    """Sentences of ten phones by n speakers."""
    said = "AA B K D IY S T N M L"
    return [
        Prediction(f"u{s:02}-{i}", said, said, f"s{s:02}") for s in range(n) for i in range(each)
    ]


def damaged(errors: int, extra: int = 0, seed: int = 0) -> object:
    """Hypotheses with `errors` phones wrong, and now and then `extra` more."""
    rng = np.random.default_rng(seed)

    def of(p: Prediction) -> str:
        words = p.reference.split()
        for i in range(errors + (extra if rng.random() < 0.5 else 0)):
            words[i] = "ZH"
        return " ".join(words)

    return of


def test_former_columns_stay(runs: Path) -> None:
    table = leaderboard.build(runs)
    assert tuple(table.columns)[: len(FORMER)] == FORMER
    assert len(table) == 4
    assert list(table[table["task"] == "pr"]["value"]) == sorted(
        table[table["task"] == "pr"]["value"]
    )
    for folder, record in results.find_all(runs):
        (row,) = table[table["signature"] == record.signature].to_dict("records")
        primary = record.primary()
        assert primary is not None
        assert primary.ci95 is not None
        assert (row["value"], row["ci_low"]) == (round(primary.value, 4), round(primary.ci95[0], 4))
        assert row["hours_encoded"] == round(record.cost["speech_hours_encoded"], 4), folder


def test_the_layer_that_dev_picked_is_told(derive: Derive, tmp_path: Path) -> None:
    folder, record = derive(tmp_path, "qbe", lambda p: p.hypothesis)
    record.selection["layer"] = 3
    results.save(folder, record)
    table = leaderboard.build(tmp_path)
    assert table["layer"][0] == "3"
    assert "| layer (dev picked 3) |" in leaderboard.markdown(table)


def test_places_and_ties(derive: Derive, tmp_path: Path) -> None:
    rows = speakers(8, 2)
    for upstream, errors in (("a", 2), ("b", 1), ("c", 2), ("d", 5)):
        derive(tmp_path, "pr", damaged(errors), rows, upstream={"name": upstream, "options": {}})
    table = leaderboard.build(tmp_path, significance=False)
    assert dict(zip(table["upstream"], table["place"], strict=True)) == {
        "b": 1,
        "a": 2,
        "c": 2,
        "d": 3,
    }
    text = leaderboard.markdown(table)
    assert "| b | weighted_sum | **10.00** |" in text
    assert "| a | weighted_sum | *20.00* |" in text
    assert "| d | weighted_sum | 50.00 |" in text


def test_seeds_become_a_mean_with_its_deviation(derive: Derive, tmp_path: Path) -> None:
    rows, out = speakers(8, 2), tmp_path / "runs"
    for seed, errors in ((1, 1), (2, 2), (3, 5)):
        derive(out, "pr", damaged(errors), rows, seed=seed)
    other = derive(out, "pr", damaged(4), rows, seed=1, upstream={"name": "a", "options": {}})
    table = leaderboard.build(out, seeds="mean", significance=False)
    assert len(table) == 2
    (row,) = table[table["upstream"] != "a"].to_dict("records")
    values = [10.0, 20.0, 50.0]
    assert row["value"] == pytest.approx(sum(values) / 3, abs=1e-4)
    deviation = math.sqrt(sum((v - sum(values) / 3) ** 2 for v in values) / 2)
    assert row["sd"] == pytest.approx(deviation, abs=1e-4)
    assert (row["seed"], row["seeds"]) == ("1 2 3", 3)
    assert row["ci_low"] < 20 < 50 - row["ci_low"]
    (alone,) = table[table["upstream"] == "a"].to_dict("records")
    primary = other[1].primary()
    assert primary is not None
    assert alone["ci_low"] == round((primary.ci95 or (0, 0))[0], 4)
    assert "26.67 ± 20.82" in leaderboard.markdown(table)


def test_the_pooled_interval_by_plain_loops(derive: Derive, tmp_path: Path) -> None:
    """Speakers and seeds drawn again, one by one; both ends of the interval agree with the table's."""
    drawn = np.random.SeedSequence().entropy
    rng = np.random.default_rng(drawn)
    rows = speakers(9, 3)
    for seed in (1, 2, 3, 4):
        derive(tmp_path, "pr", damaged(seed, 3, int(rng.integers(1e9))), rows, seed=seed)
    (entry,) = entries(finished([tmp_path]), "mean")
    wrong = [
        {s: sum(w == "ZH" for p in run if p.speaker == s for w in p.hypothesis.split()) for s in
         {p.speaker for p in run}}
        for run in entry.side.predictions(False)
    ]  # fmt: skip
    names = sorted(str(s) for s in wrong[0])
    values = []
    for _ in range(4000):
        some = [names[int(i)] for i in rng.integers(len(names), size=len(names))]
        seeds = rng.integers(4, size=3)
        values.append(
            np.mean([100 * sum(wrong[s][n] for n in some) / (30 * len(some)) for s in seeds])
        )
    low, high = np.quantile(values, [0.025, 0.975])
    found = pooled_interval(metric_of(entry.record), entry.side).ci95
    assert found == pytest.approx((low, high), abs=2.5), drawn
    assert found[1] - found[0] > 5


def test_marks_against_the_best(derive: Derive, tmp_path: Path) -> None:
    rows = speakers(12, 2)
    made = {
        name: derive(tmp_path, "pr", damaged(e, x, s), rows, upstream={"name": name, "options": {}})
        for name, e, x, s in (("best", 1, 0, 1), ("close", 1, 1, 2), ("far", 5, 1, 3))
    }
    table = leaderboard.build(tmp_path).set_index("upstream")
    assert table.loc["best", "mark"] == "reference"
    metric = metric_of(made["best"][1])
    predictions = {n: results.load_predictions(f) for n, (f, _) in made.items()}
    p = {n: paired(metric, predictions[n], predictions["best"], seed=1) for n in ("close", "far")}
    corrected = dict(zip(p, holm([found.p for found in p.values()]), strict=True))
    for name, found in p.items():
        assert table.loc[name, "difference"] == pytest.approx(found.difference, abs=1e-4)
        assert table.loc[name, "p_corrected"] == pytest.approx(corrected[name], abs=1e-4)
    assert table.loc["far", "mark"] == "†"
    text = leaderboard.markdown(table.reset_index()[list(leaderboard.COLUMNS)])
    assert "Δ to the best" in text
    assert "†" in next(line for line in text.splitlines() if line.startswith("| far"))


def test_equal_systems_are_not_marked(derive: Derive, tmp_path: Path) -> None:
    """The control: five systems of the same quality; 20 tables, hardly ever a mark."""
    drawn = np.random.SeedSequence().entropy
    rng = np.random.default_rng(drawn)
    rows, marked = speakers(10, 2), 0
    for repeat in range(20):
        for name in "abc":
            upstream = {"name": name, "options": {}}
            own = damaged(2, 2, int(rng.integers(1e9)))
            derive(tmp_path / str(repeat), "pr", own, rows, upstream=upstream)
        table = leaderboard.build(tmp_path / str(repeat), base="a")
        marked += int(table["mark"].isin(["*", "†"]).any())
    assert marked <= 6, drawn  # 1 expected; more than 6 of 20 at 5 % has probability 3e-5


def test_a_base_is_compared_by_the_same_interface(derive: Derive, tmp_path: Path) -> None:
    rows = speakers(12, 2)
    for name, interface, errors in (
        ("base", "last", 5), ("base", "mean", 3), ("own", "last", 3), ("own", "mean", 4), ("own", "lap", 1),
    ):  # fmt: skip
        derive(
            tmp_path, "pr", damaged(errors), rows,
            upstream={"name": name, "options": {}}, interface={"name": interface, "options": {}},
        )  # fmt: skip
    table = leaderboard.build(tmp_path, base="base").set_index(["upstream", "interface"])
    assert table.loc[("own", "last"), "versus"] == "base/last"
    assert table.loc[("own", "last"), "difference"] == pytest.approx(-20)
    assert table.loc[("own", "last"), "mark"] == "*"
    assert table.loc[("own", "mean"), "mark"] == "†"
    assert table.loc[("own", "lap"), "mark"] == "no row of base to compare with"
    fixed = leaderboard.build(tmp_path, base="base/mean").set_index(["upstream", "interface"])
    assert set(fixed["versus"]) == {"base/mean"}
    assert fixed.loc[("own", "lap"), "difference"] == pytest.approx(-20)
    text = leaderboard.markdown(leaderboard.build(tmp_path, base="base"))
    assert "Δ to base, same interface" in text
    assert "Not compared: no row of base to compare with." in text


def test_other_utterances_are_not_compared(derive: Derive, tmp_path: Path) -> None:
    derive(tmp_path, "pr", damaged(1), speakers(6, 2), upstream={"name": "a", "options": {}})
    derive(tmp_path, "pr", damaged(2), speakers(7, 2), upstream={"name": "b", "options": {}})
    table = leaderboard.build(tmp_path).set_index("upstream")
    assert "not comparable" in table.loc["b", "mark"]
    assert table.loc["b", "difference"] is None


def test_rows_of_another_recipe_are_flagged(derive: Derive, tmp_path: Path) -> None:
    rows = speakers(6, 2)
    derive(tmp_path, "pr", damaged(1), rows, upstream={"name": "a", "options": {}})
    derive(tmp_path, "pr", damaged(2), rows, upstream={"name": "b", "options": {}})
    derive(
        tmp_path, "pr", damaged(3), rows, upstream={"name": "c", "options": {}},
        train__steps=9, train__precision="bf16-mixed", data__root="/elsewhere",
    )  # fmt: skip
    derive(tmp_path, "pr", damaged(3), rows, seed=2, interface={"name": "last", "options": {}})
    table = leaderboard.build(tmp_path).set_index("upstream")
    assert table.loc["c", "flags"] == "train.steps=9; train.precision=bf16-mixed"
    assert (table.drop(index="c")["flags"] == "").all()
    text = leaderboard.markdown(table.reset_index()[list(leaderboard.COLUMNS)])
    assert "| train.steps=9; train.precision=bf16-mixed |" in text


def test_events_are_told(derive: Derive, tmp_path: Path) -> None:
    folder, record = derive(tmp_path, "pr", damaged(1), speakers(6, 2))
    record.events += [
        {"kind": "resumed"},
        {"kind": "resumed"},
        {"kind": "audio", "text": "clipped"},
    ]
    results.save(folder, record)
    table = leaderboard.build(tmp_path)
    assert table["flags"][0] == "event: audio; event: resumed x2"
