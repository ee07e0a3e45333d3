"""Training batches of waveforms, for an upstream that learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from ssft_bench.audio import read_utterance
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.features import TrainBatches


class WaveBatch:
    """A micro-batch: waveforms [samples] at 16 kHz and what belongs to each; targets may be missing.

    No dataclass: Fabric would walk through its fields and copy every one at each step.
    """

    weight = 1.0

    def __init__(
        self, waves: Sequence[Tensor], utterances: Sequence[Utterance], targets: Sequence[Tensor]
    ) -> None:
        self.waves, self.utterances, self.targets = list(waves), list(utterances), list(targets)


class Waves:
    """Waveforms of a run's utterances on the CPU, kept in memory while they fit.

    `Waves(memory_gib=spec.data.memory_gib).batch(rows, targets)`; to score, `batch(rows, [])`.
    """

    def __init__(self, memory_gib: float) -> None:
        self.room = memory_gib * 2**30
        self._kept: dict[str, Tensor] = {}

    def wave(self, utterance: Utterance) -> Tensor:
        """Float32 [samples], the utterance's part of its file. Raises BrokenAudio."""
        kept = self._kept.get(utterance.id)
        if kept is not None:
            return kept
        wave = torch.from_numpy(read_utterance(utterance))
        size = wave.numel() * wave.element_size()
        if size <= self.room:
            self._kept[utterance.id] = wave
            self.room -= size
        return wave

    def batch(self, utterances: Sequence[Utterance], targets: Sequence[Tensor]) -> WaveBatch:
        """The batch of these utterances, in this order."""
        return WaveBatch([self.wave(u) for u in utterances], utterances, targets)


class Order(Protocol):
    """Which utterances make up the batches of one pass, as indices of `rows`; fixed by (seed, epoch)."""

    def __call__(
        self,
        rows: Sequence[Utterance],
        seconds: Sequence[float],
        *,
        batch_size: int,
        batch_seconds: float | None,
        seed: int,
        epoch: int,
    ) -> list[list[int]]:
        """At most `batch_size` rows a batch, and `batch_seconds` of audio with padding counted."""
        ...


class WaveBatches(TrainBatches):
    """Endless, addressable training batches of waveforms, in the buckets of the frozen protocol.

    Another order of the rows (consecutive segments side by side, say) goes in as `order`:
    `WaveBatches(rows, targets, seconds, Waves(6.0), batch_size=16, batch_seconds=None, seed=1,
    order=getattr(upstream.expert, "batches", None))`.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        targets: Sequence[Tensor],
        seconds: Sequence[float],
        waves: Waves,
        *,
        batch_size: int,
        batch_seconds: float | None,
        seed: int,
        order: Order | None = None,
        fixed: Sequence[Sequence[int]] | None = None,
    ) -> None:
        """`seconds` are the utterances' lengths; `order` None: batches of similar length, or `fixed` ones."""
        super().__init__(
            utterances, targets, seconds, cast(Any, waves),
            batch_size=batch_size, batch_seconds=batch_seconds, seed=seed, fixed=fixed,
        )  # fmt: skip
        self.order = order

    def indices(self, epoch: int) -> list[list[int]]:
        """Batches of pass `epoch`, as indices of utterances."""
        if self.order is None:
            return super().indices(epoch)
        return self.order(
            self.utterances, self.seconds, batch_size=self.batch_size,
            batch_seconds=self.batch_seconds, seed=self.seed, epoch=epoch,
        )  # fmt: skip
