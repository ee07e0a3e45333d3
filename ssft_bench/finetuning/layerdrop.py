"""Layer drop that leaves the number of hidden states alone.

A dropped layer hands its input on (Fan, Grave and Joulin 2020, "Reducing transformer depth on demand with
structured dropout"). The models' own layer drop skips the call instead: s3prl's hooks then collect fewer
hidden states than an interface was built for, and transformers 5 crashes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import nn

from ssft_bench import encoder
from ssft_bench.upstream import Upstream

POSITIONS = ("relative_attention_bias", "rel_attn_embed")
"""Modules that compute the relative positions of all layers; WavLM's first layer has one."""


class LayerDrop:
    """Leaves layers out between `drawing` and its end; else does nothing."""

    def __init__(self, upstream: Upstream, probability: float) -> None:
        """Puts itself around every layer's `forward` and switches the model's own layer drop off.

        A layer that computes the relative positions for all others is never dropped, as in
        transformers' WavLM. Raises UsageError for an upstream without transformer layers.
        """
        self.probability = probability
        self._dropped: frozenset[int] = frozenset()
        encoder.no_layerdrop(upstream)
        if not probability:
            return
        self.layers = encoder.layers(upstream)
        self._stays = {
            i
            for i, layer in enumerate(self.layers)
            if any(name.endswith(POSITIONS) for name, _ in layer.named_modules())
        }
        for index, layer in enumerate(self.layers):
            layer.forward = self._droppable(layer, index)

    @contextmanager
    def drawing(self, rng: np.random.Generator | None) -> Iterator[None]:
        """The forward passes inside leave out the same layers, chosen by `rng`."""
        if self.probability and rng is not None:
            drawn = np.flatnonzero(rng.random(len(self.layers)) < self.probability)
            self._dropped = frozenset(drawn.tolist()) - self._stays
        try:
            yield
        finally:
            self._dropped = frozenset()

    def _droppable(self, layer: nn.Module, index: int) -> Callable[..., Any]:
        whole = layer.forward

        def forward(x: Any, *args: Any, **kwargs: Any) -> Any:
            return _handed_on(x, kwargs) if index in self._dropped else whole(x, *args, **kwargs)

        return forward


def _handed_on(x: Any, kwargs: dict[str, Any]) -> Any:
    """A layer's input in the shape of its output; the families are told apart by what they are given."""
    if "pos_bias" in kwargs:  # s3prl's WavLM
        return x, None, kwargs["pos_bias"]
    if "position_bias" in kwargs:  # transformers' WavLM
        return x, kwargs["position_bias"]
    if (
        "self_attn_padding_mask" in kwargs
    ):  # fairseq's; beside it attention, and what data2vec predicts
        return x, (None, x)
    return x
