"""Seconds of a cell from what it computes, when nothing like it has been run.

    states    = hours x 3600 x upstream / R
    training  = updates x (overhead + 3 x seconds of an update x top / r)
              + evaluations x (seconds of dev x top / r + utterances of dev x utterance)
    scoring   = 2 x (seconds of dev x top / r + utterances of dev x utterance)

`upstream` and `top` (interface and head) are multiply-adds for a second of speech, R and r their rates. 3: a
backward pass costs two forward passes; 2: dev and test, about as large. What is left out: the matching of
query by example, beam search. Rates and overheads are those of a machine: `CORE` was fitted to runs on one
core (docs/scaling.md says which and how well it predicts), `fitted` takes finished runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from pydantic import BaseModel, ConfigDict

from ssft_bench.results import ResultRecord
from ssft_bench.training_spec import TrainSpec


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
        dev = work.dev_hours * 3600 * top + work.dev_utterances * self.utterance
        update = self.update + 3 * work.update_seconds * top
        return {
            "hidden_states": 0.0 if work.learns_all else work.hours * 3600 * whole,
            "training": work.updates * update + work.evaluations * dev,
            "scoring": 2 * dev,
        }


CORE = Rates(upstream=23.4e9, top=34.6e9, update=0.033, utterance=0.0)
"""One core of an AMD EPYC, fp32."""


def fitted(records: Iterable[ResultRecord], start: Rates = CORE) -> Rates:
    """Rates of the machine that made these records; what they say nothing of stays as in `start`.

    The upstream's rate is a median. The other three are the non-negative least squares of the seconds of
    training, each run weighted by its length; they need four runs of different make.
    """
    upstream: list[float] = []
    rows: list[tuple[float, float, float, float]] = []
    for record in records:
        if record.status != "done" or record.spec.protocol != "frozen" or not record.cost:
            continue
        macs, seconds = record.cost["macs_per_second_of_audio"], record.cost["seconds"]
        encoded = record.cost.get("speech_hours_encoded", 0.0)
        if encoded > 0 and macs["upstream"] and seconds["hidden_states"] > 1:
            upstream.append(encoded * 3600 * macs["upstream"] / seconds["hidden_states"])
        if record.spec.train is not None and seconds["training"] > 1 and not record.spec.lr_grid:
            rows.append(_training_row(record, macs["interface_and_head"], seconds["training"]))
    changed: dict[str, float] = {"upstream": median(upstream)} if upstream else {}
    if len({row[:3] for row in rows}) >= 4:
        update, per_mac, utterance = _least_squares(rows)
        changed |= {"update": update, "utterance": utterance}
        if per_mac > 0:
            changed["top"] = 1 / per_mac
    return replace(start, **changed)


def _training_row(
    record: ResultRecord, top: float, seconds: float
) -> tuple[float, float, float, float]:
    """Updates, multiply-adds on top, utterances scored, and the seconds that all of it took."""
    train = record.spec.train
    assert train is not None
    times = evaluations(train)
    dev_seconds, dev = record.data["hours"]["dev"] * 3600, record.data["utterances"]["dev"]
    heard = 3 * train.steps * speech_in_update(record) + times * dev_seconds
    return float(train.steps), heard * top, float(times * dev), seconds


def _least_squares(rows: Sequence[tuple[float, float, float, float]]) -> tuple[float, float, float]:
    import numpy as np
    from scipy.optimize import nnls

    table = np.array(rows)
    relative = table[:, :3] / table[:, 3:]  # an hour-long run counts as much as a minute-long one
    scale = relative.max(axis=0)
    found, _ = nnls(relative / scale, np.ones(len(rows)))
    update, per_mac, utterance = (found / scale).tolist()
    return update, per_mac, utterance


def evaluations(train: TrainSpec) -> int:
    """How often dev is scored while training."""
    return math.ceil(train.steps / (train.eval_every or train.steps))


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
