"""The base class of a self-supervised fine-tuning (SSFT) method.

A method takes a trained upstream and unlabelled speech and makes the upstream better for some purpose.
One folder per method: `upstreams/<name>/method.py` holds the subclass, `recipe.yaml` its numbers for
each base upstream, `hubconf.py` the names of the upstreams it leaves behind (see CONTRIBUTING).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.upstream import Upstream

Wave = NDArray[np.float32]
"""A waveform, float32 [samples], 16 kHz."""


class MethodOptions(BaseModel):
    """Base of a method's own options; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ViewBatch:
    """A micro-batch: `views[v]` holds view v of every utterance, each [samples].

    No dataclass: Fabric would walk through its fields and copy every one at each step.
    """

    weight = 1.0

    def __init__(
        self,
        ids: Sequence[str],
        views: Sequence[Sequence[Tensor]],
        remarks: Sequence[str] = (),
    ) -> None:
        self.ids, self.views, self.remarks = list(ids), [list(one) for one in views], list(remarks)


class FineTuningMethod(nn.Module, ABC):
    """Views, what learns, and the loss of one SSFT method.

    It is a module: whatever it adds to the upstream while tuning (a projection, a codebook) is
    trained with it. Only the upstream's changed tensors and `kept()` go into the checkpoint.
    """

    name: ClassVar[str]
    """The name on the command line."""
    Options: ClassVar[type[MethodOptions]] = MethodOptions
    """Type of `options` in the recipe."""
    faithful: ClassVar[Mapping[str, Any]] = {}
    """Options whose published value we hold for a mistake, with that value; the default is ours."""
    needs_teacher: ClassVar[bool] = False
    """Whether `loss` gets a fixed copy of the base."""
    needs_text: ClassVar[bool] = False
    """Whether `prepare` and `views` read transcripts."""

    may_remark: ClassVar[tuple[str, ...]] = ()
    """What `views` may put into `remarks`; the record tells how often each was said."""
    sums_gradients: bool = False
    """True repeats code that never calls zero_grad: each update follows the sum of all gradients so far."""

    def __init__(self, options: MethodOptions, student: Upstream, seed: int) -> None:
        """`student` is the upstream that will learn, for its widths; `seed` for initial weights."""
        super().__init__()
        self.options = options
        self.remarks: list[str] = []

    @abstractmethod
    def views(
        self, wave: Wave, utterance: Utterance, rng: np.random.Generator, place: int
    ) -> tuple[Wave, ...]:
        """The views of one recording. Runs in data workers: it may not touch the modules.

        `place` is the utterance's position in its pass over the data. What did not go as wished (no
        pitch was found, ...) is appended to `self.remarks`.
        """

    @abstractmethod
    def trainable(self, student: Upstream) -> list[str]:
        """Names (of `student.expert.named_parameters()`) of what learns in the upstream, by layer index."""

    @abstractmethod
    def loss(
        self, student: Upstream, teacher: Upstream | None, batch: ViewBatch
    ) -> tuple[Tensor, dict[str, float]]:
        """Scalar loss in fp32, and numbers to log: the loss' parts, and `spread` or `codes_used`, which
        tell a collapse (see `ssft_bench.tuning.alarms`).
        """

    def prepare(self, utterances: Sequence[Utterance]) -> dict[str, Any]:
        """What must exist before the first view (synthesised twins, ...); what to record of it."""
        return {}

    def kept(self) -> dict[str, Tensor]:
        """The method's own tensors that belong into the checkpoint, by name."""
        return {}

    def describe(self, student: Upstream) -> dict[str, Any]:
        """What goes into the record beside the options."""
        return {}
