"""Runs that train: a head (and an interface) on a frozen upstream, or all of it together."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ssft_bench import cost, results
from ssft_bench.cell import Cell, Machine, Parts
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.downstream import Downstream
from ssft_bench.features import FrozenFeatures, TrainBatches, bucket
from ssft_bench.interface import Interface
from ssft_bench.interface_in_run import fit, usage
from ssft_bench.metric import Prediction
from ssft_bench.task import Task
from ssft_bench.training import Batches, Outcome, Trainer, seed_everything_for
from ssft_bench.trials import Trials
from ssft_bench.upstream import SAMPLE_RATE


class TrainedCell(Cell):
    """Train, pick on dev, score on test; what learns and on which batches is the subclass'."""

    LEFT_BEHIND = ("last.pt", "best.safetensors", "log.jsonl", "predictions.jsonl", "trials")
    learner: nn.Module
    interface: Interface

    def __init__(self, parts: Parts, machine: Machine) -> None:
        super().__init__(parts, machine)
        assert isinstance(parts.task, Task)
        self.task, self.twin = parts.task, parts.twin
        self.interface = parts.interface
        self.speech_seconds = 0.0

    def _execute(self) -> None:
        began = time.monotonic()
        beam = None
        if self.spec.lm is not None:  # before any long work: it may lack a file or a package
            beam = self.task.beam_search(self.spec.lm, self.data.splits["train"])
        self.record.cost = self._static_cost()
        self._extract()
        extracted = time.monotonic()
        fitted = self._fit()
        outcome = self._train()
        trained = time.monotonic()
        dev = self._predict("dev")
        test = self._predict("test", beam)
        record = self.record
        record.predictions = results.save_predictions(self.folder, test)
        record.metrics = self._metrics(self.task, "test", test)
        record.metrics += self._metrics(self.task, "dev", dev)
        record.learning_curve = outcome.curve
        record.selection = {
            **self.spec.selection.model_dump(),
            **record.selection,
            "step": outcome.best_step,
            "value": outcome.best_value,
        }
        record.interface_state = {**self._interface_state(), **fitted}
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
        metric = next(m for m in self.task.metrics if m.name == self.spec.selection.metric)
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
                logits, lengths = self.learner.logits(batch)  # type: ignore[operator]
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
        return {
            m.name: float(m.combine(sum(m.counts(p) for p in found)))  # type: ignore[arg-type]
            for m in self.task.metrics
        }

    def _interface_state(self) -> dict[str, Any]:
        interface = self.interface
        hidden = (self._hidden_batch(batch) for batch in self._batches("dev"))
        return {
            "options": dict(interface.built_with),
            "output_dim": interface.output_dim,
            "output_stride": interface.output_stride,
            "layers_used": list(interface.layers_used()),
            **usage(interface, hidden),
        }

    def _hidden_batch(self, batch: Any) -> Any:
        """The batch with its hidden states, for counting what an interface uses."""
        return batch

    def _static_cost(self) -> dict[str, Any]:
        """Parameters by part, and multiply-adds for one second of audio."""
        noise = cost.second_of_noise().to(self.fabric.device)
        learner = self.learner.to(self.fabric.device).eval()
        upstream, interface = self.upstream, self.interface
        head = learner.head
        with torch.no_grad():
            hidden = upstream([noise])
        parts = nn.ModuleList([interface, head])  # type: ignore[list-item]
        return {
            "parameters": {
                "upstream": cost.parameters(upstream),
                "interface": cost.parameters(interface),
                "head": cost.parameters(head),  # type: ignore[arg-type]
            },
            "macs_per_second_of_audio": {
                "upstream": cost.macs(lambda: upstream([noise]), upstream),
                "interface_and_head": cost.macs(lambda: head(*interface(hidden)), parts),  # type: ignore[operator]
            },
        }


class FrozenCell(TrainedCell):
    """Interface and head learn on hidden states that are computed once."""

    def __init__(self, parts: Parts, machine: Machine) -> None:
        super().__init__(parts, machine)
        layers = self.interface.layers_used()
        self.features = FrozenFeatures(
            self.upstream, layers, self.fabric.device, self.spec.data.memory_gib,
            machine.kept(self.record, layers),
        )  # fmt: skip
        seed_everything_for(self.spec.seed, "head")
        head = self.task.head(self.interface.output_dim, self.interface.output_stride)
        self.learner = Downstream(self.interface, head, self.task)

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
