"""Micro-batches of views, made in data workers so that they never block training.

Micro-batch `index` is a function of (seed, index) alone, as `ssft_bench.training.Batches` wants: a
resumed run hears the same views, whatever the number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ssft_bench.audio import RATE, read_utterance
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import MissingError
from ssft_bench.method import FineTuningMethod, ViewBatch, Wave
from ssft_bench.ranks import weight
from ssft_bench.seeds import seed_for
from ssft_bench.tuning.spec import TuneData


class Packs:
    """Which utterances make up micro-batch `index`."""

    def __init__(self, seconds: Sequence[float], spec: TuneData, seed: int) -> None:
        """`seconds` of every utterance. Raises MissingError when the bounds leave nothing."""
        longest = spec.max_seconds or float("inf")
        self.kept = [i for i, s in enumerate(seconds) if spec.min_seconds <= s <= longest]
        self.seconds = [min(s, spec.crop_seconds or s) for s in seconds]
        self.spec, self.seed = spec, seed
        self._passes: dict[int, list[list[tuple[int, int]]]] = {}
        self.per_pass = len(self._pass(0)) if self.kept else 0
        if not self.per_pass:
            raise MissingError(
                f"corpus {spec.corpus}: no micro-batch can be filled from {len(seconds)} utterances; "
                "look at data.min_seconds, max_seconds, batch_size, batch_seconds, drop_last (--set)"
            )

    def __getitem__(self, index: int) -> list[tuple[int, int]]:
        """(utterance, its place in the pass) for every member of micro-batch `index`."""
        number, place = divmod(index, self.per_pass)
        return self._pass(number)[place]

    def hours(self, count: int) -> float:
        """Hours of speech (one view) in the first `count` micro-batches."""
        return sum(self.seconds[i] for n in range(count) for i, _ in self[n]) / 3600

    def _pass(self, number: int) -> list[list[tuple[int, int]]]:
        if number not in self._passes:
            rng = np.random.default_rng(seed_for(self.seed, "pass", number))
            if self.spec.pack == "by_length":
                order = sorted(self.kept, key=lambda i: (self.seconds[i], i))
                packs = self._cut(order)
                packs = [packs[i] for i in rng.permutation(len(packs))]
            else:
                packs = self._cut([self.kept[i] for i in rng.permutation(len(self.kept))])
            places = iter(range(len(self.kept)))
            self._passes = {number: [[(i, next(places)) for i in pack] for pack in packs]}
        return self._passes[number]

    def _cut(self, order: Sequence[int]) -> list[list[int]]:
        """Batches of neighbours in the given order."""
        size, bound = self.spec.batch_size, self.spec.batch_seconds
        packs: list[list[int]] = []
        current: list[int] = []
        total = 0.0
        for i in order:
            full = size is not None and len(current) >= size
            if current and (full or (bound and total + self.seconds[i] > bound)):
                packs.append(current)
                current, total = [], 0.0
            current.append(i)
            total += self.seconds[i]
        whole = size is not None and len(current) == size
        if current and (whole or not self.spec.drop_last):
            packs.append(current)
        return packs


class ViewBatches:
    """Endless, addressable micro-batches of a method's views."""

    def __init__(
        self,
        utterances: Sequence[Utterance],
        packs: Packs,
        method: FineTuningMethod,
        *,
        total: int,
        workers: int,
    ) -> None:
        """`total` micro-batches at most; `workers` processes make views, 0 for this one."""
        self.utterances, self.packs, self.method = utterances, packs, method
        self.total, self.workers = total, workers

    def __call__(self, first: int, rank: int, world: int) -> Iterator[ViewBatch]:
        """Micro-batches from `first` on; rank r of w takes every w-th utterance of each."""
        if first >= self.total:
            return
        source = _Source(self.utterances, self.packs, self.method, rank, world)
        loader: Any = DataLoader(
            source,
            batch_size=None,
            sampler=range(first, self.total),
            num_workers=self.workers,
            prefetch_factor=4 if self.workers else None,
        )
        for index, (ids, views, remarks) in enumerate(loader, first):
            batch = ViewBatch(ids, views, remarks)
            batch.weight = weight(len(self.packs[index]), rank, world)
            yield batch


class _Source(Dataset[Any]):
    """What a worker process holds: from the number of a micro-batch to its views."""

    def __init__(
        self,
        utterances: Sequence[Utterance],
        packs: Packs,
        method: FineTuningMethod,
        rank: int,
        world: int,
    ) -> None:
        self.utterances, self.packs, self.method = utterances, packs, method
        self.rank, self.world = rank, world

    def __getitem__(self, index: int) -> tuple[list[str], list[list[torch.Tensor]], list[str]]:
        members = self.packs[index]
        mine = members[self.rank :: self.world] or members[:1]
        self.method.remarks.clear()
        made = [self._views(self.utterances[i], index, place) for i, place in mine]
        ids = [self.utterances[i].id for i, _ in mine]
        views = [[torch.from_numpy(w) for w in view] for view in zip(*made, strict=True)]
        return ids, views, list(self.method.remarks)

    def _views(self, row: Utterance, index: int, place: int) -> tuple[Wave, ...]:
        rng = np.random.default_rng(seed_for(self.packs.seed, "views", index, row.id))
        wave = read_utterance(row)
        crop = self.packs.spec.crop_seconds
        if crop is not None and len(wave) > int(crop * RATE):
            start = int(rng.integers(0, len(wave) - int(crop * RATE) + 1))
            wave = wave[start : start + int(crop * RATE)]
        views = self.method.views(wave, row, rng, place)
        return tuple(np.ascontiguousarray(view, dtype=np.float32) for view in views)
