"""Packs are functions of (seed, index); views do not depend on the number of workers."""

from __future__ import annotations

import functools
import operator
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import MissingError
from ssft_bench.method import FineTuningMethod, Wave
from ssft_bench.tuning.batches import Packs, ViewBatches
from ssft_bench.tuning.spec import TuneData
from tests.speech import murmur, write


def seconds(count: int = 40) -> list[float]:
    return np.random.default_rng().uniform(1, 10, count).tolist()


def members(packs: Packs, first: int, count: int) -> list[list[int]]:
    return [[i for i, _ in packs[n]] for n in range(first, first + count)]


def test_a_shuffled_pass_has_everything_once_and_passes_differ() -> None:
    packs = Packs(seconds(), TuneData(corpus="mini", batch_size=3), 1)
    assert packs.per_pass == 14
    one, two = (members(packs, 14 * n, 14) for n in range(2))
    assert (
        Counter(functools.reduce(operator.iadd, one, []))
        == Counter(range(40))
        == Counter(functools.reduce(operator.iadd, two, []))
    )
    assert one != two
    places = [place for n in range(14) for _, place in packs[n]]
    assert places == list(range(40))
    again = Packs(packs.seconds, packs.spec, 1)
    assert members(again, 17, 5) == members(packs, 17, 5)  # addressed out of order
    assert members(Packs(packs.seconds, packs.spec, 2), 0, 14) != one


def test_packs_by_length() -> None:
    lengths = seconds(60)
    spec = TuneData(
        corpus="mini", pack="by_length", batch_size=None, batch_seconds=20, min_seconds=2,
        drop_last=True,
    )  # fmt: skip
    packs = Packs(lengths, spec, 1)
    one, two = (members(packs, packs.per_pass * n, packs.per_pass) for n in range(2))
    assert one != two  # the order changes
    assert sorted(map(sorted, one)) == sorted(map(sorted, two))  # the packs do not
    for pack in one:
        assert sum(lengths[i] for i in pack) <= 20
        assert min(lengths[i] for i in pack) >= 2
    spans = sorted((min(lengths[i] for i in p), max(lengths[i] for i in p)) for p in one)
    assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_bounds_hours_and_dropping() -> None:
    lengths = [1.0, 3.0, 5.0, 50.0]
    spec = TuneData(corpus="mini", batch_size=2, min_seconds=2, max_seconds=60, crop_seconds=10)
    packs = Packs(lengths, spec, 1)
    assert packs.kept == [1, 2, 3]
    assert packs.hours(2) == pytest.approx((3 + 5 + 10) / 3600)
    assert packs.hours(4) == pytest.approx(2 * (3 + 5 + 10) / 3600)
    dropped = Packs(lengths, spec.model_copy(update={"drop_last": True}), 1)
    assert dropped.per_pass == 1
    with pytest.raises(MissingError, match=r"data\.min_seconds"):
        Packs([1.0], spec, 1)


class Doubling(FineTuningMethod):
    """Views that show what was drawn."""

    name = "doubling"

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.remarks = []

    def views(
        self, wave: Wave, utterance: Utterance, rng: np.random.Generator, place: int
    ) -> tuple[Wave, Wave]:
        self.remarks.append("heard")
        return wave, np.array([rng.random(), place], np.float32)

    def trainable(self, student: object) -> list[str]:
        return []

    def loss(self, student: object, teacher: object, batch: object) -> tuple[torch.Tensor, dict]:
        raise NotImplementedError


def test_views_are_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    rng = np.random.default_rng()
    rows = []
    for i in range(6):
        path = write(tmp_path / f"{i}.wav", murmur(rng, float(rng.uniform(0.2, 0.5))))
        rows.append(Utterance(f"u{i}", path, "train"))
    spec = TuneData(corpus="mini", batch_size=2, crop_seconds=0.25)
    packs = Packs([0.5] * 6, spec, 3)

    def run(first: int, workers: int) -> list[tuple[list[str], list[list[torch.Tensor]]]]:
        batches = ViewBatches(rows, packs, Doubling(), total=8, workers=workers)
        found = list(islice(batches(first, 0, 1), 8))
        assert all(b.remarks == ["heard", "heard"] for b in found)
        return [(b.ids, b.views) for b in found]

    alone, helped, later = run(0, 0), run(0, 2), run(5, 1)
    assert len(alone) == 8
    assert [ids for ids, _ in alone] == [ids for ids, _ in helped]
    for (_, a), (_, b) in zip(alone + alone[5:], helped + later, strict=True):
        assert all(
            torch.equal(x, y) for u, v in zip(a, b, strict=True) for x, y in zip(u, v, strict=True)
        )
    assert max(len(w) for _, views in alone for w in views[0]) <= 4000
    drawn = [float(w[0]) for _, views in alone for w in views[1]]
    assert len(set(drawn)) == len(drawn)  # a second pass draws anew


def test_ranks_share_a_batch(tmp_path: Path) -> None:
    rng = np.random.default_rng()
    rows = [
        Utterance(f"u{i}", write(tmp_path / f"{i}.wav", murmur(rng)), "train") for i in range(4)
    ]
    packs = Packs([0.3] * 4, TuneData(corpus="mini", batch_size=4), 1)
    batches = ViewBatches(rows, packs, Doubling(), total=1, workers=0)
    parts = [next(iter(batches(0, rank, 2))).ids for rank in range(2)]
    assert sorted(parts[0] + parts[1]) == ["u0", "u1", "u2", "u3"]
