"""Codes of frames: SPIN's own codebook where an upstream carries one, else k-means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ssft_bench.analysis.alignments import Labels
from ssft_bench.analysis.sources import Frames, Speech, hidden
from ssft_bench.errors import UsageError
from ssft_bench.seeds import seed_for
from ssft_bench.upstream import Upstream

MAX_FRAMES = 100_000
"""Frames that k-means is fitted to."""


class Codes(Protocol):
    """A way from frames of one layer to code numbers."""

    @property
    def layer(self) -> int:
        """Index of the hidden state."""

    @property
    def kind(self) -> str:
        """How the codes are made, for the table."""

    @property
    def count(self) -> int:
        """Number of codes."""

    def codes(self, frames: Frames) -> Labels:
        """Code of each frame: float32 [T, D] -> int64 [T]."""
        ...


@dataclass
class Codebook:
    """argmax of C l2norm(W h + b): the code SPIN assigns to a frame (Chang et al. 2023, section 2)."""

    layer: int
    """Index of the hidden state it reads."""
    weight: NDArray[Any]
    """[P, D]"""
    bias: NDArray[Any]
    """[P]"""
    codebook: NDArray[Any]
    """[K, P]"""
    kind: str = "of its codebook"

    @property
    def count(self) -> int:
        """K."""
        return len(self.codebook)

    def codes(self, frames: Frames) -> Labels:
        """float32 [T, D] -> int64 [T]."""
        projected = frames @ self.weight.T + self.bias
        norms = np.linalg.norm(projected, axis=1, keepdims=True)
        unit = projected / np.maximum(norms, 1e-12)
        return np.asarray((unit @ self.codebook.T).argmax(axis=1), np.int64)


@dataclass
class KMeans:
    """The nearest of k-means' centres."""

    layer: int
    model: Any
    """Fitted sklearn MiniBatchKMeans."""
    kind: str = "by k-means"

    @property
    def count(self) -> int:
        """Centres."""
        return len(self.model.cluster_centers_)

    def codes(self, frames: Frames) -> Labels:
        """float32 [T, D] -> int64 [T]."""
        return np.asarray(self.model.predict(np.ascontiguousarray(frames)), np.int64)


def codebook_of(upstream: Upstream) -> Codebook | None:
    """The codebook an upstream carries, or None.

    Its expert gives it as `codebook_of_layer`: (index of the hidden state, head weight [P, D], head
    bias [P], codebook [K, P]), or a callable that returns this.
    Raises UsageError when the shapes do not fit each other or the layer.
    """
    given = getattr(getattr(upstream, "expert", None), "codebook_of_layer", None)
    given = given() if callable(given) else given
    if given is None:
        return None
    layer, *tensors = given
    weight, bias, codebook = (np.asarray(t.detach().cpu().float().numpy()) for t in tensors)
    found = Codebook(int(layer) % upstream.spec.num_layers, weight, bias, codebook)
    width = upstream.spec.dims[found.layer]
    if weight.shape[1:] != (width,) or bias.shape != weight.shape[:1]:
        raise UsageError(
            f"upstream {upstream.spec.name}: the head before its codebook has shape {weight.shape} "
            f"and bias {bias.shape}, but layer {found.layer} is {width} wide"
        )
    if codebook.shape[1:] != weight.shape[:1]:
        raise UsageError(
            f"upstream {upstream.spec.name}: codebook {codebook.shape} after a head to {len(weight)}"
        )
    return found


def fit_kmeans(
    upstream: Upstream, speech: Speech, layers: Sequence[int], clusters: int, seed: int
) -> list[Codes]:
    """k-means on the frames of each layer, at most MAX_FRAMES, evenly from all utterances.

    Raises UsageError when there are fewer frames than clusters.
    """
    from sklearn.cluster import MiniBatchKMeans

    kept: list[list[Frames]] = [[] for _ in layers]
    each = max(1, MAX_FRAMES // len(speech.utterances))
    rng = np.random.default_rng(seed_for(seed, "frames"))
    for states in hidden(upstream, speech.utterances, layers):
        for place, state in enumerate(states):
            chosen = np.sort(rng.permutation(len(state))[:each])
            kept[place].append(state.numpy()[chosen])
    coders: list[Codes] = []
    for layer, parts in zip(layers, kept, strict=True):
        frames = np.concatenate(parts)
        if len(frames) < clusters:
            raise UsageError(
                f"--clusters {clusters}: there are only {len(frames)} frames to cluster"
            )
        model = MiniBatchKMeans(
            clusters, random_state=seed % 2**32, batch_size=4096, n_init=3, max_iter=100
        )
        coders.append(KMeans(layer, model.fit(frames)))
    return coders
