"""One number for many tasks, by the official formulas: SUPERB's `superb_s` and SLUE's score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ssft_bench.published.rows import PublishedRow


@dataclass(frozen=True)
class Point:
    """What maps to 0 and to 1000 points in one metric."""

    task: str
    metric: str
    fbank: float
    sota: float


SUPERB_POINTS = (
    Point("pr", "per", 82.01, 3.53),
    Point("ks", "accuracy", 41.3826674, 96.66),
    Point("ic", "accuracy", 9.649354219, 98.76),
    Point("sid", "accuracy", 20.058174, 90.3),
    Point("er", "accuracy", 48.23672168, 67.62),
    Point("asr", "wer", 23.18, 3.62),
    Point("qbe", "mtwv", 0.0058, 0.0736),
    Point("sf", "slot_type_f1", 69.64, 89.81),
    Point("sf", "slot_value_cer", 52.94, 21.76),
    Point("asv", "eer", 9.56, 5.11),
    Point("sd", "der", 10.05, 5.62),
)
"""SUPERB's board (superbbenchmark/website-react at cacb90e, frontend/src/policy.js and Chart.js): these
stay fixed, however good later upstreams are. MTWV is a fraction; FBANK without CMVN where it says so."""
SUPERB_TASKS = tuple(dict.fromkeys(point.task for point in SUPERB_POINTS))

Values = Mapping[tuple[str, str], float]
"""(task, metric) -> value, in the published unit."""


def points(values: Values) -> dict[str, float]:
    """Points of each task with all its metrics: 1000 (s - FBANK) / (SOTA - FBANK), metrics averaged.

    Lower-is-better metrics need no turning round: numerator and denominator change sign together. Below 0
    and above 1000 are possible.
    """
    by_task: dict[str, list[float | None]] = {}
    for point in SUPERB_POINTS:
        value = values.get((point.task, point.metric))
        scaled = (
            None if value is None else 1000 * (value - point.fbank) / (point.sota - point.fbank)
        )
        by_task.setdefault(point.task, []).append(scaled)
    return {
        task: sum(p for p in found if p is not None) / len(found)
        for task, found in by_task.items()
        if None not in found
    }


def superb_s(values: Values) -> float | None:
    """Mean of all tasks' points (policy.js, "superb_s"); None where a task is missing: a part is no
    superb_s."""
    found = points(values)
    return sum(found.values()) / len(found) if len(found) == len(SUPERB_TASKS) else None


def partial_points(values: Values) -> tuple[float, tuple[str, ...]] | None:
    """Mean points over the tasks at hand, and which those are; None without any. No superb_s."""
    found = points(values)
    return (sum(found.values()) / len(found), tuple(found)) if found else None


def slue_score(
    wer_voxpopuli: float, wer_voxceleb: float, sentiment_f1: float, ner_f1: float
) -> float:
    """SLUE's score in %: mean of word accuracy, sentiment macro F1 and NER micro F1.

    slue-toolkit, branch gh-pages, leaderboard: the WER is the mean of the two corpora's.
    """
    return ((100 - (wer_voxpopuli + wer_voxceleb) / 2) + sentiment_f1 + ner_f1) / 3


@dataclass(frozen=True)
class ScoreCheck:
    """A displayed score beside the one that follows from its row."""

    row: PublishedRow
    computed: float | None
    """None where the row lacks a task."""

    @property
    def holds(self) -> bool:
        """Equal as displayed: to the integer for superb_s, to 0.1 for SLUE's score."""
        if self.computed is None:
            return False
        if self.row.metric == "superb_s":
            return round(self.computed) == self.row.value
        return abs(self.computed - self.row.value) <= 0.1 + 1e-9


def check_scores(rows: Iterable[PublishedRow]) -> list[ScoreCheck]:
    """Every displayed score, recomputed from the numbers of its board."""
    rows = list(rows)
    return [ScoreCheck(r, _superb(r, rows)) for r in rows if r.metric == "superb_s"] + [
        ScoreCheck(r, _slue(r, rows)) for r in rows if r.metric == "slue_score"
    ]


def superb_values(upstream: str, rows: Iterable[PublishedRow]) -> Values:
    """(task, metric) -> value of an upstream on SUPERB's own board."""
    return {
        (r.task, r.metric): r.value
        for r in rows
        if r.upstream == upstream and r.method == "none" and r.source.startswith("superbbenchmark")
    }


def _superb(row: PublishedRow, rows: list[PublishedRow]) -> float | None:
    return superb_s(superb_values(row.upstream, rows))


def _slue(row: PublishedRow, rows: list[PublishedRow]) -> float | None:
    lm = "_lm" if row.task.endswith("_lm") else ""
    same = {
        (r.task, r.metric): r.value
        for r in rows
        if (r.source, r.table, r.upstream, r.method, r.split)
        == (row.source, row.table, row.upstream, row.method, row.split)
    }
    wanted = (
        (f"slue_vp_asr{lm}", "wer"), (f"slue_vc_asr{lm}", "wer"),
        (f"slue_vc_sa{lm}", "f1_macro"), (f"slue_vp_ner{lm}", "f1_micro"),
    )  # fmt: skip
    found = [same[key] for key in wanted if key in same]
    return slue_score(*found) if len(found) == len(wanted) else None
