"""One tuning run: base upstream + speech -> checkpoint, resumable at any moment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from ssft_bench import __version__, cost, ranks, registry, results
from ssft_bench.audio_check import check_audio
from ssft_bench.checkpoints.delta import changed_tensors, save_checkpoint
from ssft_bench.corpora.base import Corpus
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.data import open_corpus, rows_sha256
from ssft_bench.errors import CheckFailed, MissingError, UsageError
from ssft_bench.method import FineTuningMethod
from ssft_bench.seeds import seed_everything_for, seed_for
from ssft_bench.tracking import TrackerChoice, Tracking
from ssft_bench.training import Trainer
from ssft_bench.tuning import record as records
from ssft_bench.tuning.batches import Packs, ViewBatches
from ssft_bench.tuning.learner import TuneLearner
from ssft_bench.tuning.record import TuneRecord
from ssft_bench.tuning.spec import TuneSpec, signature
from ssft_bench.upstream import Upstream, load_upstream, weights_sha256

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class Machine:
    """Where and how a tuning is executed; none of it enters the signature."""

    accelerator: str = "auto"
    devices: int = 1
    workers: int = 1
    trackers: tuple[TrackerChoice, ...] = ()
    """Where training is also logged to."""


@dataclass
class Tuned:
    """What `tune` gives back."""

    path: Path
    """The checkpoint."""
    record: TuneRecord
    stored: bool
    """True when it was answered from the folder."""


@dataclass(frozen=True)
class Heard:
    """The speech of a run."""

    corpus: Corpus
    rows: list[Utterance]
    seconds: tuple[float, ...]
    warnings: list[str]


def tune(
    spec: TuneSpec,
    folder: Path,
    *,
    anew: bool = False,
    args_passed: Mapping[str, Any] | None = None,
    machine: Machine | None = None,
) -> Tuned:
    """Tune a base into `folder`/checkpoint.safetensors, resume, or answer from the folder.

    Raises UsageError, MissingError (before any long work), or CheckFailed when training diverges.
    """
    results.check_writable(folder)
    heard = listen(spec)
    method_class: type[FineTuningMethod] = registry.load("methods", spec.method.name)
    student = load_upstream(spec.base.name, spec.base.options)
    seed_everything_for(spec.seed, "method")
    options = method_class.Options.model_validate(spec.method.options)
    method = method_class(options, student, seed_for(spec.seed, "method"))
    content = {
        "base_weights": weights_sha256(student.expert),
        "recordings": rows_sha256(heard.rows),
        "base_source": registry.upstream_source(spec.base.name),
        "method_source": registry.find("methods", spec.method.name).source_sha256(),
    }
    name = signature(spec, content)
    try:
        first = ranks.rank() == 0
        with FileLock(folder / ".lock", timeout=0) if first else nullcontext():
            old = None if anew else records.load(folder)
            if old is not None and old.signature != name:
                raise UsageError(
                    f"-o {folder} holds another tuning ({old.spec.method.label} of "
                    f"{old.spec.base.label}, {old.status}); give another folder, or --anew"
                )
            if old is not None and old.status == "done" and (folder / CHECKPOINT).exists():
                return Tuned(folder / CHECKPOINT, old, stored=True)
            record = TuneRecord(
                status="running", signature=name, spec=spec, choices=choices(method_class, options),
                args_passed=dict(args_passed or {}), content=content, data=_describe(heard),
                events=[{"kind": "audio", "text": text} for text in heard.warnings],
                env=results.environment(), code=results.code_state(), time={"started": results.now()},
            )  # fmt: skip
            if first and (anew or (old is not None and old.status == "failed")):
                for file in ("last.pt", "best.safetensors", "log.jsonl"):
                    (folder / file).unlink(missing_ok=True)
            work = Work(record, folder, heard, student, method, machine or Machine())
            return Tuned(folder / CHECKPOINT, work.execute(), stored=False)
    except Timeout as error:
        raise UsageError(f"{folder} is being worked on by another process; wait for it") from error


def listen(spec: TuneSpec) -> Heard:
    """The training split of the corpus, every recording checked. Raises MissingError."""
    data = spec.data
    corpus = open_corpus(data.corpus, data.root)
    rows = corpus.utterances("train")[: data.max_utterances]
    if not rows:
        raise MissingError(f"corpus {data.corpus}: split train has no utterances")
    audio = check_audio(rows, allow_mixed_rates=data.mixed_rates, source=corpus.source)
    return Heard(corpus, rows, tuple(audio.seconds), list(audio.warnings))


def choices(method_class: type[FineTuningMethod], options: Any) -> dict[str, str]:
    """For every option where we differ from the published code: its value, and whose choice it is."""
    found = {}
    for name, published in method_class.faithful.items():
        value = getattr(options, name)
        found[name] = f"{value} ({'faithful' if value == published else 'fixed'})"
    return found


def _describe(heard: Heard) -> dict[str, Any]:
    return {
        "corpus": heard.corpus.name,
        "synthetic": heard.corpus.synthetic,
        "licence": heard.corpus.licence,
        "utterances": len(heard.rows),
        "hours": round(sum(heard.seconds) / 3600, 4),
        "speakers": len({u.speaker for u in heard.rows if u.speaker}),
    }


class Work:
    """The work of one tuning in its folder."""

    def __init__(
        self,
        record: TuneRecord,
        folder: Path,
        heard: Heard,
        student: Upstream,
        method: FineTuningMethod,
        machine: Machine,
    ) -> None:
        self.record, self.folder, self.heard, self.machine = record, folder, heard, machine
        self.spec = record.spec
        self.student, self.method = student, method
        self.base = {k: v.detach().clone() for k, v in student.expert.state_dict().items()}
        self.packs = Packs(heard.seconds, self.spec.data, self.spec.seed)

    def execute(self) -> TuneRecord:
        """Prepare, train, write the checkpoint. A failure is recorded and raised again."""
        record = self.record
        records.save(self.folder, record)
        try:
            self._execute()
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, KeyboardInterrupt):
                raise  # stays `running`: the next call resumes it
            record.status = "failed"
            record.error = f"{type(error).__name__}: {error}"
            records.save(self.folder, record)
            raise
        return record

    def _tracking(self) -> Tracking:
        title = f"{self.spec.method.label}/{self.spec.base.label}"
        config = self.spec.model_dump(mode="json")
        return Tracking(self.machine.trackers, title, self.record.signature, config)

    def _execute(self) -> None:
        record, spec = self.record, self.spec
        prepared = self.method.prepare([self.heard.rows[i] for i in self.packs.kept])
        teacher = (
            load_upstream(spec.base.name, spec.base.options) if self.method.needs_teacher else None
        )
        learner = TuneLearner(self.student, self.method, teacher)
        record.method = {**prepared, **self.method.describe(self.student)}
        if self.method.sums_gradients and self.machine.devices > 1:
            raise UsageError(f"{spec.method.label} sums gradients as they come: --devices 1")
        fabric = ranks.fabric_for(
            self.machine.accelerator, self.machine.devices, spec.train.precision
        )
        total = spec.train.steps * spec.train.accumulate
        batches = ViewBatches(
            self.heard.rows, self.packs, self.method, total=total, workers=self.machine.workers
        )
        trainer = Trainer(
            learner, batches, spec.train, self.folder, seed=spec.seed, fabric=fabric,
            label=f"{spec.method.name} {spec.base.name}", tracking=self._tracking(),
        )  # fmt: skip
        learner.events = trainer.outcome.events  # kept with the checkpoint to resume from
        outcome = trainer.run()
        record.events += outcome.events
        record.method["remarks"] = learner.remarks()
        record.cost = self._cost(learner, total, outcome.seconds)
        if fabric.is_global_zero:
            record.last = _last_logged(self.folder)
            self._write(learner)
        record.time["finished"] = results.now()
        record.status = "done"
        records.save(self.folder, record)
        if fabric.is_global_zero:
            for file in ("last.pt", "best.safetensors"):
                (self.folder / file).unlink(missing_ok=True)

    def _cost(self, learner: TuneLearner, total: int, seconds: float) -> dict[str, Any]:
        return {
            "parameters": {
                "upstream": cost.parameters(learner.student),
                "method": cost.parameters(learner.method),
            },
            "updates": self.spec.train.steps,
            "hours_processed": round(self.packs.hours(total), 4),
            "seconds": round(seconds, 1),
            "peak_memory_mib": cost.peak_memory_mib(),
        }

    def _write(self, learner: TuneLearner) -> None:
        """The checkpoint: tensors that changed, what the method keeps, and where it all came from."""
        spec, record = self.spec, self.record
        state = {k: v.detach().cpu() for k, v in learner.student.expert.state_dict().items()}
        changed = changed_tensors(self.base, state)
        if not changed:
            raise CheckFailed(f"{spec.method.name} changed nothing in {spec.base.label}")
        about = {
            "name": f"{spec.method.name}_{spec.base.name}",
            "method": spec.method.name,
            "base": {
                "name": spec.base.name,
                "options": spec.base.options,
                "sha256": record.content["base_weights"],
            },
            "recipe": spec.model_dump(mode="json", exclude={"data": {"root"}}),
            "choices": record.choices,
            "data": record.data,
            "steps": spec.train.steps,
            "hours_processed": record.cost["hours_processed"],
            "cost": record.cost,
            "versions": {"ssft-bench": __version__, "torch": torch.__version__},
        }
        path = self.folder / CHECKPOINT
        kept = {k: v.detach().cpu() for k, v in learner.method.kept().items()}
        digest = save_checkpoint(path, changed, about, kept, getattr(torch, spec.store))
        record.checkpoint = {"path": path.name, "sha256": digest, "tensors": len(changed)}


def _last_logged(folder: Path) -> dict[str, float]:
    log = folder / "log.jsonl"
    lines: Sequence[str] = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    found: dict[str, float] = json.loads(lines[-1]) if lines else {}
    return found
