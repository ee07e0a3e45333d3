"""One cell: upstream -> interface -> downstream -> result."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout
from lightning_fabric import Fabric
from torch import Tensor

from ssft_bench import cost, registry, results
from ssft_bench.control import with_matched_head
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.data import RunData, prepare
from ssft_bench.downstream import Downstream
from ssft_bench.errors import CheckFailed, UsageError
from ssft_bench.features import Batch, FrozenFeatures, TrainBatches, bucket
from ssft_bench.interface import Interface
from ssft_bench.interface_in_run import fit, interface_for, usage
from ssft_bench.metric import Prediction
from ssft_bench.results import MetricValue, ResultRecord
from ssft_bench.spec import RunSpec, signature
from ssft_bench.statistics import score
from ssft_bench.task import Task
from ssft_bench.training import Outcome, Trainer, seed_everything_for
from ssft_bench.upstream import SAMPLE_RATE, Upstream, load_upstream, weights_sha256

Overwrite = Literal["missing", "failed", "always"]


@dataclass(frozen=True)
class Machine:
    """Where and how a run is executed; none of it enters the signature."""

    accelerator: str = "auto"
    devices: int = 1
    tensorboard: bool = False
    states: dict[tuple[Any, ...], dict[str, list[Tensor]]] | None = None
    """Hidden states that runs of one process hand on: by weights, layers and corpus, then utterance."""

    def kept(self, record: ResultRecord, layers: Sequence[int]) -> dict[str, list[Tensor]] | None:
        """What earlier runs left of this run's hidden states; None where runs share nothing."""
        if self.states is None:
            return None
        content = record.content
        key = (content["upstream_weights"], content["corpus"], *layers)
        return self.states.setdefault(key, {})


@dataclass
class Answer:
    """What `run` gives back."""

    folder: Path
    record: ResultRecord
    stored: bool
    """True when it was answered from the store."""


def run(
    spec: RunSpec,
    out: Path,
    *,
    overwrite: Overwrite = "failed",
    args_passed: Mapping[str, Any] | None = None,
    machine: Machine | None = None,
) -> Answer:
    """Run one cell, resume it, or answer from the store when it is done.

    Raises UsageError, MissingError (before any long work) or CheckFailed (training diverged; then
    the record says `failed`).
    """
    results.check_writable(out)
    data = prepare(spec.data, registry.load("tasks", spec.task.name).name)
    upstream = load_upstream(spec.upstream.name, spec.upstream.options)
    if spec.control is not None:
        spec = with_matched_head(spec, upstream.spec, lambda o: _make_task(spec, o, data))
    task = _make_task(spec, spec.task.options, data)
    seed_everything_for(spec.seed, "interface")
    interface = interface_for(spec.interface, upstream.spec, task)
    content = _content(spec, upstream, data)
    name = signature(spec, content)
    folder = results.run_folder(out, spec, name)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            old = results.load(folder)
            if old is not None and overwrite != "always":
                if old.status == "done" and (folder / "predictions.jsonl").exists():
                    return Answer(folder, old, stored=True)
                if old.status == "failed" and overwrite == "missing":
                    raise CheckFailed(
                        f"{folder} failed before: {old.error}. --overwrite failed tries again"
                    )
            record = ResultRecord(
                status="running", signature=name, spec=spec, content=content,
                data={**data.describe(), "labels": task.describe()},
                args_passed=dict(args_passed or {}), events=_warnings(data), env=results.environment(),
                code=results.code_state(), time={"started": results.now()},
            )  # fmt: skip
            fresh = overwrite == "always" or (old is not None and old.status == "failed")
            cell = Cell(record, folder, task, data, upstream, interface, machine or Machine())
            return Answer(folder, cell.execute(fresh), stored=False)
    except Timeout as error:
        raise UsageError(f"{folder} is being worked on by another process; wait for it") from error


