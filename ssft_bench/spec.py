"""The typed specification of a run, how it is resolved, and its signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from ssft_bench import registry
from ssft_bench.errors import UsageError
from ssft_bench.files import sha256_json
from ssft_bench.finetuning.spec import FineTuneSpec
from ssft_bench.language_model import LanguageModelSpec
from ssft_bench.names import parse_scalar, split_options, unknown
from ssft_bench.recipes import task_recipe
from ssft_bench.spec_parts import Choice, Control, DataSpec, SelectionSpec, Strict
from ssft_bench.suites import SUITES
from ssft_bench.training_spec import TrainSpec
from ssft_bench.tuned_upstream import with_checkpoint

__all__ = ["Choice", "Control", "DataSpec", "RunSpec", "SelectionSpec", "resolve", "signature"]

SPEC_VERSION = 1


class RunSpec(Strict):
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
    protocol: Literal["frozen", "finetuned", "training-free"] = "frozen"
    """Whether the upstream learns too, or nothing does."""
    data: DataSpec
    """Corpus and batches."""
    train: TrainSpec | None = None
    """Optimiser, schedule, steps; null where nothing is trained."""
    lr_grid: tuple[float, ...] = ()
    """Peak learning rates that are each trained; dev picks. Empty: only that of `train`."""
    finetune: FineTuneSpec | None = None
    """What of the upstream learns, and how; only in protocol finetuned."""
    lm: LanguageModelSpec | None = None
    """Language model for a second decoding of the test split; null for greedy decoding alone."""
    interface_from: str | None = None
    """Folder of a finished run whose trained interface is used; only where nothing is trained. Its
    tensors count in the signature, not the path."""
    selection: SelectionSpec
    """How the best step is picked."""
    seed: int = Field(default=1, ge=0)
    """Seed of everything random in the run."""
    control: Control | None = None
    """A fairness control; `interface` and the head's sizes are then the control's own."""

    @model_validator(mode="after")
    def _upstream_gets_its_turn(self) -> RunSpec:
        """SLUE's frozen updates belong to its many steps; a shorter run has to scale them too."""
        frozen = self.finetune.frozen_steps if self.finetune else 0
        if self.train and frozen and frozen >= self.train.steps:
            raise ValueError(
                f"finetune.frozen_steps={frozen} leaves none of train.steps={self.train.steps} to the "
                "upstream; scale it with --set finetune.frozen_steps=..."
            )
        return self

    @property
    def training(self) -> TrainSpec:
        """`train` of a run that trains."""
        assert self.train is not None
        return self.train

    @property
    def interface_label(self) -> str:
        """The interface as tables show it."""
        if self.control is None:
            return self.interface.label
        return f"{self.interface.label}, head matched to {self.control.interface.label}"


NOT_IN_SIGNATURE = ("suite", "data.root", "data.memory_gib", "train.log_every", "train.save_every")
"""Keys that cannot move a score."""
ABSENT: dict[str, Any] = {
    "control": None,
    "lr_grid": [],
    "finetune": None,
    "lm": None,
    "interface_from": None,
    "data.train_share": 1.0,
    "data.order": "length",
    "data.states": "float32",
    "data.standardize": False,
}
"""Parts that a run may lack: it is then the run it was before there were such parts."""


