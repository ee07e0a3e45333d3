"""The parts of a run's specification that are not recipes of their own."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """Immutable; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Choice(Strict):
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


class Control(Strict):
    """A run that spends what an interface costs elsewhere."""

    name: Literal["matched-head"]
    """matched-head: weighted sum, with the head enlarged by the interface's parameters."""
    interface: Choice
    """The interface it is a control for."""
    parameters: int | None = None
    """That interface's parameters; known when the upstream is."""


class DataSpec(Strict):
    """What is trained and scored on."""

    corpus: str
    """Name of the corpus, or name:option=value."""
    root: str | None = None
    """Folder that holds it; does not enter the signature (the recordings' bytes do)."""
    batch_size: int = Field(default=16, ge=1)
    """Utterances in a micro-batch."""
    batch_seconds: float | None = Field(default=None, gt=0)
    """Most seconds of audio in a micro-batch, padding counted; null for no such bound."""
    order: Literal["length", "published"] = "length"
    """Which utterances share a micro-batch: those of similar length, or those that the task's published
    code puts together; then neither bound above counts."""
    mixed_rates: bool = False
    """Allow recordings whose sampling rate differs from that of most others."""
    max_utterances: int | None = Field(default=None, ge=1)
    """Only the first N utterances of each split, for trying things out; null for all."""
    train_share: float = Field(default=1.0, gt=0, le=1)
    """Share of the training utterances that labels are used of (0.01, 0.1): always the same ones."""
    states: Literal["float32", "bfloat16"] = "float32"
    """Type that a frozen upstream's hidden states are rounded to before anything sees them, wherever they
    are kept; bfloat16 needs half the room and moves scores a little. Not read in protocol finetuned."""
    standardize: bool = False
    """Each dimension of a frozen upstream's hidden states minus its mean over its deviation, both of the
    training split. Not read in protocol finetuned, nor where nothing is trained: qbe normalises anyway,
    and an interface from another run brings that run's."""
    memory_gib: float = Field(default=6.0, ge=0)
    """Keep the frozen upstream's hidden states in memory up to this size; else compute them again."""


class SelectionSpec(Strict):
    """How the parameters that are scored were picked."""

    split: Literal["dev"] = "dev"
    """Split that picks the best step."""
    metric: str
    """Metric on that split."""
