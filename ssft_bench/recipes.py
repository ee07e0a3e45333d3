"""recipe.yaml: every number of a task or a method, by suite or base upstream."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ssft_bench.errors import MissingError, UsageError
from ssft_bench.names import split_options


def load_recipes(owner: Any, kind: str = "task", keys: str = "suite names") -> dict[str, Any]:
    """The recipe.yaml beside a task's or a method's class, a mapping from `keys` to numbers.

    Raises UsageError when there is none.
    """
    path = Path(inspect.getfile(owner)).with_name("recipe.yaml")
    if not path.is_file():
        raise UsageError(
            f"{kind} {owner.name}: {path} is missing; a {kind} needs its numbers there"
        )
    return _read(path, keys)


def packaged_recipes() -> dict[str, dict[str, Any]]:
    """The recipes of every task in the package, by its name; no task is imported (that needs torch)."""
    spec = importlib.util.find_spec("ssft_bench.downstreams")
    assert spec is not None
    assert spec.origin is not None
    paths = sorted(Path(spec.origin).parent.glob("*/recipe.yaml"))
    return {path.parent.name: _read(path, "suite names") for path in paths}


def _read(path: Path, keys: str) -> dict[str, Any]:
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(loaded, dict) or not loaded:
        raise UsageError(f"{path}: expected a mapping from {keys} to recipes")
    return loaded


def task_recipe(task_class: Any, suite: str, corpus: str | None, protocol: str) -> dict[str, Any]:
    """A suite's recipe of a task, with what another corpus or protocol changes merged in.

    In this order: the suite's entry, its `corpora: {<corpus>: ...}`, its `protocols: {<protocol>: ...}`,
    and `protocols` within the corpus' entry.

    Raises UsageError for a suite that the task has no recipe for, MissingError for one that has no data
    for it (`unavailable: reason`).
    """
    recipes = load_recipes(task_class)
    if suite not in recipes:
        raise UsageError(
            f"task {task_class.name} has no recipe for suite {suite}; it has: {', '.join(recipes)}"
        )
    recipe = dict(recipes[suite])
    if "unavailable" in recipe:
        raise MissingError(f"task {task_class.name} in suite {suite}: {recipe['unavailable']}")
    corpora, protocols = recipe.pop("corpora", {}), recipe.pop("protocols", {})
    chosen = corpus or recipe["corpus"]
    name = split_options(chosen, "--corpus")[0]
    own = dict(corpora.get(name, {}))
    own_protocols = own.pop("protocols", {})
    for part in (own, protocols.get(protocol, {}), own_protocols.get(protocol, {})):
        recipe = _merge(recipe, part)
    return {**recipe, "corpus": chosen}  # with its options


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
