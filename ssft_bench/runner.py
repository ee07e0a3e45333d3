"""One cell: upstream -> interface -> downstream -> result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from ssft_bench import interface_from, registry, results
from ssft_bench.cell import Cell, Machine, Parts
from ssft_bench.control import with_matched_head
from ssft_bench.data import RunData, prepare
from ssft_bench.errors import CheckFailed, UsageError
from ssft_bench.interface_in_run import interface_for
from ssft_bench.results import ResultRecord
from ssft_bench.spec import RunSpec, signature
from ssft_bench.task import BaseTask
from ssft_bench.trained_cell import FrozenCell
from ssft_bench.training import seed_everything_for
from ssft_bench.upstream import Upstream, load_upstream, weights_sha256

Overwrite = Literal["missing", "failed", "always"]


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
    training = spec.protocol != "training-free"
    data = prepare(spec.data, registry.load("tasks", spec.task.name).name, training=training)
    upstream = load_upstream(spec.upstream.name, spec.upstream.options)
    check = getattr(getattr(upstream, "expert", None), "check_protocol", None)
    if check is not None:  # some have nothing to freeze
        check(spec.protocol)
    if spec.control is not None:
        spec = with_matched_head(spec, upstream.spec, lambda o: _make_task(spec, o, data))
    task = _make_task(spec, spec.task.options, data)
    seed_everything_for(spec.seed, "interface")
    interface = interface_for(spec.interface, upstream.spec, task)
    content = _content(spec, upstream, data)
    if not training:
        content |= interface_from.ready(spec, interface, content)
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
                data={
                    **data.describe(),
                    "labels": task.describe(),
                    "stands_in": data.corpus.stands_in.get(task.name),
                },
                args_passed=dict(args_passed or {}), events=_warnings(data), env=results.environment(),
                code=results.code_state(), time={"started": results.now()},
            )  # fmt: skip
            fresh = overwrite == "always" or (old is not None and old.status == "failed")
            twin = None if overwrite == "always" else _twin(spec, content, out)
            parts = Parts(record, folder, task, data, upstream, interface, twin)
            cell = cell_class(spec.protocol)(parts, machine or Machine())
            return Answer(folder, cell.execute(fresh), stored=False)
    except Timeout as error:
        raise UsageError(f"{folder} is being worked on by another process; wait for it") from error


def cell_class(protocol: str) -> type[Cell]:
    """The class of the work that a protocol asks for."""
    if protocol == "training-free":
        from ssft_bench.training_free_cell import TrainingFreeCell

        return TrainingFreeCell
    if protocol == "finetuned":
        from ssft_bench.finetuned_cell import FineTunedCell

        return FineTunedCell
    return FrozenCell


def _twin(spec: RunSpec, content: Mapping[str, str | None], out: Path) -> Path | None:
    """Folder of the finished run without the language model: it has trained the same parameters."""
    if spec.lm is None:
        return None
    plain = spec.model_copy(update={"lm": None})
    own = {key: value for key, value in content.items() if key != "language_model"}
    folder = results.run_folder(out, plain, signature(plain, own))
    done = results.load(folder)
    finished = done is not None and done.status == "done"
    return folder if finished and (folder / "best.safetensors").is_file() else None


def _make_task(spec: RunSpec, options: Mapping[str, Any], data: RunData) -> BaseTask:
    task_class: type[BaseTask] = registry.load("tasks", spec.task.name)
    task = task_class(task_class.Options.model_validate(options), data.corpus.phone_set)
    task.prepare(data.splits)
    return task


def _warnings(data: RunData) -> list[dict[str, Any]]:
    return [{"kind": "audio", "text": text} for text in data.audio.warnings]


def _content(spec: RunSpec, upstream: Upstream, data: RunData) -> dict[str, str | None]:
    interface = (spec.control or spec).interface.name
    content = {
        "upstream_weights": weights_sha256(upstream),
        "corpus": data.sha256,
        "upstream_source": registry.upstream_source(spec.upstream.name),
        "interface_source": registry.find("interfaces", interface).source_sha256(),
        "task_source": registry.find("tasks", spec.task.name).source_sha256(),
    }
    if spec.lm is not None:
        content["language_model"] = spec.lm.sha256()
    return content
