"""A grid resolved: every cell with its signature and place, what is left out and why, and the shares.

A plan is a folder with `plan.json`. It depends on the grid and on the bytes that its cells name, not on
what has been run, so that two drivers of one grid use one plan.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ssft_bench import registry, results
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.files import sha256_json, write_json
from ssft_bench.names import split_options
from ssft_bench.runner import Ready, Sources, ready
from ssft_bench.spec import RunSpec, resolve
from ssft_bench.sweep.cost_model import Workload
from ssft_bench.sweep.grid import Grid
from ssft_bench.sweep.workload import Workloads

PLAN_VERSION = 1
FOLDER = "sweeps"
"""Plans lie in this folder of the results' folder."""


class PlannedCell(BaseModel):
    """A cell of a grid that can be run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    request: dict[str, Any]
    """Arguments of `spec.resolve`."""
    upstream: str
    interface: str
    task: str
    seed: int
    variant: str = ""
    signature: str
    folder: str
    """Of its result, below the results' folder."""
    group: str
    """Cells of a group share the hidden states of one upstream on one corpus; empty for a cell alone."""
    layers: tuple[int, ...] = ()
    """Hidden states it uses."""
    corpus: str
    protocol: str
    work: Workload
    """What it computes, for estimates."""
    floats_per_second: float = 0.0
    """Numbers in its hidden states for a second of speech, used layers only."""

    @property
    def label(self) -> str:
        """As people say it."""
        parts = [self.upstream, self.interface, self.task, self.variant, f"seed {self.seed}"]
        return " | ".join(part for part in parts if part)


class LeftOut(BaseModel):
    """A combination of a grid that cannot be run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    upstream: str
    interface: str
    task: str
    seed: int
    reason: str
    missing: bool
    """True where data or weights are not there, False for what makes no sense."""


class Plan(BaseModel):
    """What `plan.json` holds."""

    model_config = ConfigDict(extra="forbid")

    plan_version: int = PLAN_VERSION
    grid: Grid
    cells: tuple[PlannedCell, ...]
    left_out: tuple[LeftOut, ...]
    shares: tuple[tuple[int, ...], ...]
    """Indices of the cells that a worker does, in order."""
    out: str
    """Folder of the results."""
    store: str | None = None
    """Folder of the feature store; null for none."""
    store_gib: float = 0.0
    """Its quota."""
    device: str = "auto"
    devices: int = 1
    """Devices of a cell."""

    @property
    def digest(self) -> str:
        """Names the plan's folder."""
        return sha256_json(self.model_dump(mode="json", exclude={"out"}))[:12]

    def folder(self, out: Path) -> Path:
        """Where it lies."""
        return out / FOLDER / f"{self.grid.name}-{self.digest}"

    def place(self, cell: PlannedCell) -> Path:
        """Folder of a cell's result."""
        return Path(self.out) / cell.folder

    def group_layers(self, group: str) -> tuple[int, ...]:
        """Hidden states that some cell of a group uses."""
        return tuple(sorted({n for c in self.cells if c.group == group for n in c.layers}))


def make_plan(
    grid: Grid, out: Path, *, notice: Callable[[], None] | None = None, **machine: Any
) -> Plan:
    """Resolve every cell, calling `notice` after each; `machine` are the plan's fields on where it runs.

    Raises UsageError for a name that does not exist or a grid of which nothing can be run, MissingError
    when that is for want of data or weights.
    """
    cells = grid.cells()
    if not cells:
        raise UsageError(f"sweep {grid.name}: nothing is left after `exclude`")
    _check_names(cells)
    found: list[PlannedCell] = []
    left_out: list[LeftOut] = []
    sources, current, workloads = Sources(), None, Workloads()
    for request in sorted(cells, key=lambda cell: str(cell["upstream"])):
        if request["upstream"] != current:  # one upstream at a time in memory
            sources, current = sources.without_upstreams(), request["upstream"]
        planned = _planned(request, grid, sources, workloads)
        if isinstance(planned, LeftOut):
            left_out.append(planned)
        else:
            found.append(planned)
        if notice is not None:
            notice()
    if not found:
        first = left_out[0]
        kind = MissingError if all(cell.missing for cell in left_out) else UsageError
        raise kind(f"sweep {grid.name}: no cell can be run. {first.task}: {first.reason}")
    order = {sha256_json(cell): n for n, cell in enumerate(cells)}
    found.sort(key=lambda cell: order[sha256_json({**cell.request, "variant": cell.variant})])
    return Plan(grid=grid, cells=_unique(found), left_out=tuple(left_out), shares=(),
                out=str(out), **machine)  # fmt: skip


