"""MAPSSWE against NIST's own program, a segmentation by regular expression, and a closed form."""

from __future__ import annotations

import json
import math
import re
import secrets
import shutil

import numpy as np
import pytest
from scipy import stats

from ssft_bench.comparison.mapsswe import BUFFER, mapsswe, segments
from ssft_bench.downstreams.edit_distance import error_rate_metric
from ssft_bench.downstreams.sa.scoring import METRICS
from ssft_bench.errors import UsageError
from ssft_bench.metric import Prediction
from tests.comparison import sctk
from tests.comparison.sctk import RECORDED, WER, texts

SEEDS = [1, secrets.randbelow(2**31)]


def one(reference: str, hypothesis: str, name: str = "u") -> Prediction:
    return Prediction(name, reference, hypothesis)


def found(reference: str, a: str, b: str) -> list[tuple[int, int]]:
    return segments(WER, one(reference, a), one(reference, b))


def test_equals_nist() -> None:
    """Numbers that SCTK's sc_stats printed, to its three decimals."""
    cases = json.loads(RECORDED.read_text())["cases"]
    assert len(cases) >= 6
    for case in cases:
        rows = case["rows"]
        a = [Prediction(i, r, h) for i, r, h, _ in rows]
        b = [Prediction(i, r, h) for i, r, _, h in rows]
        ours = mapsswe(WER, a, b)
        for name, value in case["sctk"].items():
            assert getattr(ours, name) == pytest.approx(value, abs=5.1e-4), name


@pytest.mark.skipif(shutil.which("sc_stats") is None, reason="NIST's sc_stats is not on the PATH")
def test_equals_nist_on_fresh_systems() -> None:
    seed = secrets.randbelow(2**31)
    a, b = texts(np.random.default_rng(seed), 60, (0.2, 0.3))
    said, ours = sctk.mapsswe("sc_stats", a, b), mapsswe(WER, a, b)
    for name, value in said.items():
        assert getattr(ours, name) == pytest.approx(value, abs=5.1e-4), (seed, name)


def by_pattern(a: Prediction, b: Prediction, buffer: int = BUFFER) -> list[tuple[int, int]]:
    """Segments of an utterance: its words and gaps written as letters, cut by a regular expression."""
    words = len(a.reference.split())
    wrong = [[0, 0] for _ in range(words)]
    gaps = [[0, 0] for _ in range(words + 1)]
    assert WER.alignment is not None
    for system, p in enumerate((a, b)):
        for chunk in WER.alignment(p):
            if chunk.type == "insert":
                gaps[chunk.ref_start_idx][system] += chunk.hyp_end_idx - chunk.hyp_start_idx
            if chunk.type in ("substitute", "delete"):
                for k in range(chunk.ref_start_idx, chunk.ref_end_idx):
                    wrong[k][system] = 1
    line, places = "", []
    for k in range(words + 1):
        line += "i" if any(gaps[k]) else ""
        places += [gaps[k]] if any(gaps[k]) else []
        if k < words:
            line += "e" if any(wrong[k]) else "c"
            places.append(wrong[k])
    cut: list[tuple[int, int]] = []
    start = 0
    for good in [*re.finditer(f"c{{{buffer},}}", line), None]:
        part = places[start : good.start() if good else len(line)]
        sums = (sum(x for x, _ in part), sum(y for _, y in part))
        cut += [sums] if any(sums) else []
        start = good.end() if good else 0
    return cut


@pytest.mark.parametrize("seed", SEEDS)
def test_segments_by_regular_expression(seed: int) -> None:
    a, b = texts(np.random.default_rng(seed), 150, (0.25, 0.3))
    differs = 0
    for p, q in zip(a, b, strict=True):
        ours = segments(WER, p, q)
        assert ours == by_pattern(p, q), (seed, p, q)
        differs += ours != by_pattern(p, q, buffer=1)
    assert differs > 10, "the control: one word between segments is another cut"


@pytest.mark.parametrize("seed", SEEDS)
def test_errors_of_all_segments_are_all_errors(seed: int) -> None:
    a, b = texts(np.random.default_rng(seed), 80, (0.3, 0.5))
    cut = np.array([s for p, q in zip(a, b, strict=True) for s in segments(WER, p, q)])
    assert cut.sum(axis=0).tolist() == [WER.rows(rows)[:, 0].sum() for rows in (a, b)]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("A B C D E F", "A B C D E F", []),
        ("X B C D E F", "A B C D E F", [(1, 0)]),
        ("X B Y D E F", "A B C D E F", [(2, 0)]),  # one right word does not end a segment
        ("X B C Y E F", "A B C D E F", [(1, 0), (1, 0)]),  # two do
        ("X B C Y E F", "A B Z D E F", [(2, 1)]),  # right in both, that is
        ("X B N C D E F", "A B C D E F", [(2, 0)]),  # a word put in is no right one
        ("A B C D E F N", "A B C D E F", [(1, 0)]),
        ("N A B C D E F", "A B C D E F M M", [(1, 0), (0, 2)]),
        ("", "A B C D E F", [(6, 0)]),
    ],
)
def test_segments_by_hand(a: str, b: str, expected: list[tuple[int, int]]) -> None:
    assert found("A B C D E F", a, b) == expected


def test_closed_form() -> None:
    """n utterances, one word wrong in each: A in k of them, B in the rest. All is known."""
    n, k = 40, 25
    a = [one("P Q R", "X Q R" if i < k else "P Q R", f"u{i}") for i in range(n)]
    b = [one("P Q R", "P Q R" if i < k else "X Q R", f"u{i}") for i in range(n)]
    mean = (2 * k - n) / n
    deviation = math.sqrt((1 - mean**2) * n / (n - 1))
    ours = mapsswe(WER, a, b)
    assert (ours.segments, ours.mean) == (n, mean)
    assert ours.deviation == pytest.approx(deviation)
    assert ours.z == pytest.approx(mean / deviation * math.sqrt(n))
    assert ours.p == pytest.approx(2 * stats.norm.sf(abs(ours.z)))
    back = mapsswe(WER, b, a)
    assert (back.z, back.p) == (-ours.z, ours.p)


def test_nothing_to_test() -> None:
    same = [one("A B", "A B")]
    assert mapsswe(WER, same, same).p == 1.0
    assert mapsswe(WER, same, [one("A B", "X B")]).p == 1.0, "one segment has no spread"


def test_characters_and_metrics_without_edits() -> None:
    cer = error_rate_metric("cer", primary=False, characters=True)
    assert segments(cer, one("ABCDEF", "XBCDEF"), one("ABCDEF", "ABCDEY")) == [(1, 0), (0, 1)]
    rows = [Prediction("u", "neutral", "positive")]
    with pytest.raises(UsageError, match="counts no edits"):
        mapsswe(METRICS[0], rows, rows)
    with pytest.raises(UsageError, match="one run only"):
        mapsswe(WER, [one("A", "A", "u")], [one("A", "A", "v")])
