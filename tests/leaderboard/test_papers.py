"""Papers' gains beside ours: the verdict follows from what was run, and says when nothing was."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssft_bench import results
from ssft_bench.comparison import paired
from ssft_bench.leaderboard.entries import finished, metric_of
from ssft_bench.regression.against import against_published
from ssft_bench.regression.paper import Line, compare, markdown
from tests.leaderboard.conftest import Derive
from tests.leaderboard.test_table import damaged, speakers


def model(name: str) -> dict[str, object]:
    return {"name": name, "options": {}}


def line(out: Path, task: str = "pr") -> Line:
    (found,) = [
        one for one in compare(finished([out]))
        if one.gain.method == "score" and one.task.ours == task and one.gain.quoted
    ]  # fmt: skip
    return found


@pytest.mark.parametrize(
    ("tuned", "verdict"),
    [
        (1, "same sign, significant"),
        (4, "opposite, significant"),
        (3, "no difference"),
    ],
)
def test_verdicts(derive: Derive, tmp_path: Path, tuned: int, verdict: str) -> None:
    rows = speakers(12, 2)
    derive(tmp_path, "pr", damaged(3), rows, upstream=model("hubert_mini"))
    derive(tmp_path, "pr", damaged(tuned), rows, upstream=model("score_hubert"))
    found = line(tmp_path)
    assert found.verdict == verdict
    assert found.gain.relative == 3.58
    assert found.values == (30.0, 10.0 * tuned)
    assert found.relative == pytest.approx((30 - 10 * tuned) / 30 * 100)
    text = markdown(compare(finished([tmp_path])))
    assert "+3.58 % (verified, arXiv:2403.06260)" in text
    assert "not the papers' setting" in text
    assert verdict in text


def test_a_gain_by_chance_is_not_significant(derive: Derive, tmp_path: Path) -> None:
    rows = speakers(12, 2)
    a = derive(tmp_path, "pr", damaged(3, 3, 1), rows, upstream=model("hubert_mini"))
    better = damaged(3, 3, 1)
    b = derive(
        tmp_path, "pr", lambda p: p.reference if p.id == "u00-0" else better(p), rows,
        upstream=model("score_hubert"),
    )  # fmt: skip
    found = line(tmp_path)
    assert found.verdict == "same sign, not significant"
    test = paired(
        metric_of(a[1]), results.load_predictions(b[0]), results.load_predictions(a[0]), seed=1
    )
    assert found.difference == pytest.approx(test.difference)
    assert found.p == pytest.approx(test.p)
    assert found.values is not None
    assert found.ci95 is not None
    assert test.ci95 is not None
    ends = sorted(-d / found.values[0] * 100 for d in test.ci95)
    assert found.ci95 == pytest.approx(tuple(ends))


def test_what_was_not_run_is_said(derive: Derive, tmp_path: Path) -> None:
    rows = speakers(6, 2)
    derive(tmp_path, "pr", damaged(2), rows, upstream=model("score_hubert"))
    assert line(tmp_path).verdict == "not run"
    assert line(tmp_path, "asr").verdict == "not run"
    assert line(tmp_path, "qbe").verdict == "not run"
    derive(tmp_path, "pr", damaged(3), rows, upstream=model("hubert_mini"), train__steps=9)
    assert line(tmp_path).verdict == "not run"  # by another recipe
    only_base = tmp_path / "base"
    derive(only_base, "pr", damaged(3), rows, upstream=model("hubert_mini"))
    assert compare(finished([only_base])) == []


def test_qbe_by_the_picked_layer_is_said(derive: Derive, tmp_path: Path) -> None:
    derive(tmp_path, "qbe", lambda p: p.hypothesis, upstream=model("hubert_mini"))
    derive(tmp_path, "qbe", lambda p: p.hypothesis, upstream=model("score_hubert"))
    found = line(tmp_path, "qbe")
    assert found.verdict == "no difference"
    assert (found.interface, found.why) == ("layer", "the paper: last")


def test_several_seeds_are_pooled(derive: Derive, tmp_path: Path) -> None:
    rows = speakers(12, 2)
    for seed in (1, 2, 3):
        derive(tmp_path, "pr", damaged(3), rows, upstream=model("hubert_mini"), seed=seed)
        derive(tmp_path, "pr", damaged(1), rows, upstream=model("score_hubert"), seed=seed)
    found = line(tmp_path)
    assert (found.seeds, found.verdict) == (3, "same sign, significant")


@pytest.mark.parametrize(("wrong", "status"), [(1, "outside"), (0, "within")])
def test_suite_full_is_beside_published_scores(
    derive: Derive, tmp_path: Path, wrong: int, status: str
) -> None:
    """Eight in 150 phones wrong is 5.33 %: within the interval of 5.41; everyone wrong is not."""
    said = speakers(15, 1)
    some = damaged(1)
    derive(
        tmp_path, "pr", lambda p: some(p) if wrong or int(p.id[1:3]) < 8 else p.reference, said,
        upstream=model("hubert_base"), suite="full", data__corpus="librispeech",
    )  # fmt: skip
    checks = list(against_published(finished([tmp_path])))
    official = [c for c in checks if "superbbenchmark" in c.text]
    assert [c.status for c in official] == [status]
    assert "published 5.41 (verified" in official[0].text


def test_mini_is_never_beside_published_scores(derive: Derive, tmp_path: Path) -> None:
    derive(tmp_path, "pr", damaged(1), speakers(4, 1), upstream=model("hubert_base"))
    assert list(against_published(finished([tmp_path]))) == []
