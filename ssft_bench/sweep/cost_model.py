"""Seconds and bytes of a cell from what it computes, when nothing like it has been run.

    states    = hours x 3600 x MACs of the upstream for a second of speech / rate
    training  = updates x (overhead + seconds of speech in an update x 3 x MACs on top / rate)
    scoring   = (evaluations + 2) x (hours of dev x 3600 x MACs on top / rate + utterances x per utterance)

3: a backward pass costs two forward passes. Rates and overheads are those of a machine: `CORE` was fitted to
runs on one core of an AMD EPYC (docs/scaling.md), `fitted` takes finished runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from pydantic import BaseModel, ConfigDict

from ssft_bench.results import ResultRecord


class Workload(BaseModel):
    """What a cell computes; nothing here depends on the machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    upstream_macs: float
    """Multiply-adds of the upstream for a second of speech."""
    top_macs: float
    """Those of interface and head."""
    hours: float
    """Speech in all splits."""
    dev_hours: float = 0.0
    dev_utterances: int = 0
    updates: int = 0
    """Of all learning rates together."""
    evaluations: int = 0
    update_seconds: float = 0.0
    """Speech in an update."""
    learns_all: bool = False
    """The upstream is computed, and learns, in every update."""


@dataclass(frozen=True)
class Rates:
    """How fast a machine is."""

    upstream: float
    """Multiply-adds a second in the upstream's forward pass, one utterance at a time."""
    top: float
    """Those in interface and head, in batches."""
    update: float
    """Seconds that an update takes beside its multiply-adds."""
    utterance: float
    """Seconds to decode and score an utterance of dev."""

    def seconds(self, work: Workload) -> dict[str, float]:
        """Seconds by part: hidden_states, training, scoring."""
        top, whole = work.top_macs / self.top, work.upstream_macs / self.upstream
        if work.learns_all:
            top += whole
        per_update = self.update + 3 * work.update_seconds * top
        pass_over_dev = work.dev_hours * 3600 * top + work.dev_utterances * self.utterance
        return {
            "hidden_states": 0.0 if work.learns_all else work.hours * 3600 * whole,
            "training": work.updates * per_update,
            "scoring": (work.evaluations + 2) * pass_over_dev,
        }


CORE = Rates(upstream=12e9, top=8e9, update=0.02, utterance=0.004)
"""One core of an AMD EPYC, fp32."""


def fitted(records: Sequence[ResultRecord], start: Rates = CORE) -> Rates:
    """Rates of the machine that made these records; parts that they say nothing of stay as in `start`.

    The overhead of an update is kept; medians over runs, so that a disturbed one counts little.
    """
    upstream, top = [], []
    for record in records:
        cost = record.cost
        if record.status != "done" or record.spec.protocol != "frozen" or "seconds" not in cost:
            continue
        macs, seconds = cost["macs_per_second_of_audio"], cost["seconds"]
        encoded = cost.get("speech_hours_encoded", 0.0)
        if encoded > 0 and macs["upstream"] and seconds["hidden_states"] > 1:
            upstream.append(encoded * 3600 * macs["upstream"] / seconds["hidden_states"])
        spec = record.spec
        if spec.train is not None and macs["interface_and_head"] and seconds["training"] > 1:
            left = seconds["training"] - spec.train.steps * start.update
            heard = spec.train.steps * speech_in_update(record)
            if left > 0 and heard:
                top.append(3 * heard * macs["interface_and_head"] / left)
    changed = {k: median(v) for k, v in (("upstream", upstream), ("top", top)) if v}
    return replace(start, **changed)


def speech_in_update(record: ResultRecord) -> float:
    """Seconds of speech in an update of a finished run, about: full batches of average utterances."""
    spec, data = record.spec, record.data
    if spec.train is None or not data["utterances"].get("train"):
        return 0.0
    average = 3600 * data["hours"]["train"] / data["utterances"]["train"]
    return update_seconds(
        spec.data.batch_size, spec.data.batch_seconds, average, spec.train.accumulate
    )


def update_seconds(
    batch_size: int, batch_seconds: float | None, average: float, accumulate: int
) -> float:
    """Seconds of speech in an update from the bounds of a micro-batch and the average utterance."""
    full = batch_size * average
    return accumulate * (full if batch_seconds is None else min(full, batch_seconds))
