"""Runs that train: a head (and an interface) on a frozen upstream, or all of it together."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ssft_bench import cost, results
from ssft_bench.cell import Cell, Machine, Parts
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.downstream import Downstream
from ssft_bench.features import Batch, FrozenFeatures, TrainBatches, bucket
from ssft_bench.interface_in_run import fit
from ssft_bench.metric import Prediction
from ssft_bench.task import Task
from ssft_bench.training import Batches, Outcome, Trainer, seed_everything_for
from ssft_bench.trials import Trials
from ssft_bench.upstream import SAMPLE_RATE

if TYPE_CHECKING:
    from ssft_bench.finetuning.learner import FineTunedDownstream


class TrainedCell(Cell):
    """Train, pick on dev, score on test; what learns and on which batches is the subclass'."""

    LEFT_BEHIND = ("last.pt", "best.safetensors", "log.jsonl", "predictions.jsonl", "trials")
    task: Task
    learner: Downstream | FineTunedDownstream

    def __init__(self, parts: Parts, machine: Machine) -> None:
        super().__init__(parts, machine)
        assert isinstance(parts.task, Task)
        self.twin, self.interface = parts.twin, parts.interface

    def _execute(self) -> None:
        began = time.monotonic()
        beam = None
        if self.spec.lm is not None:  # before any long work: it may lack a file or a package
            beam = self.task.beam_search(self.spec.lm, self.data.splits["train"])
        learner = self.learner.to(self.fabric.device).eval()
        self.record.cost = self._static_cost(self.interface, learner.head)
        self._extract()
        extracted = time.monotonic()
        fitted = self._fit()
        outcome = self._train()
        trained = time.monotonic()
        dev = self._predict("dev")
        test = self._predict("test", beam)
        record = self.record
        record.predictions = results.save_predictions(self.folder, test)
        record.metrics = self._metrics("test", test)
        record.metrics += self._metrics("dev", dev)
        record.learning_curve = outcome.curve
        record.selection = {
            **self.spec.selection.model_dump(),
            **record.selection,
            "step": outcome.best_step,
            "value": outcome.best_value,
        }
        batches = map(self._hidden_batch, self._batches("dev"))
        record.interface_state = {**self._interface_state(self.interface, batches), **fitted}
        record.events += outcome.events
        record.cost |= {
            "seconds": {
                "hidden_states": round(extracted - began, 1),
                "training": round(outcome.seconds, 1),
                "scoring": round(time.monotonic() - trained, 1),
            },
            "speech_hours_encoded": round(self._seconds_encoded() / 3600, 4),
            "peak_memory_mib": cost.peak_memory_mib(),
        }

    def _tidy(self) -> None:
        (self.folder / "last.pt").unlink(missing_ok=True)

    # What a protocol decides

    def _extract(self) -> None:
        """Hidden states of all splits, where the upstream does not change."""

    @abstractmethod
    def _fit(self) -> dict[str, Any]:
        """Let the interface see the training split where it asks for that."""

    @abstractmethod
    def _train_batches(self, targets: list[Tensor], seconds: list[float]) -> Batches: ...

    @abstractmethod
    def _batch(self, rows: Sequence[Utterance]) -> Any:
        """A batch for scoring."""

    @abstractmethod
    def _seconds_encoded(self) -> float:
        """Seconds of audio that the upstream has processed."""

    # What is the same for all

    def _train(self) -> Outcome:
        """Train, or take what a run that differs only in its decoding has trained."""
        rows = self.data.splits["train"]
        targets = [self.task.encode(u) for u in rows]
        self._note_short(rows, targets)
        trials = Trials(self.folder, self.record, self.learner)
        if self.twin is not None:
            return trials.taken_from(self.twin)
        batches = self._train_batches(targets, [self.data.seconds[u.id] for u in rows])
        metric = self._selecting
        better: Literal["min", "max"] = "max" if metric.higher_is_better else "min"

        def trainer(spec: Any, folder: Any) -> Trainer:
            return Trainer(
                self.learner, batches, spec, folder, seed=self.spec.seed, fabric=self.fabric,
                evaluate=lambda: self._quick_score("dev"), select=metric.name,
                better=better, label=f"{self.task.name}", tensorboard=self.machine.tensorboard,
            )  # fmt: skip

        return trials.run(trainer, better)

    def _published(self, seconds: list[float]) -> list[list[int]] | None:
        """The batches of the task's published code, where they are asked for."""
        if self.spec.data.order == "length":
            return None
        return self.task.published_batches(self.data.splits["train"], seconds)

    def _note_short(self, rows: Sequence[Utterance], targets: Sequence[Tensor]) -> None:
        """An event for utterances with fewer frames than their target needs; they teach nothing."""
        stride = self.task.output_stride(self.interface.output_stride)
        short = [
            row.id
            for row, target in zip(rows, targets, strict=True)
            if self.data.seconds[row.id] * SAMPLE_RATE / stride < self.task.min_frames(target)
        ]
        if short:
            event = {"kind": "too_short_for_target", "utterances": len(short), "first": short[:5]}
            self.record.events.append(event)

    def _predict(self, split: str, beam: Any = None) -> list[Prediction]:
        """Decode a split with the parameters as they are, in batches of similar length.

        `beam` decodes a second time, with a language model.
        """
        found: list[Prediction] = []
        self.learner.eval()
        with torch.inference_mode(), self.fabric.autocast():
            for batch in self._batches(split):
                logits, lengths = self.learner.logits(batch)
                greedy = self.task.decode(logits, lengths)
                searched = beam(logits, lengths) if beam else [None] * len(greedy)
                found += map(self._prediction, batch.utterances, greedy, searched)
        return found

    def _batches(self, split: str) -> Iterator[Any]:
        """A split without targets, in batches of similar length."""
        rows = self.data.splits[split]
        seconds = [self.data.seconds[u.id] for u in rows]
        for indices in bucket(seconds, batch_size=16, batch_seconds=160.0, generator=None):
            yield self._batch([rows[i] for i in indices])

    def _prediction(self, row: Utterance, hypothesis: str, with_lm: str | None) -> Prediction:
        return Prediction(row.id, self.task.reference(row), hypothesis, row.speaker, with_lm)

    def _quick_score(self, split: str) -> dict[str, float]:
        """All metrics of a split without intervals."""
        found = self._predict(split)
        return {metric.name: metric.value(found) for metric in self.task.metrics}

    def _hidden_batch(self, batch: Any) -> Batch:
        """The batch with its hidden states, for counting what an interface uses."""
        found: Batch = batch
        return found

    def _head(self) -> nn.Module:
        """The task's head on the interface, as the run's seed makes it."""
        seed_everything_for(self.spec.seed, "head")
        return self.task.head(self.interface.output_dim, self.interface.output_stride)


