"""Connectionist temporal classification: loss, greedy decoding, and what it needs of a target.

Graves et al., "Connectionist Temporal Classification" (ICML 2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ssft_bench.task import Task


def ctc_loss(logits: Tensor, lengths: Tensor, targets: Sequence[Tensor], blank: int) -> Tensor:
    """Loss of a batch, scalar fp32: each utterance's divided by its target length, then the mean.

    That is torch's `reduction="mean"` as s3prl's experts `asr` and `ctc` leave it. An utterance
    with fewer frames than `min_frames` counts 0 (`zero_infinity`) instead of infinity.

    `logits` [B,T,V], `lengths` [B] in frames, `targets` B tensors int64 [S].
    """
    # fp32 whatever the precision of the head: CTC adds up hundreds of log probabilities.
    log_probs = functional.log_softmax(logits.float(), dim=-1).transpose(0, 1)
    return functional.ctc_loss(
        log_probs,
        torch.cat([t.to(logits.device) for t in targets]),
        lengths.to(device=logits.device, dtype=torch.int64),
        torch.tensor([len(t) for t in targets], device=logits.device),
        blank=blank,
        reduction="mean",
        zero_infinity=True,
    )


def greedy(logits: Tensor, lengths: Tensor, blank: int) -> list[list[int]]:
    """Best path of each utterance: argmax per frame, repeats merged, blanks dropped.

    `logits` [B,T,V], `lengths` [B] in frames; frames past the length are not read.
    """
    best = logits.argmax(dim=-1).cpu()
    paths = (row[:n].unique_consecutive() for row, n in zip(best, lengths.tolist(), strict=True))
    return [path[path != blank].tolist() for path in paths]


def min_frames(target: Tensor) -> int:
    """Frames CTC needs for `target` [S]: one per label, and a blank between equal neighbours."""
    return len(target) + int((target[1:] == target[:-1]).sum())


class CTCTask(Task):
    """A task whose head gives symbols by CTC."""

    blank: ClassVar[int] = 0
    """Output that stands for none."""

    def loss(self, logits: Tensor, lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:
        """See `ctc_loss`."""
        return ctc_loss(logits, lengths, targets, self.blank)

    def min_frames(self, target: Tensor) -> int:
        """CTC's bound, see `min_frames`."""
        return min_frames(target)
