"""The base classes of downstream tasks: those that train a head, and those that train nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.corpora.search import Search
from ssft_bench.errors import UsageError
from ssft_bench.language_model import LanguageModelSpec
from ssft_bench.metric import Metric, Prediction


class TaskOptions(BaseModel):
    """Base of a task's own options (head sizes, augmentation); unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseTask(ABC):
    """What every task has: a name, metrics over predictions, and labels that it checks."""

    name: ClassVar[str]
    """The name on the command line."""
    reads: ClassVar[Literal["frames", "utterances"]] = "frames"
    """What it needs of an interface: a vector per frame, or one per utterance will do."""
    size_options: ClassVar[tuple[str, ...]] = ()
    """Options that make the head larger, the one that moves most first (for --control matched-head)."""
    protocols: ClassVar[tuple[str, ...]]
    """Protocols it supports, the default first."""
    metrics: ClassVar[tuple[Metric, ...]]
    """Metrics over predictions; exactly one is primary: it ranks runs and picks the best dev step."""
    Options: ClassVar[type[TaskOptions]] = TaskOptions
    """Type of `options` in the recipe."""

    def __init__(self, options: TaskOptions, phone_set: str = "arpabet39") -> None:
        """`phone_set` is the corpus' (see `Corpus.phone_set`)."""
        self.options = options
        self.phone_set = phone_set

    @classmethod
    def primary(cls) -> Metric:
        """The metric that ranks runs."""
        return next(m for m in cls.metrics if m.primary)

    @abstractmethod
    def prepare(self, splits: Mapping[str, Sequence[Utterance]]) -> None:
        """Check that every utterance has the labels the task needs; build vocabularies.

        Raises MissingError naming the corpus row without a label.
        """

    def describe(self) -> dict[str, Any]:
        """What goes into the result beside the options (vocabulary size, ...)."""
        return {}


FramesOf = Callable[[Utterance], NDArray[np.float32]]
"""Features [T, D] of a recording."""


class TrainingFreeTask(BaseTask):
    """A task that compares features of queries and documents as they are; nothing learns."""

    protocols = ("training-free",)

    @abstractmethod
    def search(
        self, search: Search, frames: FramesOf, folder: Path | None = None
    ) -> list[Prediction]:
        """A prediction for each query, by its features in `frames` and those of the documents.

        With a folder, also writes there what others' tools read of the answers.
        """


class Task(BaseTask):
    """Labels, head, loss, decoding and metrics of a task that trains a head.

    One folder per task: `downstreams/<name>/task.py` holds the subclass, `recipe.yaml` its numbers
    for each suite (see CONTRIBUTING).
    """

    protocols = ("frozen", "finetuned")

    @abstractmethod
    def reference(self, utterance: Utterance) -> str:
        """The reference that a hypothesis is scored against."""

    @abstractmethod
    def encode(self, utterance: Utterance) -> Tensor:
        """Training target of one utterance, int64 [S]."""

    @abstractmethod
    def head(self, input_dim: int, input_stride: int = 320) -> nn.Module:
        """Downstream model: forward(features [B,T,D], lengths [B]) -> (logits [B,T',V], lengths [B]).

        `input_stride` is the features' in samples at 16 kHz.
        """

    def output_stride(self, input_stride: int) -> int:
        """Stride of the logits in samples, from that of the features."""
        return input_stride

    @abstractmethod
    def loss(self, logits: Tensor, lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:
        """Mean loss of a batch, scalar fp32."""

    @abstractmethod
    def decode(self, logits: Tensor, lengths: Tensor) -> list[str]:
        """Hypotheses, one per utterance."""

    def beam_search(
        self, spec: LanguageModelSpec, train: Sequence[Utterance]
    ) -> Callable[[Tensor, Tensor], list[str]]:
        """Decoding with a language model: (logits, lengths) -> hypotheses, as `decode`.

        The words of `train` are the lexicon where the specification names none. Raises UsageError for
        a task that has no such decoding, MissingError where the decoder is not installed.
        """
        raise UsageError(f"--lm: task {self.name} is decoded without a language model")

    def published_batches(
        self, utterances: Sequence[Utterance], seconds: Sequence[float]
    ) -> list[list[int]]:
        """The micro-batches of one pass over the training rows as published code makes them, as indices.

        Raises UsageError for a task that knows of none.
        """
        raise UsageError(f"data.order=published: task {self.name} has no such batches; use length")

    def min_frames(self, target: Tensor) -> int:
        """Fewest frames of features from which `target` can be learned; 0 where there is no bound."""
        return 0

    def augment(self, features: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
        """Training-time augmentation of the features [B,T,D]; a new tensor, the input is not changed."""
        return features
