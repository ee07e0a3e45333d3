"""Options of a context-aware upstream, as `context_hubert:mode=aware,alpha=0.3` gives them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ssft_bench.errors import UsageError
from ssft_bench.upstreams.context.loss import Distance, Missing
from ssft_bench.upstreams.context.module import Concat, Pool
from ssft_bench.upstreams.context.neighbours import parse_offsets, written_offsets

Mode = Literal["none", "module_only", "aware", "inject"]


class ContextOptions(BaseModel):
    """The abstract of arXiv:2212.08542 gives no number: every default is ours."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str
    """The upstream that is wrapped: a name, or name:option=value."""
    mode: Mode = "aware"
    """none: plain fine-tuning; module_only: no auxiliary loss; aware: the method; inject: the head also
    gets the neighbours' vectors, in training and in testing, and there is no auxiliary loss."""
    alpha: float = Field(default=0.3, ge=0)
    """Weight of the auxiliary loss (mode aware)."""
    offsets: tuple[int, ...] = (-1, 1)
    """Which segments are neighbours: -1+1, -1 or +1."""
    pool: Pool = "attn"
    """How the module pools frames: learned softmax, or mean."""
    dist: Distance = "cosine"
    """Distance in the auxiliary loss."""
    stop_grad: bool = True
    """Whether a neighbour's vector is taken as fixed."""
    missing: Missing = "skip"
    """A neighbour that is not there: no term, or a term with a zero vector."""
    outside: Literal["encode", "skip"] = "encode"
    """A neighbour that is not in the batch: encode it without gradients, or take it as missing."""
    context_dim: int = Field(default=256, ge=1)
    """Width of a context vector."""
    concat: Concat = "head_input"
    """Context beside every frame of the head's input, or projected and added to it."""
    run_length: int = Field(default=4, ge=1)
    """Most consecutive segments of a session side by side in a training batch, in every mode."""

    @field_validator("offsets", mode="before")
    @classmethod
    def _read(cls, given: object) -> tuple[int, ...]:
        return parse_offsets(given)


def read_options(name: str, given: Mapping[str, Any]) -> ContextOptions:
    """Raises UsageError naming the option that is unknown or does not fit."""
    unknown = sorted(given.keys() - ContextOptions.model_fields.keys())
    if unknown:
        known = ", ".join(ContextOptions.model_fields)
        raise UsageError(f"upstream {name} has no option '{unknown[0]}'. Known: {known}")
    try:
        return ContextOptions.model_validate(given)
    except ValidationError as error:
        found = error.errors()[0]
        where = ".".join(str(part) for part in found["loc"])
        raise UsageError(f"upstream {name}: {where}={found['input']}: {found['msg']}") from error


def told(options: ContextOptions) -> dict[str, Any]:
    """As plain values, in the form in which they are given."""
    return {**options.model_dump(mode="json"), "offsets": written_offsets(options.offsets)}


def lists_options(build: Callable[..., Any]) -> Callable[..., Any]:
    """Give a builder of `base` and `**options` a signature with every option, for `ssft-bench show`."""
    base = inspect.signature(build).parameters["base"].default
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value)
        for name, value in told(ContextOptions(base=base)).items()
    ]
    build.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return build