def with_shares(plan: Plan, per_share: int | None, slots: int | None) -> Plan:
    """Deal the cells out: those of a group in shares of `per_share`, groups taking turns.

    Without `per_share`: about four shares for each of `slots` workers, so that none idles at the end
    while start-up still does not count; one cell each where a cluster queues.
    """
    groups: dict[str, list[int]] = {}
    for n, cell in enumerate(plan.cells):
        groups.setdefault(cell.group or cell.signature, []).append(n)
    if per_share is None:
        per_share = 1 if slots is None else max(1, math.ceil(len(plan.cells) / (4 * slots)))
    dealt = [
        [tuple(own[n : n + per_share]) for n in range(0, len(own), per_share)]
        for own in groups.values()
    ]
    turns = max(map(len, dealt))
    shares = tuple(own[turn] for turn in range(turns) for own in dealt if turn < len(own))
    return plan.model_copy(update={"shares": shares})


def write_plan(plan: Plan, folder: Path) -> Path:
    """Write `plan.json` unless it is there with the same content; returns the folder."""
    path = folder / "plan.json"
    if not path.exists() or load_plan(folder) != plan:
        write_json(path, plan.model_dump(mode="json"))
    return folder


def load_plan(folder: Path) -> Plan:
    """The plan in a folder, or in a file. Raises UsageError for none, or one of another version."""
    path = folder if folder.suffix == ".json" else folder / "plan.json"
    try:
        return Plan.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise UsageError(
            f"{folder}: no plan.json there; 'ssft-bench plan GRID' makes one"
        ) from error
    except (ValueError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"{path}: not a plan of this version ({first})") from error


def open_cell(cell: PlannedCell, grid: Grid, sources: Sources) -> Ready:
    """A planned cell, opened as it was planned.

    Raises UsageError when it has another signature by now: a file that it names has changed.
    """
    made = ready(_spec(cell.request, grid), sources)
    if made.signature != cell.signature:
        raise UsageError(
            f"{cell.label}: its weights, recordings or plug-in files are no longer those of the plan; "
            "run the sweep again"
        )
    return made


def _check_names(cells: Iterable[dict[str, Any]]) -> None:
    """Raise UsageError for a name that nobody knows: that is a mistake, not a combination to leave out."""
    cells = list(cells)
    for kind in ("interface", "task"):
        for text in dict.fromkeys(cell[kind] for cell in cells):
            registry.load(f"{kind}s", split_options(text, f"--{kind}s")[0])
    for text in dict.fromkeys(cell["upstream"] for cell in cells):
        for part in registry.split_joint(text):
            registry.load("upstreams", split_options(part, "--upstreams")[0])


def _spec(request: dict[str, Any], grid: Grid) -> RunSpec:
    spec = resolve(**request)
    if spec.protocol == "finetuned":
        return spec  # its hidden states change with every update; none are kept
    return spec.model_copy(update={"data": spec.data.model_copy(update={"states": grid.states})})


def _planned(
    request: dict[str, Any], grid: Grid, sources: Sources, workloads: Workloads
) -> PlannedCell | LeftOut:
    axes = {k: request[k] for k in ("upstream", "interface", "task", "seed")}
    request = dict(request)
    variant = request.pop("variant")
    try:
        made = ready(_spec(request, grid), sources)
    except (UsageError, MissingError) as error:
        return LeftOut(**axes, reason=str(error), missing=isinstance(error, MissingError))
    spec, upstream = made.spec, made.upstream.spec
    layers = tuple(made.interface.layers_used())
    if made.interface.picks_layer_on_dev:
        layers = tuple(range(upstream.num_layers))
    shared = spec.protocol != "finetuned"
    key = [made.content["upstream_weights"], made.content["upstream_source"],
           spec.upstream.model_dump(mode="json"), spec.data.corpus, spec.data.root]  # fmt: skip
    return PlannedCell(
        request=request, variant=variant, signature=made.signature,
        upstream=spec.upstream.label, interface=spec.interface_label, task=spec.task.name, seed=spec.seed,
        folder=results.run_folder(Path(), spec, made.signature).as_posix(),
        group=sha256_json(key)[:12] if shared else "",
        layers=layers if shared else (),
        corpus=spec.data.corpus, protocol=spec.protocol, work=workloads.of(made),
        floats_per_second=sum(upstream.dims[n] * 16_000 / upstream.strides[n] for n in layers),
    )  # fmt: skip


def _unique(cells: Sequence[PlannedCell]) -> tuple[PlannedCell, ...]:
    """Cells that are the same run once (two spellings of one upstream, say)."""
    return tuple({cell.signature: cell for cell in reversed(cells)}.values())[::-1]