class Cell:
    """The work of one run in its folder."""

    def __init__(
        self,
        record: ResultRecord,
        folder: Path,
        task: Task,
        data: RunData,
        upstream: Upstream,
        interface: Interface,
        machine: Machine,
    ) -> None:
        self.record, self.folder, self.task, self.data = record, folder, task, data
        self.spec = record.spec
        self.machine = machine
        self.fabric = Fabric(
            accelerator=machine.accelerator,
            devices=machine.devices,
            precision=self.spec.train.precision,
        )
        self.fabric.launch()
        self.upstream = upstream.eval().requires_grad_(False).to(self.fabric.device)
        layers = interface.layers_used()
        self.features = FrozenFeatures(
            self.upstream, layers, self.fabric.device, self.spec.data.memory_gib,
            machine.kept(record, layers),
        )  # fmt: skip
        seed_everything_for(self.spec.seed, "head")
        head = task.head(interface.output_dim, interface.output_stride)
        self.learner = Downstream(interface, head, task)

    def execute(self, fresh: bool) -> ResultRecord:
        """Extract, train, pick, score, write. A failure is recorded and raised again."""
        if fresh:
            for name in ("last.pt", "best.safetensors", "log.jsonl", "predictions.jsonl"):
                (self.folder / name).unlink(missing_ok=True)
        results.save(self.folder, self.record)
        try:
            self._execute()
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, KeyboardInterrupt):
                raise  # stays `running`: the next run resumes it
            self.record.status = "failed"
            self.record.error = f"{type(error).__name__}: {error}"
            results.save(self.folder, self.record)
            raise
        return self.record

    def _execute(self) -> None:
        began = time.monotonic()
        self.record.cost = self._static_cost()
        for split in ("train", "dev", "test"):
            self.features.warm(self.data.splits[split], f"hidden states {split}")
        extracted = time.monotonic()
        fitted = fit(self.learner.interface, self.features, self.data.splits["train"])
        outcome = self._train()
        trained = time.monotonic()
        dev = self._predict("dev")
        test = self._predict("test")
        record = self.record
        record.predictions = results.save_predictions(self.folder, test)
        record.metrics = self._metrics("test", test) + self._metrics("dev", dev)
        record.learning_curve = outcome.curve
        record.selection = {
            **self.spec.selection.model_dump(),
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
            "speech_hours_encoded": round(self.features.seconds_of_audio / 3600, 4),
            "peak_memory_mib": cost.peak_memory_mib(),
        }
        record.time["finished"] = results.now()
        record.status = "done"
        results.save(self.folder, record)
        (self.folder / "last.pt").unlink(missing_ok=True)

    def _train(self) -> Outcome:
        rows = self.data.splits["train"]
        data, train = self.spec.data, self.spec.train
        seconds = [self.data.seconds[u.id] for u in rows]
        targets = [self.task.encode(u) for u in rows]
        self._note_short(rows, targets)
        batches = TrainBatches(
            rows, targets, seconds, self.features,
            batch_size=data.batch_size, batch_seconds=data.batch_seconds, seed=self.spec.seed,
        )  # fmt: skip
        primary = self.task.primary()
        trainer = Trainer(
            self.learner, batches, train, self.folder, seed=self.spec.seed, fabric=self.fabric,
            evaluate=lambda: self._quick_score("dev"), select=primary.name,
            better="max" if primary.higher_is_better else "min",
            label=f"{self.task.name}", tensorboard=self.machine.tensorboard,
        )  # fmt: skip
        outcome = trainer.run()
        trainer.load_best()
        return outcome

    def _note_short(self, rows: Sequence[Utterance], targets: Sequence[Tensor]) -> None:
        """An event for utterances with fewer frames than their target needs; they teach nothing."""
        stride = self.task.output_stride(self.learner.interface.output_stride)
        short = [
            row.id
            for row, target in zip(rows, targets, strict=True)
            if self.data.seconds[row.id] * SAMPLE_RATE / stride < self.task.min_frames(target)
        ]
        if short:
            event = {"kind": "too_short_for_target", "utterances": len(short), "first": short[:5]}
            self.record.events.append(event)

    def _predict(self, split: str) -> list[Prediction]:
        """Decode a split with the parameters as they are, in batches of similar length."""
        found: list[Prediction] = []
        self.learner.eval()
        with torch.inference_mode(), self.fabric.autocast():
            for batch in self._batches(split):
                found += map(self._prediction, batch.utterances, self.learner.hypotheses(batch))
        return found

    def _batches(self, split: str) -> Iterator[Batch]:
        """A split without targets, in batches of similar length."""
        rows = self.data.splits[split]
        seconds = [self.data.seconds[u.id] for u in rows]
        for indices in bucket(seconds, batch_size=16, batch_seconds=160.0, generator=None):
            yield self.features.batch([rows[i] for i in indices], [])

    def _prediction(self, row: Utterance, hypothesis: str) -> Prediction:
        return Prediction(row.id, self.task.reference(row), hypothesis, row.speaker)

    def _quick_score(self, split: str) -> dict[str, float]:
        """All metrics of a split without intervals."""
        found = self._predict(split)
        return {
            m.name: float(m.combine(sum(m.counts(p) for p in found)))  # type: ignore[arg-type]
            for m in self.task.metrics
        }

    def _metrics(self, split: str, found: Sequence[Prediction]) -> list[MetricValue]:
        values = []
        for metric in self.task.metrics:
            s = score(metric, found, seed=self.spec.seed)
            values.append(
                MetricValue(
                    name=metric.name,
                    split=split,
                    value=s.value,
                    unit=metric.unit,
                    n=s.n,
                    higher_is_better=metric.higher_is_better,
                    ci95=s.ci95,
                    ci_method=s.method,
                    primary=metric.primary,
                )
            )
        return values

    def _interface_state(self) -> dict[str, Any]:
        interface = self.learner.interface
        return {
            "options": dict(interface.built_with),
            "output_dim": interface.output_dim,
            "output_stride": interface.output_stride,
            "layers_used": list(interface.layers_used()),
            **usage(interface, self._batches("dev")),
        }

    def _static_cost(self) -> dict[str, Any]:
        """Parameters by part, and multiply-adds for one second of audio."""
        noise = cost.second_of_noise().to(self.fabric.device)
        learner = self.learner.to(self.fabric.device).eval()
        upstream, interface = self.upstream, learner.interface
        with torch.no_grad():
            hidden = upstream([noise])
        return {
            "parameters": {
                "upstream": cost.parameters(upstream),
                "interface": cost.parameters(interface),
                "head": cost.parameters(learner.head),
            },
            "macs_per_second_of_audio": {
                "upstream": cost.macs(lambda: upstream([noise]), upstream),
                "interface_and_head": cost.macs(lambda: learner.head(*interface(hidden)), learner),
            },
        }


def _make_task(spec: RunSpec, options: Mapping[str, Any], data: RunData) -> Task:
    task_class: type[Task] = registry.load("tasks", spec.task.name)
    task = task_class(task_class.Options.model_validate(options), data.corpus.phone_set)
    task.prepare(data.splits)
    return task


def _warnings(data: RunData) -> list[dict[str, Any]]:
    return [{"kind": "audio", "text": text} for text in data.audio.warnings]


def _content(spec: RunSpec, upstream: Upstream, data: RunData) -> dict[str, str | None]:
    interface = (spec.control or spec).interface.name
    return {
        "upstream_weights": weights_sha256(upstream),
        "corpus": data.sha256,
        "upstream_source": registry.upstream_source(spec.upstream.name),
        "interface_source": registry.find("interfaces", interface).source_sha256(),
        "task_source": registry.find("tasks", spec.task.name).source_sha256(),
    }
