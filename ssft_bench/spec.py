"""The typed specification of a run, how it is resolved, and its signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ssft_bench import registry
from ssft_bench.errors import UsageError
from ssft_bench.files import sha256_json
from ssft_bench.names import parse_scalar, split_options, unknown
from ssft_bench.suites import SUITES
from ssft_bench.training_spec import TrainSpec
from ssft_bench.tuned_upstream import with_checkpoint

SPEC_VERSION = 1


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Choice(_Strict):
    """A plug-in by name, with the options that were given for it."""

    name: str
    """Name, or path/to/file.py:Class."""
    options: dict[str, Any] = {}
    """Keyword arguments of the plug-in; for a task, its recipe's options."""

    @property
    def label(self) -> str:
        """As it is written on the command line, options in alphabetical order."""
        text = ",".join(f"{k}={v}" for k, v in sorted(self.options.items()))
        return f"{self.name}:{text}" if text else self.name


class Control(_Strict):
    """A run that spends what an interface costs elsewhere."""

    name: Literal["matched-head"]
    """matched-head: weighted sum, with the head enlarged by the interface's parameters."""
    interface: Choice
    """The interface it is a control for."""
    parameters: int | None = None
    """That interface's parameters; known when the upstream is."""


class DataSpec(_Strict):
    """What is trained and scored on."""

    corpus: str
    """Name of the corpus."""
    root: str | None = None
    """Folder that holds it; does not enter the signature (the recordings' bytes do)."""
    batch_size: int = Field(default=16, ge=1)
    """Utterances in a micro-batch."""
    batch_seconds: float | None = Field(default=None, gt=0)
    """Most seconds of audio in a micro-batch, padding counted; null for no such bound."""
    mixed_rates: bool = False
    """Allow recordings whose sampling rate differs from that of most others."""
    max_utterances: int | None = Field(default=None, ge=1)
    """Only the first N utterances of each split, for trying things out; null for all."""
    train_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the training utterances that labels are used of (0.01, 0.1): always the same ones."""
    memory_gib: float = Field(default=6.0, ge=0)
    """Keep the frozen upstream's hidden states in memory up to this size; else compute them again."""


class SelectionSpec(_Strict):
    """How the parameters that are scored were picked."""

    split: Literal["dev"] = "dev"
    """Split that picks the best step."""
    metric: str
    """Metric on that split."""


class RunSpec(_Strict):
    """One cell: an upstream, an interface, a task, and every number they need."""

    spec_version: int = SPEC_VERSION
    """Version of this schema."""
    suite: str
    """Where the defaults came from."""
    upstream: Choice
    """Any s3prl upstream, one of ours, or a plug-in."""
    interface: Choice
    """What turns hidden states into features."""
    task: Choice
    """Labels, head, loss, decoding, metrics."""
    protocol: Literal["frozen", "finetuned"] = "frozen"
    """Whether the upstream learns too."""
    data: DataSpec
    """Corpus and batches."""
    train: TrainSpec
    """Optimiser, schedule, steps."""
    selection: SelectionSpec
    """How the best step is picked."""
    seed: int = Field(default=1, ge=0)
    """Seed of everything random in the run."""
    control: Control | None = None
    """A fairness control; `interface` and the head's sizes are then the control's own."""

    @property
    def interface_label(self) -> str:
        """The interface as tables show it."""
        if self.control is None:
            return self.interface.label
        return f"{self.interface.label}, head matched to {self.control.interface.label}"


NOT_IN_SIGNATURE = ("suite", "data.root", "data.memory_gib", "train.log_every", "train.save_every")
"""Keys that cannot move a score."""


def resolve(
    *,
    upstream: str,
    interface: str,
    task: str,
    suite: str = "mini",
    corpus: str | None = None,
    data: str | None = None,
    protocol: str = "frozen",
    seed: int = 1,
    sets: Sequence[str] = (),
    control: str | None = None,
    checkpoint: str | None = None,
) -> RunSpec:
    """Fill in a suite's recipe for a task and apply `--set key=value` on top.

    `checkpoint` is for an upstream that an SSFT method left behind. Raises UsageError for a name, key
    or value that does not fit, MissingError when suite `full` has no checkpoint for such an upstream.
    """
    if suite not in SUITES:
        raise unknown("suite", suite, SUITES)
    names = {"upstream": _upstream(upstream, suite, checkpoint)}
    for kind, text in (("interface", interface), ("task", task)):
        name, options = split_options(text, f"--{kind}")
        registry.load(f"{kind}s", name)
        names[kind] = {"name": name, "options": options}
    task_class = registry.load("tasks", str(names["task"]["name"]))
    recipe = _recipe(task_class, suite, corpus)
    registry.find("corpora", recipe["corpus"])
    if protocol not in task_class.protocols:
        allowed = ", ".join(task_class.protocols)
        raise UsageError(f"--protocol {protocol}: task {task_class.name} supports: {allowed}")
    values = {
        "suite": suite,
        **names,
        "protocol": protocol,
        "data": {"corpus": recipe["corpus"], "root": data, **recipe.get("data", {})},
        "train": recipe["train"],
        "selection": {"metric": task_class.primary().name},
        "seed": seed,
    }
    if control is not None:
        values["control"] = {"name": control, "interface": names["interface"]}
        values["interface"] = {"name": "weighted_sum"}
    options = {**recipe.get("options", {}), **names["task"]["options"]}
    values["task"] = {"name": names["task"]["name"], "options": _task_options(task_class, options)}
    values = apply_sets(_validated(values).model_dump(mode="json"), sets)
    values["task"]["options"] = _task_options(task_class, values["task"]["options"])
    return _validated(values)


