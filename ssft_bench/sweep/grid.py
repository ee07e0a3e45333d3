"""A sweep file: the axes of a grid, what differs by task or suite, and what is left out."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from ssft_bench.errors import UsageError
from ssft_bench.files import sha256_json
from ssft_bench.names import split_options
from ssft_bench.spec_parts import Strict

AXES = ("upstream", "interface", "task", "seed")


class Overrides(Strict):
    """What a task's cells, or a suite's grid, have instead of the grid's own."""

    upstreams: tuple[str, ...] | None = None
    """Upstreams; null: those of the grid, as for every other field."""
    interfaces: tuple[str, ...] | None = None
    """Interfaces."""
    seeds: tuple[int, ...] | None = None
    """Seeds."""
    protocol: str | None = None
    """frozen, finetuned or training-free."""
    corpus: str | None = None
    """Another corpus than the suite's recipe names."""
    trainable: str | None = None
    """Protocol finetuned: what of the upstream learns."""
    lr_grid: tuple[float, ...] | None = None
    """Learning rates to train each of; dev picks."""
    lm: str | None = None
    """KenLM file for a second decoding."""
    lexicon: str | None = None
    """Lexicon of that."""
    control: str | None = None
    """A fairness control for every cell."""
    set: tuple[str, ...] = ()
    """key=value of the resolved run, after the grid's own."""


class SuiteOverrides(Overrides):
    """How a grid looks on another suite."""

    tasks: tuple[str, ...] | None = None
    """Tasks."""
    per_task: dict[str, Overrides] | None = None
    """Instead of the grid's per_task."""


class Excluded(Strict):
    """Cells to leave out: those that fit every pattern given (`*` and `?` as in file names)."""

    upstream: str = "*"
    interface: str = "*"
    task: str = "*"
    seed: int | None = None

    def fits(self, cell: Mapping[str, Any]) -> bool:
        """Whether a cell is one of them."""
        named = all(fnmatchcase(str(cell[k]), getattr(self, k)) for k in AXES[:3])
        return named and self.seed in (None, cell["seed"])


class Grid(Strict):
    """Upstreams x interfaces x tasks x seeds on a suite."""

    name: str = "sweep"
    """Names the folder of the plan."""
    about: str = ""
    """What it is: a paper's table, for instance."""
    suite: str = "mini"
    """mini, pocket or full."""
    upstreams: tuple[str, ...] = Field(min_length=1)
    """name or name:option=value."""
    interfaces: tuple[str, ...] = Field(min_length=1)
    """name or name:option=value."""
    tasks: tuple[str, ...] = Field(min_length=1)
    """asr, pr, qbe, ner, sa, or others."""
    seeds: tuple[int, ...] = Field(default=(1,), min_length=1)
    """One cell for each."""
    data: str | None = None
    """Folder of the corpora."""
    states: Literal["float32", "bfloat16"] = "bfloat16"
    """How hidden states of frozen upstreams are kept; it moves scores, so it is part of a cell."""
    protocol: str | None = None
    """frozen, finetuned or training-free; null: each task's first."""
    corpus: str | None = None
    """Another corpus than the suite's recipes name."""
    trainable: str | None = None
    """Protocol finetuned: what of the upstream learns."""
    lr_grid: tuple[float, ...] = ()
    """Learning rates to train each of; dev picks."""
    lm: str | None = None
    """KenLM file for a second decoding."""
    lexicon: str | None = None
    """Lexicon of that."""
    control: str | None = None
    """A fairness control for every cell."""
    set: tuple[str, ...] = ()
    """key=value of every resolved run."""
    checkpoints: dict[str, str] = Field(default={})
    """Checkpoint files of SSFT upstreams, by the name in `upstreams`."""
    variants: dict[str, tuple[str, ...]] = Field(default={})
    """Named lists of key=value: every cell once with each (shares of the training labels, say)."""
    per_task: dict[str, Overrides] = Field(default={})
    """What differs for a task."""
    exclude: tuple[Excluded, ...] = ()
    """Cells to leave out."""
    suites: dict[str, SuiteOverrides] = Field(default={})
    """How the grid looks on another suite."""

    def on(self, suite: str) -> Grid:
        """The same grid on a suite, with what it says of that suite."""
        own = self.suites.get(suite, SuiteOverrides())
        changed = {k: v for k, v in own.model_dump(exclude={"set"}).items() if v not in (None, ())}
        merged = {**self.model_dump(exclude={"suites"}), **changed, "suite": suite}
        return Grid.model_validate({**merged, "set": (*self.set, *own.set)})

    def cells(self) -> list[dict[str, Any]]:
        """Arguments of `spec.resolve` and the variant's name for each cell, in the order of the grid."""
        found: dict[str, dict[str, Any]] = {}
        for task in self.tasks:
            for cell in self._of_task(task):
                if not any(one.fits(cell) for one in self.exclude):
                    found.setdefault(sha256_json(cell), cell)
        return list(found.values())

    def _of_task(self, task: str) -> Iterator[dict[str, Any]]:
        own = self.per_task.get(split_options(task, "tasks")[0], Overrides())
        same = {
            key: getattr(self, key) if getattr(own, key) is None else getattr(own, key)
            for key in ("protocol", "corpus", "trainable", "lr_grid", "lm", "lexicon", "control")
        }
        axes = (own.upstreams or self.upstreams, own.interfaces or self.interfaces,
                own.seeds or self.seeds, self.variants or {"": ()})  # fmt: skip
        for upstream, interface, seed, variant in product(*axes):
            cell = {
                "upstream": upstream, "interface": interface, "task": task, "seed": seed,
                "suite": self.suite, "data": self.data, **same,
                "checkpoint": self.checkpoints.get(upstream), "variant": variant,
                "sets": (*self.set, *own.set, *self.variants.get(variant, ())),
            }  # fmt: skip
            yield {k: list(v) if isinstance(v, tuple) else v for k, v in cell.items()}


