"""What a reader must not conclude from a score, told from the record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ssft_bench.results import MetricValue, ResultRecord

FEW_SPEAKERS = 20
"""With fewer, an interval over speakers is too narrow (see `statistics.score`)."""
NEAR_FLOOR = 0.2
"""Share of the scale at its bad end in which differences say little."""


def of_run(record: ResultRecord) -> list[str]:
    """Limits of a run's scores, one sentence each."""
    return of_runs([record])


def of_data(data: Mapping[str, Any]) -> Iterator[str]:
    """Limits that come from the speech."""
    if data.get("synthetic"):
        yield f"The speech of corpus {data.get('corpus')} is synthetic; recorded speech is harder."
    if data.get("stands_in"):
        told = str(data["stands_in"])
        yield f"{told[0].upper()}{told[1:]}."


def of_runs(records: Sequence[ResultRecord]) -> list[str]:
    """Limits of the scores of several runs, each once."""
    found = [limit for record in records for limit in _of_run(record)]
    cells = Counter(
        (r.spec.suite, r.spec.data.corpus, r.spec.task.name, r.spec.interface_label)
        for r in records
        if r.spec.protocol != "training-free"
    )
    if 1 in cells.values():
        found.append("Scores of a single seed do not tell how far they move with the seed.")
    return list(dict.fromkeys(found))


def _of_run(record: ResultRecord) -> Iterator[str]:
    spec, data = record.spec, record.data
    yield from of_data(data)
    speakers = (data.get("speakers") or {}).get("test")
    if speakers == 0:
        yield (
            f"The test split of {data['corpus']} tells no speakers: its intervals take utterances for "
            "independent."
        )
    elif speakers is not None and speakers < FEW_SPEAKERS:
        yield (
            f"The test split of {data['corpus']} has {speakers} speakers: intervals over so few are too "
            "narrow."
        )
    metric = record.primary()
    if metric is not None and near_floor(metric):
        yield (
            f"{metric.label} {metric.value:.2f} on {spec.task.name} is near the bad end of the "
            "scale: differences there say little about differences of good systems."
        )
    if spec.data.max_utterances is not None:
        yield f"Only the first {spec.data.max_utterances} utterances of each split were used."
    if spec.data.train_share < 1:
        yield f"Labels of a share of {spec.data.train_share:g} of the training utterances were used."
    if spec.control is not None:
        yield "The run is a control, not a system to be used."


def near_floor(metric: MetricValue) -> bool:
    """Whether a score is at the bad end of a scale of a hundred."""
    if metric.unit not in ("%", "x100"):
        return False
    good = metric.value / 100 if metric.higher_is_better else 1 - metric.value / 100
    return good < NEAR_FLOOR