def _upstream(text: str, suite: str, checkpoint: str | None) -> dict[str, Any]:
    """Name and options of `--upstream`; several, `a+b`, keep their options in the name."""
    parts = []
    for part in registry.split_joint(text):
        name, options = split_options(part, "--upstream")
        builder = registry.load("upstreams", name)
        options = with_checkpoint(name, builder, options, suite, checkpoint)
        parts.append(Choice(name=name, options=options))
    if len(parts) == 1:
        return parts[0].model_dump()
    return {"name": "+".join(part.label for part in parts), "options": {}}


def signature(spec: RunSpec, content: Mapping[str, str | None]) -> str:
    """Hash of the resolved specification and of the bytes it names (weights, recordings, plug-in files)."""
    values = spec.model_dump(mode="json")
    if values["control"] is None:
        values.pop("control")  # a run without one is the run it was before there were controls
    if values["data"]["train_share"] == 1:
        values["data"].pop("train_share")  # likewise
    values["upstream"]["options"].pop("ckpt", None)  # the weights' bytes stand for it
    for key in NOT_IN_SIGNATURE:
        *path, last = key.split(".")
        place = values
        for part in path:
            place = place[part]
        place.pop(last)
    return sha256_json({"spec": values, "content": dict(content)})[:16]


def apply_sets(values: dict[str, Any], sets: Sequence[str]) -> dict[str, Any]:
    """Change existing keys, written with dots: `train.optimizer.lr=1e-3`.

    Raises UsageError for a key that does not exist, with suggestions.
    """
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text}: expected key=value")
        *path, last = key.strip().split(".")
        place: Any = values
        for part in (*path, last):
            if not isinstance(place, dict) or part not in place:
                raise unknown("key in --set", key, _keys(values), " 'ssft-bench show' lists them.")
            if part is not last:
                place = place[part]
        place = values
        for part in path:
            place = place[part]
        place[last] = parse_scalar(value)
    return values


def _keys(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for key, value in values.items():
        nested = isinstance(value, Mapping) and value
        keys += _keys(value, f"{prefix}{key}.") if nested else [f"{prefix}{key}"]
    return keys


def load_recipes(owner: Any, kind: str = "task", keys: str = "suite names") -> dict[str, Any]:
    """The recipe.yaml beside a task's or a method's class, a mapping from `keys` to numbers.

    Raises UsageError when there is none.
    """
    import inspect

    path = Path(inspect.getfile(owner)).with_name("recipe.yaml")
    if not path.is_file():
        raise UsageError(
            f"{kind} {owner.name}: {path} is missing; a {kind} needs its numbers there"
        )
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(loaded, dict) or not loaded:
        raise UsageError(f"{path}: expected a mapping from {keys} to recipes")
    return loaded


def _recipe(task_class: Any, suite: str, corpus: str | None) -> dict[str, Any]:
    """A suite's recipe with the overrides of the corpus merged in."""
    recipes = load_recipes(task_class)
    if suite not in recipes:
        raise UsageError(
            f"task {task_class.name} has no recipe for suite {suite}; it has: {', '.join(recipes)}"
        )
    recipe = dict(recipes[suite])
    overrides = recipe.pop("corpora", {})
    if corpus is not None:
        name, _ = split_options(corpus, "--corpus")
        recipe = _merge({**recipe, "corpus": name}, overrides.get(name, {}))
    return recipe


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _validated(values: Mapping[str, Any]) -> RunSpec:
    try:
        return RunSpec.model_validate(values)
    except ValidationError as error:
        raise UsageError(explain(error)) from error


def _task_options(task_class: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        dumped: dict[str, Any] = task_class.Options.model_validate(options).model_dump(mode="json")
        return dumped
    except ValidationError as error:
        known = ", ".join(task_class.Options.model_fields)
        raise UsageError(f"{explain(error, 'task.options.')}. Known options: {known}") from error


def explain(error: ValidationError, prefix: str = "") -> str:
    """One line for what pydantic found: field, value, reason."""
    parts = []
    for item in error.errors():
        field = prefix + ".".join(str(p) for p in item["loc"])
        parts.append(f"{field}={item['input']!r}: {item['msg']}")
    return "; ".join(parts)