def resolve(
    *,
    upstream: str,
    interface: str,
    task: str,
    suite: str = "mini",
    corpus: str | None = None,
    data: str | None = None,
    protocol: str | None = None,
    seed: int = 1,
    sets: Sequence[str] = (),
    control: str | None = None,
    checkpoint: str | None = None,
    trainable: str | None = None,
    lr_grid: Sequence[float] = (),
    lm: str | None = None,
    lexicon: str | None = None,
    interface_from: str | None = None,
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
    protocol = protocol or task_class.protocols[0]
    if protocol not in task_class.protocols:
        allowed = ", ".join(task_class.protocols)
        raise UsageError(f"--protocol {protocol}: task {task_class.name} supports: {allowed}")
    recipe = task_recipe(task_class, suite, corpus, protocol)
    registry.find("corpora", split_options(recipe["corpus"], "--corpus")[0])
    given = {"trainable": trainable, "lr_grid": lr_grid, "interface_from": interface_from}
    _check_protocol(protocol, given)
    values = {
        "suite": suite,
        **names,
        "protocol": protocol,
        "data": {"corpus": recipe["corpus"], "root": data, **recipe.get("data", {})},
        "train": recipe.get("train"),
        "selection": {"metric": task_class.primary().name, **recipe.get("selection", {})},
        "seed": seed,
        "lr_grid": tuple(lr_grid),
        "lm": _language_model(task_class.name, recipe.get("lm"), lm, lexicon),
        "interface_from": interface_from,
    }
    if protocol == "finetuned":
        own = {} if trainable is None else {"trainable": trainable}
        values["finetune"] = {**recipe.get("finetune", {}), **own}
    if control is not None:
        values["control"] = {"name": control, "interface": names["interface"]}
        values["interface"] = {"name": "weighted_sum"}
    options = {**recipe.get("options", {}), **names["task"]["options"]}
    values["task"] = {"name": names["task"]["name"], "options": _task_options(task_class, options)}
    values = apply_sets(_validated(values).model_dump(mode="json"), sets)
    values["task"]["options"] = _task_options(task_class, values["task"]["options"])
    return _validated(values)


def rates(text: str | None) -> tuple[float, ...]:
    """Learning rates of `--lr-grid 1e-4,5e-4`. Raises UsageError for what is no positive number."""
    if text is None:
        return ()
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) <= 0 or len(set(found)) < len(found):
        raise UsageError(f"--lr-grid {text}: give different positive rates, as in 1e-4,5e-4,1e-3")
    return found


FITS_PROTOCOL = {
    "trainable": "finetuned",
    "lr_grid": "frozen or finetuned",
    "interface_from": "training-free",
}
"""Flags that mean something in some protocols only."""


def _check_protocol(protocol: str, given: Mapping[str, Any]) -> None:
    for name, fitting in FITS_PROTOCOL.items():
        if given[name] and protocol not in fitting:
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag} goes with protocol {fitting}; this run is {protocol}")


def _language_model(
    task: str, recipe: Mapping[str, Any] | None, path: str | None, lexicon: str | None
) -> dict[str, Any] | None:
    """The recipe's weights with `--lm` and `--lexicon` filled in; None without `--lm`."""
    if path is None and lexicon is not None:
        raise UsageError(f"--lexicon {lexicon} goes with --lm FILE")
    if path is None:
        return None
    if recipe is None:
        raise UsageError(f"--lm {path}: task {task} is decoded without a language model")
    return {**recipe, "path": path, **({} if lexicon is None else {"lexicon": lexicon})}


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
    values["upstream"]["options"].pop("ckpt", None)  # the weights' bytes stand for it
    for key, empty in ABSENT.items():
        place, last = _place(values, key)
        if place[last] == empty:
            place.pop(last)
    if values.get("lm"):
        values["lm"] |= {"path": None, "lexicon": None}  # their bytes stand for them
    if "interface_from" in values:
        values["interface_from"] = None
    for key in NOT_IN_SIGNATURE:
        place, last = _place(values, key)
        place.pop(last, None)
    return sha256_json({"spec": values, "content": dict(content)})[:16]


def _place(values: Mapping[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """The mapping that holds a key written with dots, empty where that part is null, and its last name."""
    *path, last = key.split(".")
    place: Any = values
    for part in path:
        place = place[part] or {}
    return place, last


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
        value = "" if isinstance(item["input"], dict) else f"={item['input']!r}"
        told = item["msg"].removeprefix("Value error, ")
        parts.append(f"{field}{value}: {told}" if field else told)
    return "; ".join(parts)
