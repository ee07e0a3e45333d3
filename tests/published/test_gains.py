"""Quoted gains against absolute numbers, by arithmetic that is written another way here."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from ssft_bench.published.gains import check_claims, gains, quoted_metric, relative_gain
from ssft_bench.published.rows import PublishedRow, load


def row(value: str, *, method: str = "none", metric: str = "wer", unit: str = "%") -> PublishedRow:
    return PublishedRow.model_validate(
        {
            "source": "arXiv:0", "table": "Table 1", "upstream": "hubert_base", "method": method,
            "interface": "weighted_sum", "protocol": "frozen", "task": "asr", "split": "test-clean",
            "metric": metric, "unit": unit, "value": value, "higher_is_better": "false",
            "status": "verified", "note": "", "text": value,
        }
    )  # fmt: skip


def rounds_to(gain: Fraction, text: str) -> bool:
    """Half a unit of the last digit, either way."""
    unit = Fraction(1, 10 ** len(text.partition(".")[2]))
    return abs(gain - Fraction(text)) <= unit / 2


def test_the_claims_of_the_abstracts() -> None:
    told = {(c.row.method, c.row.upstream, c.row.task): c for c in check_claims(load())}
    assert told["score", "hubert_base", "asr"].verdict == "attainable"
    assert "6.35" in told["score", "hubert_base", "asr"].text
    per = told["score", "hubert_base", "pr"]
    assert per.verdict == "mismatch"
    assert "5.21 gives 3.70, 5.22 gives 3.51" in per.text
    assert told["score", "hubert_base", "qbe"].verdict == "mismatch"
    assert "0.0829 gives 12.64, 0.0830 gives 12.77" in told["score", "hubert_base", "qbe"].text
    assert len(told) == 7


def test_every_claim_by_trying_all_values() -> None:
    """All values with the base's decimals between 0 and twice the base: does any give the quoted gain?"""
    rows = load()
    for claim in check_claims(rows):
        base = next(
            r for r in rows
            if r.source.startswith("superbbenchmark") and r.method == "none"
            and (r.upstream, r.task) == (claim.row.upstream, claim.row.task)
            and r.metric == quoted_metric(claim.row)
        )  # fmt: skip
        start = Fraction(base.text)
        steps = 10 ** (4 if base.unit == "fraction" else 2)
        sign = 1 if base.higher_is_better else -1
        tried = (Fraction(n, steps) for n in range(int(2 * start * steps)))
        found = any(rounds_to(sign * (v - start) / start * 100, claim.row.text) for v in tried)
        assert found == (claim.verdict == "attainable"), claim.text


def test_a_gain_that_was_rounded_from_two_values_is_never_a_mismatch() -> None:
    seed = np.random.SeedSequence().entropy
    rng = np.random.default_rng(seed)
    for _ in range(300):
        base, value = (f"{n / 100:.2f}" for n in rng.integers(200, 2000, 2))
        gain = (float(base) - float(value)) / float(base) * 100
        if abs(gain) > 100:
            continue
        quoted = row(
            f"{gain:.2f}", method="score", metric="wer_relative_reduction", unit="% relative"
        )
        (claim,) = check_claims([row(base), quoted])
        assert claim.verdict == "attainable", (seed, base, value)
        (claim,) = check_claims([row(base), quoted, row(value, method="score")])
        assert claim.verdict == "agrees", (seed, base, value)
        other = row(f"{float(value) + 0.5:.2f}", method="score")
        (claim,) = check_claims([row(base), quoted, other])
        assert claim.verdict == "mismatch", (seed, base, value)


def test_a_claim_without_a_base_says_so() -> None:
    quoted = row("3.0", method="score", metric="wer_relative_reduction", unit="% relative")
    (claim,) = check_claims([quoted])
    assert claim.verdict == "no base"


def test_computed_gains_stay_within_a_table() -> None:
    found = gains([row("8.00"), row("6.00", method="score")], of="methods")
    assert [g.relative for g in found] == [pytest.approx(25.0)]
    other = row("6.00", method="score").model_copy(update={"table": "Table 2"})
    assert gains([row("8.00"), other], of="methods") == []


def test_gains_of_interfaces_are_over_the_weighted_sum() -> None:
    rows = load()
    found = gains(rows, of="interfaces")
    assert found
    assert all(g.base_interface == "weighted_sum" != g.interface for g in found)
    by_hand = {
        (r.source, r.table, r.upstream, r.task, r.split, r.metric): r.value
        for r in rows if r.interface == "weighted_sum" and r.method == "none"
    }  # fmt: skip
    hconv = next(g for g in found if g.interface == "hconv" and g.metric == "per")
    value = next(
        r for r in rows
        if (r.source, r.upstream, r.interface, r.task, r.metric, r.split)
        == (hconv.source, hconv.upstream, "hconv", hconv.task, "per", hconv.split)
    )  # fmt: skip
    base = by_hand[hconv.source, value.table, hconv.upstream, hconv.task, hconv.split, "per"]
    assert hconv.relative == pytest.approx((base - value.value) / base * 100)


@pytest.mark.parametrize(("up", "sign"), [(True, 1), (False, -1)])
def test_relative_gain_is_positive_where_it_is_better(up: bool, sign: int) -> None:
    assert relative_gain(8.0, 10.0, higher_is_better=up) == pytest.approx(sign * 25.0)
