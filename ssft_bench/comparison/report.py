"""Comparisons of several systems as one answer: tests, corrections, verdicts, and how they print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

from ssft_bench.comparison.corrections import Correction, corrected
from ssft_bench.comparison.mapsswe import Mapsswe, mapsswe
from ssft_bench.comparison.paired import PairedResult, paired_seeds
from ssft_bench.comparison.sides import Side, metric_of
from ssft_bench.metric import Metric, Prediction

LEVEL = 0.05
"""A p-value below this, after correction, is called a difference."""
Which = Literal["first", "all"]


@dataclass(frozen=True)
class Comparison:
    """A against B, with what was found about them."""

    a: Side
    b: Side
    found: PairedResult
    mapsswe: Mapsswe | None
    """Where the metric counts edits and each side has one run."""
    p_corrected: float
    mapsswe_p_corrected: float | None

    def better(self, higher_is_better: bool) -> Literal["a", "b"] | None:
        """Who is better; None where no difference is shown."""
        if self.p_corrected >= LEVEL or self.found.difference == 0:
            return None
        return "a" if (self.found.difference > 0) == higher_is_better else "b"


@dataclass(frozen=True)
class Report:
    """All comparisons of one command."""

    task: str
    corpus: str
    synthetic: bool
    metric: Metric
    correction: Correction
    seed: int
    sides: tuple[Side, ...]
    comparisons: tuple[Comparison, ...]

    def warnings(self) -> list[str]:
        """Every warning once, in the order of the comparisons."""
        return list(dict.fromkeys(w for one in self.comparisons for w in one.found.warnings))

    def as_dict(self) -> dict[str, Any]:
        """The whole answer, for JSON."""
        return {
            "task": self.task,
            "corpus": self.corpus,
            "synthetic": self.synthetic,
            "metric": self.metric.name,
            "unit": self.metric.unit,
            "higher_is_better": self.metric.higher_is_better,
            "correction": self.correction,
            "level": LEVEL,
            "seed": self.seed,
            "comparisons": [self._row(one) for one in self.comparisons],
        }

    def _row(self, one: Comparison) -> dict[str, Any]:
        return {
            "a": _system(one.a, one.found.values[0]),
            "b": _system(one.b, one.found.values[1]),
            **{k: v for k, v in asdict(one.found).items() if k not in ("values", "seeds")},
            "p_corrected": one.p_corrected,
            "mapsswe": one.mapsswe
            and {**asdict(one.mapsswe), "p_corrected": one.mapsswe_p_corrected},
            "better": one.better(self.metric.higher_is_better),
        }


def compare(
    every: Sequence[Side],
    *,
    metric: str | None = None,
    which: Which = "first",
    correction: Correction = "holm",
    seed: int = 1,
    resamples: int = 10_000,
) -> Report:
    """Compare the first system with each other one, or all with all.

    Raises UsageError for systems that cannot be compared (see `sides.metric_of`, `pairing.pair`).
    """
    found, with_lm = metric_of(every, metric)
    predictions = [side.predictions(with_lm) for side in every]
    indices = list(combinations(range(len(every)), 2))
    if which == "first":
        indices = [(i, j) for i, j in indices if i == 0]
    results = [
        paired_seeds(found, predictions[i], predictions[j], seed=seed, resamples=resamples)
        for i, j in indices
    ]
    matched = [_matched(found, predictions[i], predictions[j]) for i, j in indices]
    adjusted = corrected([r.p for r in results], correction)
    theirs = iter(corrected([m.p for m in matched if m], correction))
    record = every[0].record
    return Report(
        task=record.spec.task.name,
        corpus=record.spec.data.corpus,
        synthetic=bool(record.data.get("synthetic")),
        metric=found,
        correction=correction,
        seed=seed,
        sides=tuple(every),
        comparisons=tuple(
            Comparison(every[i], every[j], r, m, p, next(theirs) if m else None)
            for (i, j), r, m, p in zip(indices, results, matched, adjusted, strict=True)
        ),
    )


def _matched(
    metric: Metric, a: Sequence[list[Prediction]], b: Sequence[list[Prediction]]
) -> Mapsswe | None:
    if metric.alignment is None or len(a) > 1 or len(b) > 1:
        return None
    return mapsswe(metric, a[0], b[0])


def _system(side: Side, value: float) -> dict[str, Any]:
    return {
        "letter": side.letter,
        "label": side.label,
        "runs": [str(folder) for folder, _ in side.runs],
        "signatures": [record.signature for _, record in side.runs],
        "seeds": list(side.seeds),
        "value": value,
    }
