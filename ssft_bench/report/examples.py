"""Utterances with what the runs made of them: aligned words, labels, or what a search found first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ssft_bench import registry
from ssft_bench.errors import BenchError
from ssft_bench.metric import Metric, Prediction
from ssft_bench.report.audio import Clip, Recordings
from ssft_bench.report.collect import Group, Run

RUNS = 8
"""Hypotheses shown of an utterance."""
LONGEST = 15.0
"""Seconds; longer utterances are not chosen while there are others."""
TOP = 5
"""Answers shown of a search."""


@dataclass(frozen=True)
class Piece:
    """One place of an alignment, or one answer."""

    kind: str
    """equal, substitute, delete or insert; hit or miss."""
    reference: str = ""
    hypothesis: str = ""


@dataclass(frozen=True)
class Answer:
    """What a run made of an utterance."""

    run: Run
    told: str
    """`3 of 12 wrong`."""
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Example:
    """An utterance and the answers of several runs."""

    id: str
    speaker: str | None
    reference: str
    clip: Clip | None
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Examples:
    """Of a group of runs."""

    group: Group
    kind: str
    """words, labels or search."""
    interface: str
    examples: tuple[Example, ...]
    remarks: tuple[str, ...]
    """How they were chosen; why there is no audio; what could not be read."""


def examples(group: Group, recordings: Recordings, count: int) -> Examples | None:
    """`count` utterances of a group, through the interface that most upstreams were run with.

    Of several runs: where they differ most in errors. Of one: where it is about as bad as on the whole.
    None where no run's predictions can be read.
    """
    runs, remarks = _chosen_runs(group)
    predictions: dict[int, dict[str, Prediction]] = {}
    for run in runs:
        try:
            predictions[run.number] = {p.id: p for p in run.predictions()}
        except BenchError as error:
            remarks.append(str(error))
    runs = [run for run in runs if run.number in predictions]
    if not runs or count < 1:
        return None
    first = list(predictions[runs[0].number].values())
    metric = _aligning(group)
    kind = _kind(group, metric, first)
    errors = {r.number: _errors(kind, metric, predictions[r.number]) for r in runs}
    ids = _chosen(errors, runs, recordings, count)
    remarks.insert(0, _rule(len(runs)))
    clips = recordings.clips(runs[0], ids)
    found = []
    for one in ids:
        prediction = predictions[runs[0].number][one]
        answers = [
            _answer(kind, metric, run, predictions[run.number][one], recordings)
            for run in runs
            if one in predictions[run.number]
        ]
        reference = recordings.text(runs[0], one) or "" if kind != "words" else prediction.reference
        found.append(Example(one, prediction.speaker, reference, clips.get(one), tuple(answers)))
    remarks += recordings.remarks(runs[0])
    return Examples(group, kind, runs[0].interface, tuple(found), tuple(remarks))


def _chosen_runs(group: Group) -> tuple[list[Run], list[str]]:
    """One run of each upstream, the first seed, through the interface that has most upstreams."""
    cells = {
        interface: [own[0] for name in group.upstreams if (own := group.cell(name, interface))]
        for interface in group.interfaces
    }
    interface = max(
        group.interfaces, key=lambda name: (len(cells[name]), -group.interfaces.index(name))
    )
    runs = cells[interface]
    remarks = []
    if len(runs) > RUNS:
        remarks.append(f"{RUNS} of {len(runs)} upstreams shown")
    if len(runs) == 1 and len(group.interfaces) > 1:  # then interfaces are what differs
        runs = [own[0] for own in cells.values() if own]
        if len(runs) > RUNS:
            remarks.append(f"{RUNS} of {len(runs)} interfaces shown")
    return runs[:RUNS], remarks


def _rule(runs: int) -> str:
    if runs > 1:
        return "chosen: the utterances in which these runs differ most in errors"
    return "chosen: the utterances whose error rate is nearest to the run's own"


def _aligning(group: Group) -> Metric | None:
    """The task's first metric that counts edits of words; None where there is none, or no such task."""
    try:
        metrics = registry.load("tasks", group.task).metrics
    except BenchError:
        return None
    return next((metric for metric in metrics if metric.alignment is not None), None)


