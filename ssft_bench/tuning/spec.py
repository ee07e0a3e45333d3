"""The typed specification of a tuning run, and how it is resolved from a method's recipes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ssft_bench import recipes as recipe_files
from ssft_bench import registry
from ssft_bench.errors import UsageError
from ssft_bench.files import sha256_json
from ssft_bench.names import split_options, unknown
from ssft_bench.spec import Choice, apply_sets, explain
from ssft_bench.training_spec import Schedule, TrainSpec

SPEC_VERSION = 1
FAMILIES = ("hubert", "wav2vec2", "wavlm")
"""Words in a base's name that pick a recipe where none has the very name."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Points(_Strict):
    """Learning rate as straight lines between points: papers state warm-up and decay in updates."""

    name: Literal["points"] = "points"
    """Tells it from the schedules of downstream training."""
    points: list[tuple[int, float]] = Field(min_length=2)
    """(update, rate over the peak rate), updates counted from 0 and rising."""

    @model_validator(mode="after")
    def _rising(self) -> Points:
        updates = [update for update, _ in self.points]
        if any(b <= a for a, b in itertools.pairwise(updates)):
            raise ValueError(f"updates must rise: {updates}")
        return self

    def factor(self, step: int, steps: int) -> float:
        """Multiplier of the peak rate for update `step` (0-based); `steps` does not matter."""
        first, last = self.points[0], self.points[-1]
        if step <= first[0]:
            return first[1]
        for (a, low), (b, high) in zip(self.points, self.points[1:], strict=False):
            if step <= b:
                return low + (high - low) * (step - a) / (b - a)
        return last[1]


class TuneTrain(TrainSpec):
    """Optimiser, schedule, steps, as for a downstream."""

    schedule: Schedule | Points = Schedule()  # type: ignore[assignment]
    """Learning rate over the run."""
    clip: float | None = Field(default=None, gt=0)
    """Largest gradient norm; null switches clipping off."""
    save_every: int = Field(default=100, ge=1)
    """Updates between checkpoints to resume from."""


class TuneData(_Strict):
    """What is heard, and in which batches."""

    corpus: str
    """Name of the corpus; its train split is heard, without labels unless the method reads text."""
    root: str | None = None
    """Folder that holds it; does not enter the signature (the recordings' bytes do)."""
    min_seconds: float = Field(default=0.0, ge=0)
    """Shorter recordings are left out."""
    max_seconds: float | None = Field(default=None, gt=0)
    """Longer recordings are left out; null for no bound."""
    crop_seconds: float | None = Field(default=None, gt=0)
    """Longer recordings are cut to a random stretch of this length; null for whole ones."""
    pack: Literal["shuffled", "by_length"] = "shuffled"
    """shuffled: every pass in a new order. by_length: neighbours in length share a batch, batches are
    fixed and their order is shuffled."""
    batch_size: int | None = Field(default=1, ge=1)
    """Utterances in a micro-batch; null where batch_seconds alone bounds it."""
    batch_seconds: float | None = Field(default=None, gt=0)
    """Most seconds of audio (one view) in a micro-batch."""
    drop_last: bool = False
    """Leave out a smaller last batch of a pass."""
    mixed_rates: bool = False
    """Allow recordings whose sampling rate differs from that of most others."""
    max_utterances: int | None = Field(default=None, ge=1)
    """Only the first N utterances, for trying things out; null for all."""

    @model_validator(mode="after")
    def _addressable(self) -> TuneData:
        if self.pack == "shuffled" and (self.batch_seconds or self.batch_size is None):
            raise ValueError(
                "pack=shuffled needs batch_size and no batch_seconds: passes must have equal numbers "
                "of batches"
            )
        if self.batch_size is None and self.batch_seconds is None:
            raise ValueError("give batch_size or batch_seconds")
        return self


