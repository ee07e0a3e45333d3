"""Spans of frames and of channels masked at the transformer's input while an upstream learns.

fairseq's `compute_mask_indices` and `apply_mask` (Baevski et al. 2020, "wav2vec 2.0", section 3.1 and
appendix B), with a random generator of one's own. s3prl's experts never mask: they call their model with
`mask=False`. So the masks are put where the models would put theirs, on what their encoder is called with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssft_bench import encoder
from ssft_bench.errors import UsageError
from ssft_bench.finetuning.spec import FineTuneSpec
from ssft_bench.upstream import Upstream

LEAST_SPANS = 2
"""Spans of frames that every recording gets at least (fairseq's min_masks; none for channels)."""


def span_mask(
    shape: tuple[int, int],
    padding: NDArray[np.bool_] | None,
    prob: float,
    length: int,
    rng: np.random.Generator,
    *,
    least: int = 0,
) -> NDArray[np.bool_]:
    """Mask [B, T] of overlapping spans of `length`, the same number of masked places in every row.

    A row of n places that are not padding has `prob * n / length` spans, rounded up or down by chance,
    and `least` at least. Rows that got more than the poorest are thinned out at random, as fairseq does
    so that a batch has one number of masked frames. Draws as fairseq does, in the same order.
    """
    rows, width = shape
    alike = int(prob * width / length + rng.random())
    places = []
    for row in range(rows):
        real, spans = width, max(least, alike)
        if padding is not None:
            real = width - int(padding[row].sum())
            spans = max(least, int(prob * real / length + rng.random()))
        reach = length if real - length > spans else real - spans - 1
        starts = rng.choice(real - reach, spans, replace=False) if spans else np.zeros(0, np.int64)
        covered = np.unique(starts[:, None] + np.arange(length))
        places.append(covered[covered < real])
    fewest = min(map(len, places))
    mask = np.zeros(shape, dtype=bool)
    for row, covered in enumerate(places):
        kept = covered if len(covered) == fewest else rng.choice(covered, fewest, replace=False)
        mask[row, kept] = True
    return mask


class Masking:
    """Masks what an upstream's encoder is called with, between `drawing` and its end; else does nothing."""

    def __init__(self, upstream: Upstream, spec: FineTuneSpec) -> None:
        """Puts a hook on the encoder where the specification masks at all, and switches off the masks
        that transformers' models draw on their own.

        Raises UsageError for a model without an embedding of masked frames, or spans of channels that
        are as wide as the encoder.
        """
        self.spec = spec
        self.embedding: Any = None
        self._rng: np.random.Generator | None = None
        self._masked, self._frames = 0, 0
        config = encoder.part_of(upstream, "model.config")
        if hasattr(config, "apply_spec_augment"):
            config.apply_spec_augment = False
        if not self.active:
            return
        width = encoder.width(upstream)
        if spec.time_mask_prob:
            self.embedding = _embedding(upstream)
        if spec.channel_mask_prob and spec.channel_mask_length >= width:
            raise UsageError(
                f"finetune.channel_mask_length={spec.channel_mask_length}: {upstream.spec.name} has "
                f"{width} channels, a span has to be shorter"
            )
        network: nn.Module = encoder.part_of(upstream, "model.encoder")
        network.register_forward_pre_hook(self._hook, with_kwargs=True)

    @property
    def active(self) -> bool:
        """Whether the specification masks anything."""
        return bool(self.spec.time_mask_prob or self.spec.channel_mask_prob)

    @contextmanager
    def drawing(self, rng: np.random.Generator | None) -> Iterator[None]:
        """Forward passes inside are masked, by draws of `rng`."""
        self._rng, self._masked, self._frames = rng, 0, 0
        try:
            yield
        finally:
            self._rng = None

    def share(self) -> float:
        """Share of the frames that the last passes masked."""
        return self._masked / self._frames if self._frames else 0.0

    def _hook(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._rng is None:
            return None
        return (self._apply(args[0], _padding(kwargs)), *args[1:]), kwargs

    def _apply(self, x: Tensor, padding: NDArray[np.bool_] | None) -> Tensor:
        """[B, T, D] with masked frames replaced by the embedding, then masked channels by 0."""
        assert self._rng is not None
        spec, (rows, frames, width) = self.spec, x.shape
        if spec.time_mask_prob:
            mask = span_mask(
                (rows, frames), padding, spec.time_mask_prob, spec.time_mask_length, self._rng,
                least=LEAST_SPANS,
            )  # fmt: skip
            self._masked += int(mask.sum())
            self._frames += mask.size - (int(padding.sum()) if padding is not None else 0)
            where = torch.from_numpy(mask).to(x.device).unsqueeze(-1)
            x = torch.where(where, self.embedding().to(x.dtype), x)
        if spec.channel_mask_prob:
            probability, length = spec.channel_mask_prob, spec.channel_mask_length
            mask = span_mask((rows, width), None, probability, length, self._rng)
            x = x.masked_fill(torch.from_numpy(mask).to(x.device).unsqueeze(1), 0.0)
        return x


def _padding(kwargs: dict[str, Any]) -> NDArray[np.bool_] | None:
    """What is padding [B, T], from what fairseq's (True: padding) or transformers' (1: real) encoders get."""
    if kwargs.get("padding_mask") is not None:
        return np.asarray(kwargs["padding_mask"].bool().cpu().numpy())
    if kwargs.get("attention_mask") is not None:
        return np.asarray(~kwargs["attention_mask"].bool().cpu().numpy())
    return None


def _embedding(upstream: Upstream) -> Any:
    """A function that gives the embedding of masked frames [D]: always the parameter of today."""
    for path in encoder.MASK_EMBEDDINGS:
        owner, _, name = path.rpartition(".")
        model = encoder.part_of(upstream, owner)
        if isinstance(getattr(model, name, None), Tensor):
            return lambda: getattr(model, name)
    raise UsageError(
        f"finetune.time_mask_prob: {upstream.spec.name} has no embedding of masked frames "
        f"({' or '.join(encoder.MASK_EMBEDDINGS)}); set it to 0"
    )
