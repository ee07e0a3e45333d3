"""Linear probes of each layer: who speaks (pooled utterances), and which phone (frames)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssft_bench.analysis.alignments import GRID, Alignment, Labels, PhoneIndex
from ssft_bench.analysis.report import Column, Report
from ssft_bench.analysis.sources import Frames, Speech, Vectors, hidden
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import UsageError
from ssft_bench.metric import Counts, Metric, Prediction
from ssft_bench.seeds import seed_for
from ssft_bench.statistics import score
from ssft_bench.upstream import Upstream

MAX_FRAMES = 10_000
"""Frames that the phone probe learns from."""

SPEAKER_COLUMNS = (
    Column("upstream", "upstream"),
    Column("layer", "layer"),
    Column("speaker accuracy %", "speaker_accuracy", ".1f"),
    Column("95% CI", "speaker_ci95", ".1f"),
    Column("chance %", "speaker_chance", ".1f"),
)
PHONE_COLUMNS = (
    Column("phone accuracy %", "phone_accuracy", ".1f"),
    Column("95% CI", "phone_ci95", ".1f"),
    Column("chance %", "phone_chance", ".1f"),
)


def _matches(p: Prediction) -> Counts:
    pairs = list(zip(p.reference.split(" "), p.hypothesis.split(" "), strict=True))
    return np.array([sum(a == b for a, b in pairs), len(pairs)], np.float64)


ACCURACY = Metric(
    "accuracy", "%", True, True, _matches, lambda sums: 100 * sums[..., 0] / sums[..., 1]
)
"""Share of labels that are right; an utterance has one label, or one per frame, spaces between."""


@dataclass(frozen=True)
class Split:
    """Utterances the probes learn from, and those they are scored on, of the same speakers."""

    train: list[Utterance]
    held_out: list[Utterance]
    left_out: int
    """Utterances without a speaker, or whose speaker has no other."""

    @property
    def speakers(self) -> int:
        """How many there are."""
        return len({row.speaker for row in self.train})


def split_by_speaker(rows: Sequence[Utterance], share: float, seed: int) -> Split:
    """Hold out `share` of each speaker's utterances, at least one, and leave one at least to learn.

    Which ones depends on (seed, speaker) and the speaker's own list only.
    Raises UsageError when fewer than two speakers have two utterances.
    """
    by_speaker: dict[str, list[Utterance]] = {}
    for row in rows:
        if row.speaker is not None:
            by_speaker.setdefault(row.speaker, []).append(row)
    kept = {name: own for name, own in sorted(by_speaker.items()) if len(own) >= 2}
    if len(kept) < 2:
        raise UsageError(
            f"a speaker probe needs two speakers with two utterances each; here are {len(kept)}. "
            "Another --split, or a larger --max-utterances?"
        )
    train, held_out = [], []
    for name, own in kept.items():
        rng = np.random.default_rng(seed_for(seed, "held out", name))
        count = min(len(own) - 1, max(1, round(share * len(own))))
        out = set(rng.permutation(len(own))[:count].tolist())
        held_out += [row for i, row in enumerate(own) if i in out]
        train += [row for i, row in enumerate(own) if i not in out]
    return Split(train, held_out, len(rows) - len(train) - len(held_out))


def linear_probe(
    x: Vectors | Frames, y: Sequence[Any] | Labels, test: Vectors | Frames, max_iter: int = 1000
) -> Any:
    """Labels for `test` [m, D] of a multinomial logistic regression on (x [n, D], y [n]).

    Each feature is brought to zero mean and unit variance on x; L2 penalty with C = 1.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=max_iter, tol=1e-3))
    with warnings.catch_warnings():
        # Phone frames are not separable; the last digits of the weights do not move an accuracy.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x, y)
    return model.predict(test)


def centre_phones(labels: Labels, frames: int, stride: int) -> Labels:
    """The phone at the middle of each frame, int64 [T]: labels on the 10 ms grid, -1 where none is."""
    middles = ((np.arange(frames) + 0.5) * stride / GRID).astype(np.int64)
    padded = np.append(labels, -1)
    return np.asarray(padded[np.minimum(middles, len(labels))])


@dataclass(frozen=True)
class PhoneTask:
    """What the phone probe needs."""

    alignments: dict[str, Alignment]
    index: PhoneIndex

    def labels(self, row: Utterance, frames: int, stride: int) -> Labels:
        """Phone numbers of frames [T]; -1 without alignment."""
        alignment = self.alignments.get(row.id)
        if alignment is None:
            return np.full(frames, -1, np.int64)
        return centre_phones(self.index.labels(alignment), frames, stride)


def phone_task(split: Split, alignments: dict[str, Alignment], *, drop_silence: bool) -> PhoneTask:
    """Phones of the utterances of a split. Raises UsageError when either half has no alignment."""
    for half, rows in (("to learn from", split.train), ("held out", split.held_out)):
        if not any(row.id in alignments for row in rows):
            raise UsageError(f"--alignments: none of the {len(rows)} utterances {half} is aligned")
    rows = [row for row in split.train + split.held_out if row.id in alignments]
    index = PhoneIndex([alignments[row.id] for row in rows], drop_silence=drop_silence)
    return PhoneTask(alignments, index)


