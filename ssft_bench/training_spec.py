"""The numbers of one training run: optimiser, schedule, steps, evaluation."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Optimizer(BaseModel):
    """Which optimiser moves the parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["adam", "adamw", "sgd"] = "adam"
    """Class in torch.optim."""
    lr: float = Field(default=1e-4, gt=0)
    """Peak learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's moment decays."""
    eps: float = Field(default=1e-8, gt=0)
    """Adam's denominator floor."""
    weight_decay: float = Field(default=0.0, ge=0)
    """L2 penalty (adam, sgd) or decoupled decay (adamw)."""


class Schedule(BaseModel):
    """Learning rate over the run, in fractions of all steps. Stateless: a function of the step alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Literal["constant", "linear", "cosine", "tri_stage"] = "constant"
    """constant after warm-up; linear or cosine to `final_scale`; tri_stage as fairseq (exponential decay)."""
    warmup: float = Field(default=0.0, ge=0, le=1)
    """Share of the steps with linearly growing rate."""
    hold: float = Field(default=0.0, ge=0, le=1)
    """Share of the steps at the peak (tri_stage only)."""
    final_scale: float = Field(default=0.0, ge=0, le=1)
    """Rate at the last step over the peak rate."""

    def factor(self, step: int, steps: int) -> float:
        """Multiplier of the peak rate for update `step` (0-based) of `steps`."""
        warm = self.warmup * steps
        if step < warm:
            return (step + 1) / (warm + 1)
        if self.name == "constant":
            return 1.0
        hold = self.hold * steps if self.name == "tri_stage" else 0.0
        if step < warm + hold:
            return 1.0
        done = min(1.0, (step - warm - hold) / max(1.0, steps - warm - hold))
        if self.name == "linear":
            return 1.0 + (self.final_scale - 1.0) * done
        if self.name == "cosine":
            return self.final_scale + (1 - self.final_scale) * 0.5 * (1 + math.cos(math.pi * done))
        return math.exp(math.log(max(self.final_scale, 1e-8)) * done)


class TrainSpec(BaseModel):
    """Everything the training loop needs to know, and nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(gt=0)
    """Optimiser updates."""
    optimizer: Optimizer = Optimizer()
    """Optimiser and peak learning rate."""
    schedule: Schedule = Schedule()
    """Learning rate over the run."""
    accumulate: int = Field(default=1, ge=1)
    """Micro-batches per update."""
    clip: float | None = Field(default=1.0, gt=0)
    """Largest gradient norm; null switches clipping off."""
    eval_every: int = Field(default=0, ge=0)
    """Updates between dev evaluations; 0 means only after the last update."""
    save_every: int = Field(default=500, ge=1)
    """Updates between checkpoints to resume from."""
    log_every: int = Field(default=50, ge=1)
    """Updates between log lines."""
    max_bad_steps: int = Field(default=10, ge=1)
    """Consecutive updates with a non-finite loss or gradient before the run stops."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Fabric precision."""
