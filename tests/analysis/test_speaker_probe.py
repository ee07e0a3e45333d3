"""Probes: the split keeps its promises, speakers are found where they are, chance is chance."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssft_bench.analysis import speaker_probe
from ssft_bench.analysis.alignments import Alignment, Segment
from ssft_bench.analysis.speaker_probe import (
    ACCURACY,
    centre_phones,
    linear_probe,
    measure,
    phone_task,
    split_by_speaker,
)
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import UsageError
from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.metric import Prediction


def people(counts: dict[str, int]) -> list[Utterance]:
    return [
        Utterance(f"{name}-{i}", Path("none"), "train", speaker=name)
        for name, count in counts.items()
        for i in range(count)
    ]


def test_every_speaker_is_in_both_halves_and_nothing_in_two() -> None:
    rng = np.random.default_rng()
    counts = {f"s{i}": int(rng.integers(2, 20)) for i in range(12)}
    rows = [*people(counts), *people({"lonely": 1}), Utterance("x", Path("none"), "train")]
    split = split_by_speaker(rows, 0.25, 3)
    train, out = Counter(r.speaker for r in split.train), Counter(r.speaker for r in split.held_out)
    for name, count in counts.items():
        assert out[name] == min(count - 1, max(1, round(0.25 * count)))
        assert train[name] + out[name] == count
    assert split.left_out == 2
    assert split.speakers == 12
    assert not {r.id for r in split.train} & {r.id for r in split.held_out}


def test_the_split_depends_on_the_seed_and_a_speakers_own_utterances_only() -> None:
    both = split_by_speaker(people({"a": 12, "b": 12}), 0.5, 1)
    more = split_by_speaker(people({"c": 5, "a": 12, "b": 12}), 0.5, 1)
    held = {r.id for r in both.held_out}
    assert held == {r.id for r in more.held_out if r.speaker != "c"}
    assert held != {r.id for r in split_by_speaker(people({"a": 12, "b": 12}), 0.5, 2).held_out}


def test_too_few_speakers_are_refused() -> None:
    with pytest.raises(UsageError, match="two speakers with two utterances"):
        split_by_speaker(people({"a": 9, "b": 1}), 0.25, 0)


@pytest.mark.filterwarnings("ignore:lbfgs failed")
def test_linear_probe_is_the_regression_of_standardised_features() -> None:
    """Its optimum: gradient of the penalised likelihood, by hand, is zero; labels are its argmax."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng()
    x = rng.normal(size=(90, 4)) * [1, 100, 0.01, 5] + [0, 50, 1, -9]
    y = (x[:, 1] > 50).astype(int) + (x[:, 2] > 1)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    model = LogisticRegression(max_iter=5000, tol=1e-9).fit(z, y)
    scores = z @ model.coef_.T + model.intercept_
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    gradient = (p - np.eye(3)[y]).T @ z + model.coef_
    assert np.abs(gradient).max() < 1e-2
    agree = np.mean(linear_probe(x, y, x) == scores.argmax(axis=1))
    assert agree > 0.97
    raw = LogisticRegression(max_iter=200).fit(x, y).predict(x)
    assert np.mean(raw == scores.argmax(axis=1)) < agree  # 0.01 of spread is penalised away


def test_centre_phone_equals_a_loop() -> None:
    rng = np.random.default_rng()
    for stride in (160, 320, 400):
        labels = rng.integers(0, 9, int(rng.integers(5, 30)))
        expected = []
        for t in range(20):
            at = (t * stride + stride // 2) // 160  # the 10 ms frame that holds the middle sample
            expected.append(int(labels[at]) if at < len(labels) else -1)
        assert centre_phones(labels, 20, stride).tolist() == expected, stride


def test_accuracy_counts_labels() -> None:
    sums = ACCURACY.counts(Prediction("u", "1 2 12", "1 3 12")) + ACCURACY.counts(
        Prediction("v", "4", "4")
    )
    assert sums.tolist() == [3, 4]
    assert ACCURACY.combine(sums) == 75


class Fake:
    """Layer 0 holds the speaker, layer 1 the phone, nothing else but noise."""

    spec = UpstreamSpec("fake", (8, 8), (160, 160))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Utterance], dict[str, Alignment]]:
    rng = np.random.default_rng()
    rows = people({f"s{i}": 10 for i in range(4)})
    alignments = {}
    states = {}
    for row in rows:
        phones = rng.integers(0, 4, 6)
        segments = tuple(Segment(f"P{'ABCD'[p]}", 5 * i, 5) for i, p in enumerate(phones))
        alignments[row.id] = Alignment((), segments)
        voice = 3 * np.eye(8)[int(str(row.speaker)[1:])]
        sounds = 3 * np.eye(8)[phones].repeat(5, axis=0)
        noise = rng.normal(size=(2, 30, 8))
        states[row.id] = [torch.from_numpy(noise[0] + voice), torch.from_numpy(noise[1] + sounds)]

    def hidden(_: Any, rows: list[Utterance], layers: list[int]) -> Any:
        return ([states[row.id][layer].float() for layer in layers] for row in rows)

    monkeypatch.setattr(speaker_probe, "hidden", hidden)
    return rows, alignments


def test_probes_find_what_a_layer_holds_and_nothing_else(
    fake: tuple[list[Utterance], dict[str, Alignment]],
) -> None:
    rows, alignments = fake
    split = split_by_speaker(rows, 0.3, 0)
    phones = phone_task(split, alignments, drop_silence=False)
    voices, sounds = measure(Fake(), [0, 1], split, phones, 0)  # type: ignore[arg-type]
    assert voices["speaker_accuracy"] == 100
    assert voices["phone_accuracy"] < 45  # 4 phones, no information
    assert sounds["phone_accuracy"] > 85
    assert sounds["speaker_accuracy"] < 75  # 12 held out, 4 speakers, by luck at most
    assert voices["speaker_chance"] == 25
    low, high = sounds["phone_ci95"]
    assert low <= sounds["phone_accuracy"] <= high
    assert low < high
    assert "utterances" in voices["speaker_ci_method"]


def test_phones_without_alignment_are_refused(
    fake: tuple[list[Utterance], dict[str, Alignment]],
) -> None:
    rows, alignments = fake
    split = split_by_speaker(rows, 0.3, 0)
    only = {row.id: alignments[row.id] for row in split.train}
    with pytest.raises(UsageError, match="held out is aligned"):
        phone_task(split, only, drop_silence=False)
    assert "phone_accuracy" not in measure(Fake(), [1], split, None, 0)[0]  # type: ignore[arg-type]
