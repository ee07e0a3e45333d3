"""superb_s and SLUE's score: the boards' displayed values from the boards' own rows."""

from __future__ import annotations

import numpy as np
import pytest

from ssft_bench.leaderboard.scores import (
    SUPERB_POINTS,
    check_scores,
    partial_points,
    points,
    slue_score,
    superb_s,
    superb_values,
)
from ssft_bench.published.rows import load

DISPLAYED = {
    "hubert_base": 941, "wavlm_base": 1019, "wavlm_base_plus": 1106, "wavlm_large": 1145,
    "wav2vec2_base_960": 818, "distilhubert": 717, "mockingjay": 54, "fbank": 0,
}  # fmt: skip


def test_every_displayed_score_follows_from_its_row() -> None:
    checks = check_scores(load())
    superb = [c for c in checks if c.row.metric == "superb_s"]
    slue = [c for c in checks if c.row.metric == "slue_score"]
    assert len(superb) == 28
    assert len(slue) == 37
    for check in superb:
        assert check.computed is not None
        assert round(check.computed) == check.row.value, check.row.label
    for check in slue:
        assert check.computed is not None
        assert abs(check.computed - check.row.value) <= 0.1 + 1e-9, check.row.label
    assert all(check.holds for check in checks)


@pytest.mark.parametrize(("upstream", "score"), DISPLAYED.items())
def test_known_scores(upstream: str, score: int) -> None:
    found = superb_s(superb_values(upstream, load()))
    assert found is not None
    assert round(found) == score


def test_a_changed_value_is_caught() -> None:
    """The control: one WER off by one point is no longer the displayed integer."""
    rows = [
        r.model_copy(update={"value": r.value + 1})
        if (r.upstream, r.task, r.method) == ("hubert_base", "asr", "none") and r.unit == "%" else r
        for r in load()
    ]  # fmt: skip
    broken = [c.row.upstream for c in check_scores(rows) if not c.holds]
    assert broken == ["hubert_base"]


def test_a_part_of_the_tasks_is_no_superb_s() -> None:
    values = dict(superb_values("wavlm_base", load()))
    del values["sd", "der"]
    assert superb_s(values) is None
    part = partial_points(values)
    assert part is not None
    assert "sd" not in part[1]
    assert len(part[1]) == 9
    del values["sf", "slot_value_cer"]
    assert "sf" not in points(values)
    assert partial_points({}) is None


def test_the_three_content_tasks() -> None:
    rows, wanted = load(), {"hubert_base": 944.3, "wavlm_base": 1016.2, "hubert_large_ll60k": 811.7}
    for upstream, score in wanted.items():
        values = {
            k: v for k, v in superb_values(upstream, rows).items() if k[0] in ("asr", "pr", "qbe")
        }
        found = partial_points(values)
        assert found is not None
        assert found[0] == pytest.approx(score, abs=0.05)


def test_the_formula_by_hand() -> None:
    seed = np.random.SeedSequence().entropy
    rng = np.random.default_rng(seed)
    values = {(p.task, p.metric): float(rng.uniform(0, 100)) for p in SUPERB_POINTS}
    by_task: dict[str, list[float]] = {}
    for p in SUPERB_POINTS:
        lower = p.metric in ("per", "wer", "eer", "der", "slot_value_cer")
        good = (100 - x if lower else x for x in (values[p.task, p.metric], p.fbank, p.sota))
        own, zero, thousand = good
        by_task.setdefault(p.task, []).append((own - zero) / (thousand - zero) * 1000)
    total = 0.0
    for found in by_task.values():
        total += sum(found) / len(found)
    assert superb_s(values) == pytest.approx(total / 10), seed


def test_slue_by_hand() -> None:
    assert slue_score(18.4, 20.9, 46.0, 49.8) == pytest.approx((80.35 + 46.0 + 49.8) / 3)