def load_grid(path: Path | None, given: Mapping[str, Any]) -> Grid:
    """A grid from a file, from flags, or from a file with flags instead of some of its keys.

    Raises UsageError naming the file and the key.
    """
    values: dict[str, Any] = {}
    if path is not None:
        values = {"name": path.stem, **_read(path)}
    flags = {key: value for key, value in given.items() if value not in (None, [], ())}
    suite = flags.pop("suite", None)
    where = f"{path}: " if path is not None else "the grid: "
    if path is None:
        lacking = [f"--{key}" for key in ("upstreams", "interfaces", "tasks") if key not in flags]
        if lacking:
            raise UsageError(f"give a sweep file, or {', '.join(lacking)} too")
        values = flags if suite is None else {**flags, "suite": suite}
    try:
        if path is not None:
            grid = Grid.model_validate(values)
            if suite is not None and suite != grid.suite:
                grid = grid.on(suite)
            values = {**grid.model_dump(), **flags, "set": (*grid.set, *flags.get("set", ()))}
        grid = Grid.model_validate(values)
    except ValidationError as error:
        raise UsageError(where + _explain(error, Grid)) from error
    unused = set(grid.per_task) - {split_options(t, "tasks")[0] for t in grid.tasks}
    if path is None and unused:
        raise UsageError(f"{where}per_task names {', '.join(sorted(unused))}, no task of the grid")
    return grid


def _read(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such sweep file; 'ssft-bench list sweeps' shows those of the "
                         "package") from error  # fmt: skip
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(
            f"{path}: cannot be read as YAML: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(loaded, dict):
        raise UsageError(f"{path}: expected keys (upstreams, interfaces, tasks, ...) at the top")
    return loaded


def _explain(error: ValidationError, model: type[Strict]) -> str:
    """The first complaint of pydantic in one line, with the known keys for a wrong one."""
    # A misspelt key explains the missing one that comes before it.
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key {place}; known: {', '.join(model.model_fields)}"
    return f"{place}: {first['msg']}" if place else str(first["msg"])


def comma_separated(text: str | None) -> tuple[str, ...]:
    """Names of a flag, `a,b:x=1,y=2,c`: a part without a name of its own belongs to the one before.

    Options follow a colon and hold `=`; so a part with `=` and no colon goes on with the options.
    """
    names: list[str] = []
    for part in (text or "").split(","):
        if names and "=" in part and ":" not in part:
            names[-1] += f",{part}"
        elif part.strip():
            names.append(part.strip())
    return tuple(names)


def seeds_of(text: str | None) -> tuple[int, ...]:
    """Seeds of a flag, `1,2,3`. Raises UsageError for what is no whole number."""
    try:
        return tuple(int(part) for part in comma_separated(text))
    except ValueError as error:
        raise UsageError(f"--seeds {text}: give whole numbers, as in 1,2,3") from error


def packaged_sweeps() -> dict[str, Path]:
    """The sweep files of the package, by name."""
    spec = importlib.util.find_spec("ssft_bench.sweeps")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_grid(text: str | None) -> Path | None:
    """The file of a grid that is named by path or by a name of the package."""
    if text is None:
        return None
    packaged = packaged_sweeps().get(text)
    return Path(text) if packaged is None or Path(text).exists() else packaged