def _kind(group: Group, metric: Metric | None, predictions: Sequence[Prediction]) -> str:
    if group.protocol == "training-free":
        return "search"
    single = all(len(p.reference.split()) == 1 for p in predictions)
    return "labels" if metric is None or single else "words"


def _errors(
    kind: str, metric: Metric | None, predictions: Mapping[str, Prediction]
) -> dict[str, tuple[float, float]]:
    """(errors, of how many) of every utterance."""
    if kind == "words":
        assert metric is not None
        rows = {name: metric.counts(p) for name, p in predictions.items()}
        return {name: (float(row[0]), float(row[1])) for name, row in rows.items()}
    if kind == "labels":
        return {n: (float(p.reference != p.hypothesis), 1.0) for n, p in predictions.items()}
    found = {name: _hits(p) for name, p in predictions.items()}
    return {
        n: (float(len(f) - sum(hit for _, _, hit in f)), float(len(f))) for n, f in found.items()
    }


def _chosen(
    errors: Mapping[int, Mapping[str, tuple[float, float]]],
    runs: Sequence[Run],
    recordings: Recordings,
    count: int,
) -> list[str]:
    """Identifiers of the utterances, most telling first; ties by identifier."""
    shared = set.intersection(*(set(own) for own in errors.values()))
    own = errors[runs[0].number]
    overall = sum(e for e, _ in own.values()) / max(1.0, sum(n for _, n in own.values()))

    def telling(one: str) -> float:
        if len(runs) > 1:
            return float(np.ptp([errors[run.number][one][0] for run in runs]))
        return -abs(own[one][0] / max(1.0, own[one][1]) - overall)

    def rank(one: str) -> tuple[bool, float, str]:
        return recordings.seconds(runs[0], one) > LONGEST, -round(telling(one), 9), one

    return sorted(shared, key=rank)[:count]


def _answer(
    kind: str, metric: Metric | None, run: Run, prediction: Prediction, recordings: Recordings
) -> Answer:
    if kind == "words":
        assert metric is not None
        pieces = aligned(metric, prediction)
        wrong = sum(piece.kind != "equal" for piece in pieces)
        words = sum(piece.kind != "insert" for piece in pieces)
        return Answer(run, f"{wrong} error{'' if wrong == 1 else 's'} in {words}", pieces)
    if kind == "labels":
        right = prediction.reference == prediction.hypothesis
        piece = Piece("hit" if right else "miss", prediction.reference, prediction.hypothesis)
        return Answer(run, "right" if right else "wrong", (piece,))
    found = _hits(prediction)
    pieces = tuple(
        Piece("hit" if hit else "miss", recordings.text(run, name) or "", f"{name} {score}")
        for name, score, hit in found
    )
    return Answer(
        run, f"{sum(hit for _, _, hit in found)} of the first {len(found)} hold it", pieces
    )


def aligned(metric: Metric, prediction: Prediction) -> tuple[Piece, ...]:
    """The words of reference and hypothesis side by side, by the metric's own alignment (jiwer's)."""
    assert metric.alignment is not None
    ours, theirs = prediction.reference.split(), prediction.hypothesis.split()
    pieces = []
    for chunk in metric.alignment(prediction):
        one = ours[chunk.ref_start_idx : chunk.ref_end_idx]
        other = theirs[chunk.hyp_start_idx : chunk.hyp_end_idx]
        for place in range(max(len(one), len(other))):
            pieces.append(
                Piece(
                    chunk.type,
                    one[place] if place < len(one) else "",
                    other[place] if place < len(other) else "",
                )
            )
    return tuple(pieces)


def _hits(prediction: Prediction) -> list[tuple[str, str, bool]]:
    """(document, score, whether the query occurs in it) of the first answers to a query."""
    matches = set(prediction.reference.splitlines())
    rows = [line.rpartition(" ") for line in prediction.hypothesis.splitlines()[:TOP]]
    return [(name, score, name in matches) for name, _, score in rows]
