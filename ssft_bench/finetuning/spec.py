"""What of an upstream learns in the protocol `finetuned`, and how it is disturbed meanwhile."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

LORA_TARGETS = ("q", "k", "v", "out", "fc1", "fc2")
"""Matrices of a transformer layer that LoRA can be put beside: attention's and the feed-forward's."""
SYNTAX = "all, top:K, lora:r=8[,alpha=16][,targets=q+v] or adapter:WIDTH"


class Trainable(BaseModel):
    """Which parameters of an upstream learn; `trainable` of a recipe, taken apart."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["all", "top", "lora", "adapter"]
    """all: everything but the convolutional stack; top: the highest layers; lora, adapter: new parameters."""
    layers: int = 0
    """How many of the highest layers (top)."""
    rank: int = 0
    """Rank of the update of each matrix (lora)."""
    alpha: float = 0.0
    """The update counts alpha / rank times (lora)."""
    targets: tuple[str, ...] = ()
    """Which matrices are updated, in the order of LORA_TARGETS (lora)."""
    width: int = 0
    """Width of the bottleneck (adapter)."""

    @property
    def label(self) -> str:
        """As it is written in a recipe, every number said."""
        match self.kind:
            case "top":
                return f"top:{self.layers}"
            case "lora":
                return f"lora:r={self.rank},alpha={self.alpha:g},targets={'+'.join(self.targets)}"
            case "adapter":
                return f"adapter:{self.width}"
        return "all"


def parse_trainable(text: str) -> Trainable:
    """`all`, `top:K`, `lora:r=8[,alpha=16][,targets=q+v]` or `adapter:32`.

    LoRA's alpha is twice the rank, and its targets are the matrices of queries and values, unless told.
    Raises ValueError for anything else.
    """
    kind, _, rest = text.strip().partition(":")
    if kind == "all" and not rest:
        return Trainable(kind="all")
    if kind in ("top", "adapter") and re.fullmatch(r"[1-9]\d*", rest):
        key = "layers" if kind == "top" else "width"
        return Trainable.model_validate({"kind": kind, key: int(rest)})
    if kind == "lora":
        return _lora(text, rest)
    raise ValueError(f"'{text}' is not {SYNTAX}")


def _lora(text: str, rest: str) -> Trainable:
    found: dict[str, str] = {}
    for part in rest.split(","):
        key, given, value = part.partition("=")
        if not given or key not in ("r", "alpha", "targets") or key in found:
            raise ValueError(
                f"'{text}': lora takes r=RANK, alpha=NUMBER and targets=q+v, each once"
            )
        found[key] = value
    if not re.fullmatch(r"[1-9]\d*", found.get("r", "")):
        raise ValueError(f"'{text}': lora needs a rank, as in lora:r=8")
    rank = int(found["r"])
    try:
        alpha = float(found.get("alpha", 2 * rank))
    except ValueError:
        alpha = -1.0
    if not 0 < alpha < float("inf"):
        raise ValueError(f"'{text}': alpha is a number above 0")
    asked = found.get("targets", "q+v").split("+")
    strange = [t for t in asked if t not in LORA_TARGETS]
    if strange or len(set(asked)) < len(asked):
        raise ValueError(f"'{text}': targets are some of {'+'.join(LORA_TARGETS)}, each once")
    targets = tuple(t for t in LORA_TARGETS if t in asked)
    return Trainable(kind="lora", rank=rank, alpha=alpha, targets=targets)


class FineTuneSpec(BaseModel):
    """What learns, stages and masks after SLUE's recipes (fairseq); by default nothing is disturbed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trainable: str = "all"
    """all, top:K, lora:r=8[,alpha=16][,targets=q+v] or adapter:32."""
    frozen_steps: int = Field(default=0, ge=0)
    """First updates, in which only the interface, the head and other modules on top of the encoder learn;
    LoRA and adapters inside it wait too (fairseq: freeze_finetune_updates)."""
    layerdrop: float = Field(default=0.0, ge=0, lt=1)
    """Probability that a transformer layer is left out of a micro-batch; its output is then its input."""
    time_mask_prob: float = Field(default=0.0, ge=0, le=1)
    """Share of the frames that spans would cover if none overlapped, as fairseq's mask_prob."""
    time_mask_length: int = Field(default=10, ge=1)
    """Frames of a span."""
    channel_mask_prob: float = Field(default=0.0, ge=0, le=1)
    """Share of the channels that spans would cover if none overlapped."""
    channel_mask_length: int = Field(default=64, ge=1)
    """Channels of a span; has to be less than the encoder's width."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Every dropout of the transformer but the next one (residual, attention, input); null: as the model
    has it."""
    activation_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout between the two matrices of the feed-forward parts; null: as the model has it."""
    train_convolutions: bool = False
    """Whether the convolutional stack learns too (with `trainable: all`)."""
    upstream_lr_scale: float = Field(default=1.0, gt=0)
    """The upstream's learning rate over that of interface and head."""
    padded: bool = True
    """Recordings of a training batch padded into one, as in published code; false: one at a time, so that
    no feature depends on other recordings. Scoring is always one at a time."""

    @field_validator("trainable")
    @classmethod
    def _canonical(cls, value: str) -> str:
        """Two ways to write the same get the same signature."""
        return parse_trainable(value).label

    @model_validator(mode="after")
    def _agree(self) -> Any:
        if self.train_convolutions and self.trainable != "all":
            raise ValueError("train_convolutions goes with trainable=all only")
        return self

    @property
    def learned(self) -> Trainable:
        """`trainable`, taken apart."""
        return parse_trainable(self.trainable)
