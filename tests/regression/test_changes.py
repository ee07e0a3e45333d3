"""Which utterances changed, against a plain comparison of two dictionaries."""

from __future__ import annotations

import numpy as np

from ssft_bench.downstreams.edit_distance import error_rate_metric
from ssft_bench.metric import Prediction
from ssft_bench.regression.changes import WIDTH, changes, lines, shorten

WER = error_rate_metric("wer", primary=True)


def test_changes_by_plain_loops() -> None:
    seed = np.random.SeedSequence().entropy
    rng = np.random.default_rng(seed)
    for _ in range(20):
        runs = [
            {
                f"u{i:02}": " ".join(rng.choice(["A", "B"], 2))
                for i in range(12)
                if rng.random() < 0.9
            }
            for _ in range(2)
        ]
        old, new = ([Prediction(i, "A B", h) for i, h in run.items()] for run in runs)
        found = {c.id: (c.old, c.new) for c in changes(WER, old, new)}
        wanted = {}
        for name in {*runs[0], *runs[1]}:
            if runs[0].get(name) != runs[1].get(name):
                wanted[name] = (runs[0].get(name), runs[1].get(name))
        assert found == wanted, seed
        for change in changes(WER, old, new):
            if change.old is not None and change.new is not None:
                errors = [sum(a != b for a, b in zip(h.split(), "AB", strict=True)) for h in
                          (change.old, change.new)]  # fmt: skip
                assert change.worse == (errors[1] > errors[0]), seed


def test_what_became_worse_comes_first() -> None:
    old = [Prediction("a", "X", "Y"), Prediction("b", "X", "X"), Prediction("c", "X", "X")]
    new = [Prediction("a", "X", "X"), Prediction("b", "X", "X"), Prediction("c", "X", "Y")]
    found = changes(WER, old, new)
    assert [(c.id, c.worse) for c in found] == [("c", True), ("a", False)]
    assert lines(found, 1) == ["c: reference 'X' | was 'X' | is 'Y'", "... and 1 more"]
    assert changes(WER, old, old) == []


def test_another_reference_is_a_change() -> None:
    (change,) = changes(WER, [Prediction("a", "X", "Y")], [Prediction("a", "Z", "Y")])
    assert change.reference == "Z"


def test_long_texts_are_cut() -> None:
    assert shorten(None) == "absent"
    assert shorten("a\nb") == "'a / b'"
    assert len(shorten("x" * 1000)) == WIDTH + 2


def test_long_texts_are_shown_where_they_differ() -> None:
    same = "B " * 200
    (told,) = lines(
        changes(WER, [Prediction("a", "B", f"{same}C")], [Prediction("a", "B", f"{same}D")]), 9
    )
    assert told.endswith("B C' | is '…" + ("B " * 200)[-25:] + "D'")
    assert len(told) < 200
