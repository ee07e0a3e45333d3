"""Runs that train: a head (and an interface) on a frozen upstream, or all of it together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ssft_bench import cost, results, standardizing
from ssft_bench.cell import Cell, Machine, Parts, Turn
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.downstream import Downstream
from ssft_bench.features import Batch, FrozenFeatures, TrainBatches, bucket
from ssft_bench.interface_in_run import fit
from ssft_bench.metric import Prediction
from ssft_bench.random_state import RandomState
from ssft_bench.seeds import seed_everything_for
from ssft_bench.task import Task
from ssft_bench.tracking import Tracking
from ssft_bench.training import Batches, Outcome, Trainer, numbered
from ssft_bench.trials import Trials
from ssft_bench.upstream import SAMPLE_RATE

if TYPE_CHECKING:
    from ssft_bench.finetuning.learner import FineTunedDownstream


EXTRACTED, TRAINED, DEV_SCORED, TEST_SCORED, GATES_COUNTED = range(5)
"""Parts of the work in their order, as turns begin with."""


class TrainedCell(Cell):
    """Train, pick on dev, score on test; what learns and on which batches is the subclass'."""

    LEFT_BEHIND = (
        "last.pt", "best.safetensors", standardizing.FILE, "log.jsonl", "predictions.jsonl", "trials",
        "tensorboard", "wandb", "mlflow",
    )  # fmt: skip
    task: Task
    learner: Downstream | FineTunedDownstream

    def __init__(self, parts: Parts, machine: Machine) -> None:
        super().__init__(parts, machine)
        assert isinstance(parts.task, Task)
        self.twin, self.interface = parts.twin, parts.interface

    def _work(self) -> Iterator[Turn]:
        began = self._clock()
        beam = None
        if self.spec.lm is not None:  # before any long work: it may lack a file or a package
            beam = self.task.beam_search(self.spec.lm, self.data.splits["train"])
        learner = self.learner.to(self.fabric.device).eval()
        self.record.cost = self._static_cost(self.interface, learner.head)
        self._extract()
        yield EXTRACTED, 0
        extracted = self._clock()
        fitted = self._fit()
        outcome = yield from self._train()
        trained = self._clock()
        dev = yield from numbered(DEV_SCORED, self._predict("dev"))
        test = yield from numbered(TEST_SCORED, self._predict("test", beam))
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
        gates = yield from numbered(GATES_COUNTED, self._gate_sums())
        record.interface_state = {**self._interface_state(self.interface, gates), **fitted}
        record.events += outcome.events
        record.cost |= {
            "seconds": {
                "hidden_states": round(extracted - began, 1),
                "training": round(outcome.seconds, 1),
                "scoring": round(self._clock() - trained, 1),
            },
            "speech_hours_encoded": round(self._seconds_encoded() / 3600, 4),
            **self._origin(),
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

    def _origin(self) -> dict[str, Any]:
        """Where hidden states came from, where they are not computed each time."""
        return {}

    # What is the same for all

    def _train(self) -> Generator[Turn, None, Outcome]:
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
                better=better, label=f"{self.task.name}", tracking=self._tracking(folder),
            )  # fmt: skip

        return (yield from numbered(TRAINED, trials.turns(trainer, better)))

    def _tracking(self, folder: Path) -> Tracking:
        """Where a training in `folder`, the run's or one of a trial, is also logged to."""
        spec = self.spec
        title = f"{spec.upstream.label}/{spec.interface_label}/{spec.task.name}"
        trial = "" if folder == self.folder else f"/{folder.name}"
        return Tracking(
            self.machine.trackers,
            title + trial,
            self.record.signature,
            spec.model_dump(mode="json"),
        )

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

    def _predict(self, split: str, beam: Any = None) -> Generator[int, None, list[Prediction]]:
        """Decode a split with the parameters as they are, in batches of similar length; yields their count.

        `beam` decodes a second time, with a language model.
        """
        found: list[Prediction] = []
        self.learner.eval()
        for count, rows in enumerate(self._row_batches(split), 1):
            with torch.inference_mode(), self.fabric.autocast():
                batch = self._batch(rows)
                logits, lengths = self.learner.logits(batch)
                greedy = self.task.decode(logits, lengths)
                searched = beam(logits, lengths) if beam else [None] * len(greedy)
                found += map(self._prediction, batch.utterances, greedy, searched)
            yield count
        return found

    def _row_batches(self, split: str) -> Iterator[list[Utterance]]:
        """A split in batches of similar length."""
        rows = self.data.splits[split]
        seconds = [self.data.seconds[u.id] for u in rows]
        for indices in bucket(seconds, batch_size=16, batch_seconds=160.0, generator=None):
            yield [rows[i] for i in indices]

    def _prediction(self, row: Utterance, hypothesis: str, with_lm: str | None) -> Prediction:
        return Prediction(row.id, self.task.reference(row), hypothesis, row.speaker, with_lm)

    def _quick_score(self, split: str) -> Generator[int, None, Mapping[str, float]]:
        """All metrics of a split without intervals; yields counts of batches."""
        found = yield from self._predict(split)
        return {metric.name: metric.value(found) for metric in self.task.metrics}

    def _gate_sums(self) -> Generator[int, None, list[tuple[Tensor, int]]]:
        """What gates do on dev, batch by batch; empty for an interface without gates."""
        sums = []
        for count, rows in enumerate(self._row_batches("dev") if self.interface.has_gates else []):
            batch = self._hidden_batch(self._batch(rows))
            sums.append(self.interface.gate_sums(batch.hidden))
            yield count
        return sums

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
            machine.kept(self.record, layers), dtype=self.spec.data.states,
            view=machine.view(self.record, self.upstream, layers, self.fabric.device),
        )  # fmt: skip
        self.learner = Downstream(self.interface, self._head(), self.task)
        self.random_state = RandomState.now()

    def _work(self) -> Iterator[Turn]:
        try:
            yield from super()._work()
        finally:
            self.record.events += self.features.close()

    def _extract(self) -> None:
        for split in ("train", "dev", "test"):
            self.features.warm(self.data.splits[split], f"hidden states {split}")
        if self.spec.data.standardize:
            fitted = self.features.standardize(self.data.splits["train"], "means and deviations")
            fitted.save(self.folder)

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

    def _origin(self) -> dict[str, Any]:
        return self.features.origin()