def measure(
    upstream: Upstream, layers: Sequence[int], split: Split, phones: PhoneTask | None, seed: int
) -> list[dict[str, Any]]:
    """One row per layer: accuracy on held-out utterances in %, interval, and chance."""
    rows = split.train + split.held_out
    means: list[list[Vectors]] = [[] for _ in layers]
    frames: list[list[Frames]] = [[] for _ in layers]
    drawn = FrameDraw(split, phones, seed)
    for row, states in zip(rows, hidden(upstream, rows, layers), strict=True):
        for place, (layer, state) in enumerate(zip(layers, states, strict=True)):
            means[place].append(state.double().mean(dim=0).numpy())
            kept = drawn.kept(row, len(state), upstream.spec.strides[layer])
            frames[place].append(state.numpy()[kept])
    found = []
    for place, layer in enumerate(layers):
        values = {"upstream": upstream.spec.name, "layer": layer}
        values |= _speakers(np.stack(means[place]), split, seed)
        if phones is not None:
            stride = upstream.spec.strides[layer]
            values |= _phones(frames[place], drawn, split, stride, seed)
        found.append(values)
    return found


class FrameDraw:
    """Which frames the phone probe uses: of training utterances a fixed share, of the others all."""

    def __init__(self, split: Split, phones: PhoneTask | None, seed: int) -> None:
        self.phones, self.seed = phones, seed
        self.trained = {row.id for row in split.train}
        self.each = max(1, MAX_FRAMES // max(1, len(split.train)))
        self.labels: dict[tuple[str, int], Labels] = {}

    def kept(self, row: Utterance, frames: int, stride: int) -> Labels:
        """Indices of frames with a phone, in order; their labels are remembered by (id, stride)."""
        if self.phones is None:
            return np.zeros(0, np.int64)
        labels = self.phones.labels(row, frames, stride)
        known = np.flatnonzero(labels >= 0)
        if row.id in self.trained:
            rng = np.random.default_rng(seed_for(self.seed, "phone frames", row.id))
            known = np.sort(rng.permutation(known)[: self.each])
        self.labels[row.id, stride] = labels[known]
        return np.asarray(known)


def _speakers(means: Vectors, split: Split, seed: int) -> dict[str, Any]:
    names = [str(row.speaker) for row in split.train]
    count = len(names)
    guesses = linear_probe(means[:count], names, means[count:])
    answers = [str(row.speaker) for row in split.held_out]
    codes = {name: str(i) for i, name in enumerate(sorted(set(names)))}  # names may hold spaces
    predictions = [
        Prediction(row.id, codes[answer], codes[guess])
        for row, answer, guess in zip(split.held_out, answers, guesses, strict=True)
    ]
    return _scored("speaker", predictions, 100 * _majority(names, answers), seed)


def _phones(
    frames: Sequence[Frames], drawn: FrameDraw, split: Split, stride: int, seed: int
) -> dict[str, Any]:
    count = len(split.train)
    x = np.concatenate(frames[:count])
    y = np.concatenate([drawn.labels[row.id, stride] for row in split.train])
    test = [
        (row, part) for row, part in zip(split.held_out, frames[count:], strict=True) if len(part)
    ]
    if not test or len(np.unique(y)) < 2:
        raise UsageError(
            "--alignments: the phone probe needs two phones, and frames of both halves"
        )
    guesses = linear_probe(x, y, np.concatenate([part for _, part in test]), max_iter=200)
    predictions, answers, at = [], [], 0
    for row, part in test:
        own = drawn.labels[row.id, stride]
        guess = guesses[at : at + len(part)]
        at += len(part)
        predictions.append(Prediction(row.id, " ".join(map(str, own)), " ".join(map(str, guess))))
        answers += own.tolist()
    return _scored("phone", predictions, 100 * _majority(y.tolist(), answers), seed)


def _scored(
    name: str, predictions: Sequence[Prediction], chance: float, seed: int
) -> dict[str, Any]:
    found = score(ACCURACY, predictions, seed=seed)
    return {
        f"{name}_accuracy": found.value,
        f"{name}_ci95": list(found.ci95),
        f"{name}_chance": chance,
        f"{name}_ci_method": found.method,
    }


def _majority(learned: Sequence[Any], answers: Sequence[Any]) -> float:
    """Accuracy of always saying the most frequent training label."""
    labels, counts = np.unique(np.array(learned), return_counts=True)
    return float(np.mean(np.array(answers) == labels[counts.argmax()]))


def report(
    rows: list[dict[str, Any]], speech: Speech, split: Split, settings: dict[str, Any]
) -> Report:
    """The table over upstreams and layers."""
    with_phones = "phone_accuracy" in rows[0]
    notes = [
        f"{speech.origin}; {split.speakers} speakers, {len(split.train)} utterances to learn from, "
        f"{len(split.held_out)} held out"
        + (
            f", {split.left_out} left out (no speaker, or its only one)." if split.left_out else "."
        ),
        "Probe: multinomial logistic regression on standardised features, C = 1; speakers from the "
        "mean over time of a hidden state. Chance: always the most frequent training label.",
        f"CI: {rows[0]['speaker_ci_method']}.",
    ]
    if with_phones:
        silence = "left out" if settings.get("drop_silence") else "kept as a phone"
        notes.append(
            f"Phones: single frames of the same hidden state and the same held-out utterances, at most "
            f"about {MAX_FRAMES:,} frames to learn from; silence {silence}."
        )
    columns = SPEAKER_COLUMNS + (PHONE_COLUMNS if with_phones else ())
    return Report("speaker-probe", "Speakers and phones by layer", columns, rows, settings, notes)
