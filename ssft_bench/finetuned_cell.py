"""Runs in which the upstream learns too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ssft_bench.cell import Machine, Parts, Turn
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.features import Batch, FrozenFeatures
from ssft_bench.finetuning.batches import WaveBatches, Waves
from ssft_bench.finetuning.learner import FineTunedDownstream
from ssft_bench.interface_in_run import fit
from ssft_bench.trained_cell import TrainedCell
from ssft_bench.training import Batches


class FineTunedCell(TrainedCell):
    """Upstream, interface and head learn together; hidden states are computed anew each time."""

    learner: FineTunedDownstream

    def __init__(self, parts: Parts, machine: Machine) -> None:
        super().__init__(parts, machine)
        assert self.spec.finetune is not None
        self.learner = FineTunedDownstream(
            self.upstream, self.interface, self._head(), self.task, self.spec.finetune,
            seed=self.spec.seed,
        )  # fmt: skip
        self.waves = Waves(self.spec.data.memory_gib)

    def _extract(self) -> None:
        """The upstream may want to know the rows, also where a twin's parameters are taken."""
        begin = getattr(self.upstream.expert, "begin", None)
        if begin is not None:
            begin(self.data.splits, self.spec.seed, self.folder)

    def _fit(self) -> dict[str, Any]:
        """An interface that is fitted sees the upstream as it is before training."""
        layers = self.interface.layers_used()
        features = FrozenFeatures(self.upstream, layers, self.fabric.device, 0.0)
        return fit(self.interface, features, self.data.splits["train"])

    def _train_batches(self, targets: list[Tensor], seconds: list[float]) -> Batches:
        expert, data = self.upstream.expert, self.spec.data
        return WaveBatches(
            self.data.splits["train"], targets, seconds, self.waves,
            batch_size=data.batch_size, batch_seconds=data.batch_seconds, seed=self.spec.seed,
            order=getattr(expert, "batches", None), fixed=self._published(seconds),
        )  # fmt: skip

    def _work(self) -> Iterator[Turn]:
        yield from super()._work()
        self.record.finetuning = self.learner.describe()

    def _batch(self, rows: Sequence[Utterance]) -> Any:
        return self.waves.batch(rows, [])

    def _hidden_batch(self, batch: Any) -> Batch:
        with torch.inference_mode():
            return Batch(self.learner.hidden(batch), batch.utterances, [])

    def _seconds_encoded(self) -> float:
        return self.learner.seconds_of_audio
