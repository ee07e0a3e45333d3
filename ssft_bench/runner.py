"""One cell: upstream -> interface -> downstream -> result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ssft_bench import interface_from, ranks, registry, results
from ssft_bench.cell import Cell, Machine, Parts
from ssft_bench.control import with_matched_head
from ssft_bench.data import RunData, prepare
from ssft_bench.errors import CheckFailed
from ssft_bench.files import sha256_json
from ssft_bench.interface import Interface
from ssft_bench.interface_in_run import interface_for
from ssft_bench.lease import lease
from ssft_bench.results import ResultRecord
from ssft_bench.seeds import seed_everything_for
from ssft_bench.spec import RunSpec, signature
from ssft_bench.task import BaseTask
from ssft_bench.trained_cell import FrozenCell
from ssft_bench.upstream import Upstream, load_upstream, weights_sha256

Overwrite = Literal["missing", "failed", "always"]


@dataclass
class Answer:
    """What `run` gives back."""

    folder: Path
    record: ResultRecord
    stored: bool
    """True when it was answered from the store."""


@dataclass(frozen=True)
class Ready:
    """A cell with everything it names opened, checked and hashed; nothing is written yet."""

    spec: RunSpec
    """With what only the opened parts could tell filled in."""
    task: BaseTask
    data: RunData
    upstream: Upstream
    interface: Interface
    content: dict[str, str | None]
    signature: str

    def folder(self, out: Path) -> Path:
        """Where its result belongs."""
        return results.run_folder(out, self.spec, self.signature)


class Sources:
    """Corpora and frozen upstreams that cells of one process share: each is opened and hashed once."""

    def __init__(self) -> None:
        self._data: dict[str, RunData] = {}
        self._upstreams: dict[str, Upstream] = {}

    def without_upstreams(self) -> Sources:
        """The same corpora; upstreams are let go."""
        fewer = Sources()
        fewer._data = self._data
        return fewer

    def data(self, spec: RunSpec) -> RunData:
        """The corpus of a run; see `data.prepare` for what it raises."""
        task, training = (
            registry.load("tasks", spec.task.name).name,
            spec.protocol != "training-free",
        )
        chosen = spec.data.model_dump(include=_CHOOSES_ROWS)
        key = sha256_json([chosen, task, training])
        if key not in self._data:
            self._data[key] = prepare(spec.data, task, training=training)
        return self._data[key]

    def upstream(self, spec: RunSpec) -> Upstream:
        """The upstream of a run; one that learns is nobody else's."""
        if spec.protocol == "finetuned":
            return load_upstream(spec.upstream.name, spec.upstream.options)
        key = sha256_json(spec.upstream.model_dump(mode="json"))
        if key not in self._upstreams:
            self._upstreams[key] = load_upstream(spec.upstream.name, spec.upstream.options)
        return self._upstreams[key]


_CHOOSES_ROWS = {"corpus", "root", "mixed_rates", "max_utterances", "train_share"}
"""Keys of DataSpec that `data.prepare` reads."""


def ready(spec: RunSpec, sources: Sources | None = None) -> Ready:
    """Open what a cell names and work out its signature.

    Raises UsageError or MissingError for what does not fit or is not there.
    """
    sources = sources or Sources()
    data, upstream = sources.data(spec), sources.upstream(spec)
    check = getattr(getattr(upstream, "expert", None), "check_protocol", None)
    if check is not None:  # some have nothing to freeze
        check(spec.protocol)
    if spec.control is not None:
        spec = with_matched_head(spec, upstream.spec, lambda o: _make_task(spec, o, data))
    task = _make_task(spec, spec.task.options, data)
    seed_everything_for(spec.seed, "interface")
    interface = interface_for(spec.interface, upstream.spec, task)
    content = _content(spec, upstream, data)
    if spec.protocol == "training-free":
        content |= interface_from.ready(spec, interface, content)
    return Ready(spec, task, data, upstream, interface, content, signature(spec, content))


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
    with claim(
        ready(spec), out, overwrite=overwrite, args_passed=args_passed, machine=machine
    ) as claimed:
        return claimed if isinstance(claimed, Answer) else claimed.answer()


@dataclass
class Claim:
    """A cell that this process holds the lease of."""

    folder: Path
    cell: Cell
    fresh: bool
    """Whether an earlier attempt's files are to be removed."""

    def answer(self) -> Answer:
        """Do the work."""
        return Answer(self.folder, self.cell.execute(self.fresh), stored=False)


@contextmanager
def claim(
    made: Ready,
    out: Path,
    *,
    overwrite: Overwrite = "failed",
    args_passed: Mapping[str, Any] | None = None,
    machine: Machine | None = None,
) -> Iterator[Claim | Answer]:
    """Take the lease of a cell for the length of the block, or give its stored answer.

    Raises Busy when another process works on it, CheckFailed for one that failed before where
    `overwrite` is `missing`.
    """
    spec, folder = made.spec, made.folder(out)
    with lease(folder) if ranks.rank() == 0 else nullcontext():
        old = results.load(folder)
        if old is not None and overwrite != "always":
            if results.finished(folder, old):
                yield Answer(folder, old, stored=True)
                return
            if old.status == "failed" and overwrite == "missing":
                raise CheckFailed(
                    f"{folder} failed before: {old.error}. --overwrite failed tries again"
                )
        record = ResultRecord(
            status="running", signature=made.signature, spec=spec, content=made.content,
            data={
                **made.data.describe(),
                "labels": made.task.describe(),
                "stands_in": made.data.corpus.stands_in.get(made.task.name),
            },
            args_passed=dict(args_passed or {}), events=_warnings(made.data),
            env=results.environment(), code=results.code_state(), time={"started": results.now()},
        )  # fmt: skip
        fresh = overwrite == "always" or (old is not None and old.status == "failed")
        twin = None if overwrite == "always" else _twin(spec, made.content, out)
        parts = Parts(record, folder, made.task, made.data, made.upstream, made.interface, twin)
        yield Claim(folder, cell_class(spec.protocol)(parts, machine or Machine()), fresh)


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