class FrozenCell(TrainedCell):
    """Interface and head learn on hidden states that are computed once."""

    def __init__(self, parts: Parts, machine: Machine) -> None:
        super().__init__(parts, machine)
        layers = self.interface.layers_used()
        self.features = FrozenFeatures(
            self.upstream, layers, self.fabric.device, self.spec.data.memory_gib,
            machine.kept(self.record, layers),
        )  # fmt: skip
        self.learner = Downstream(self.interface, self._head(), self.task)

    def _extract(self) -> None:
        for split in ("train", "dev", "test"):
            self.features.warm(self.data.splits[split], f"hidden states {split}")

    def _fit(self) -> dict[str, Any]:
        return fit(self.interface, self.features, self.data.splits["train"])

    def _train_batches(self, targets: list[Tensor], seconds: list[float]) -> Batches:
        data = self.spec.data
        return TrainBatches(
            self.data.splits["train"], targets, seconds, self.features,
            batch_size=data.batch_size, batch_seconds=data.batch_seconds, seed=self.spec.seed,
            fixed=self._published(seconds),
        )  # fmt: skip

    def _batch(self, rows: Sequence[Utterance]) -> Any:
        return self.features.batch(rows, [])

    def _seconds_encoded(self) -> float:
        return self.features.seconds_of_audio
