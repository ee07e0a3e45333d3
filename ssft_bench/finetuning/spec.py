"""What of an upstream learns in the protocol `finetuned`, and how it is disturbed meanwhile."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class FineTuneSpec(BaseModel):
    """Masking and stages after SLUE's recipes (fairseq); defaults are off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trainable: str = "all"
    """all, top:K, lora:r=8[,alpha=16][,targets=q+v] or adapter:32."""
    frozen_steps: int = Field(default=0, ge=0)
    """First updates, in which only interface, head and new modules learn."""
    layerdrop: float = Field(default=0.0, ge=0, lt=1)
    """Probability that a transformer layer is left out of an update."""
    time_mask_prob: float = Field(default=0.0, ge=0, le=1)
    """Share of frames that spans start to cover, as in fairseq."""
    time_mask_length: int = Field(default=10, ge=1)
    """Frames of a span."""
    channel_mask_prob: float = Field(default=0.0, ge=0, le=1)
    """Share of channels that spans start to cover."""
    channel_mask_length: int = Field(default=64, ge=1)
    """Channels of a span."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout in the transformer; null: as the model has it."""
    activation_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout inside the feed-forward parts; null: as the model has it."""
    train_convolutions: bool = False
    """Whether the convolutional stack learns too."""
    upstream_lr_scale: float = Field(default=1.0, gt=0)
    """The upstream's learning rate relative to the head's."""
    padded: bool = True
    """Recordings padded into one batch, as in published code; false: one at a time."""