class TuneSpec(_Strict):
    """One tuning run: a method, a base, and every number they need."""

    spec_version: int = SPEC_VERSION
    """Version of this schema."""
    method: Choice
    """SSFT method and its options."""
    base: Choice
    """The upstream that is tuned."""
    recipe: str
    """Entry of the method's recipe.yaml that the defaults came from."""
    data: TuneData
    """Corpus and batches."""
    train: TuneTrain
    """Optimiser, schedule, steps."""
    store: Literal["float32", "float16"] = "float32"
    """Number format of the checkpoint."""
    seed: int = Field(default=1, ge=0)
    """Seed of everything random in the run."""


NOT_IN_SIGNATURE = ("data.root", "train.log_every", "train.save_every")
"""Keys that cannot move a weight."""


def resolve(
    *,
    method: str,
    base: str,
    corpus: str | None = None,
    data: str | None = None,
    recipe: str | None = None,
    faithful: Sequence[str] = (),
    seed: int | None = None,
    sets: Sequence[str] = (),
) -> TuneSpec:
    """Fill in a method's recipe for a base and apply `--faithful` and `--set key=value` on top.

    Raises UsageError for a name, key or value that does not fit.
    """
    name, options = split_options(method, "--method")
    method_class = registry.load("methods", name)
    base_name, base_options = split_options(base, "--base")
    registry.load("upstreams", base_name)
    recipes = load_recipes(method_class)
    chosen = recipe or recipe_for(base_name, recipes)
    if chosen not in recipes:
        raise unknown("recipe", chosen, recipes)
    values: dict[str, Any] = dict(recipes[chosen])
    given = {**values.pop("options", {}), **options, **_faithful(method_class, faithful)}
    values |= {
        "method": {"name": name, "options": _options(method_class, given)},
        "base": {"name": base_name, "options": base_options},
        "recipe": chosen,
    }
    values["data"] = {**values.get("data", {}), "root": data}
    if corpus is not None:
        values["data"]["corpus"] = corpus
    registry.find("corpora", split_options(values["data"]["corpus"], "--corpus")[0])
    if seed is not None:
        values["seed"] = seed
    values = apply_sets(_validated(values).model_dump(mode="json"), sets)
    values["method"]["options"] = _options(method_class, values["method"]["options"])
    return _validated(values)


def load_recipes(method_class: Any) -> dict[str, Any]:
    """The recipe.yaml beside a method's class: base upstream -> numbers. Raises UsageError without one."""
    return recipe_files.load_recipes(method_class, "method", "base upstreams")


def recipe_for(base: str, recipes: Mapping[str, Any]) -> str:
    """The recipe of that name, else of the same size (mini or not) and family, else of the same size.

    Raises UsageError when there is none of that size.
    """
    if base in recipes:
        return base
    mini = [r for r in recipes if ("mini" in r) == ("mini" in base)]
    family = next((f for f in FAMILIES if f in base), None)
    alike = [r for r in mini if family and family in r] or mini
    if not alike:
        raise UsageError(
            f"no recipe fits base {base}; name one with --recipe: {', '.join(recipes)}"
        )
    return alike[0]


def signature(spec: TuneSpec, content: Mapping[str, str | None]) -> str:
    """Hash of the resolved specification and of the bytes it names (base weights, recordings)."""
    values = spec.model_dump(mode="json")
    for key in NOT_IN_SIGNATURE:
        group, last = key.split(".")
        values[group].pop(last)
    return sha256_json({"spec": values, "content": dict(content)})[:16]


def _faithful(method_class: Any, names: Sequence[str]) -> dict[str, Any]:
    known: Mapping[str, Any] = method_class.faithful
    if "all" in names:
        return dict(known)
    for name in names:
        if name not in known:
            raise unknown(f"faithful flag of {method_class.name}", name, ["all", *known])
    return {name: known[name] for name in names}


def _validated(values: Mapping[str, Any]) -> TuneSpec:
    try:
        return TuneSpec.model_validate(values)
    except ValidationError as error:
        raise UsageError(explain(error)) from error


def _options(method_class: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        dumped: dict[str, Any] = method_class.Options.model_validate(options).model_dump(
            mode="json"
        )
        return dumped
    except ValidationError as error:
        known = ", ".join(method_class.Options.model_fields)
        raise UsageError(f"{explain(error, 'method.options.')}. Known options: {known}") from error
