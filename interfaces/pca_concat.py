"""Each hidden state's principal components, side by side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface import Interface


class PCAConcat(Interface):
    """Principal components of each layer, concatenated (arXiv:2406.12209).

    Of "Interface Design for Self-Supervised Speech Models". The PCA is learned on the task's own
    training speech before the head is. The paper keeps 60 components of each of HuBERT Base's 13 layers;
    ours elsewhere: ceil(D / L), which gives 60 there. Centred, not whitened (ours). Covariances are
    summed in fp64; of a component and its opposite the one whose largest entry is positive is taken.
    """

    name = "pca_concat"
    framewise = True
    needs_fit = True
    usage_kind = "share of the layer's variance that its components keep, divided by the sum"

    def __init__(
        self, spec: UpstreamSpec, components: int | None = None, normalize: bool = False
    ) -> None:
        """`components` per layer; null: ceil(D / L)."""
        super().__init__(spec, normalize)
        self.align_layers(widths=False)
        layers = spec.num_layers
        self.components = -(-spec.dims[-1] // layers) if components is None else components
        if not 1 <= self.components <= min(spec.dims):
            raise ValueError(
                f"components={self.components}: the layers of {spec.name} have at least "
                f"{min(spec.dims)} dimensions"
            )
        self.output_dim = layers * self.components
        for layer, dim in enumerate(spec.dims):
            self.register_buffer(f"axes_{layer}", torch.eye(dim, self.components))
            self.register_buffer(f"mean_{layer}", torch.zeros(dim))
        # Told by the result; no part of the interface.
        self.register_buffer("kept_variance", torch.zeros(layers), persistent=False)
        self.kept_variance: Tensor

    def fit(self, states: Iterable[list[Tensor]]) -> int:
        """Means and principal axes of the frames of `states`, seen once, in pieces of any length.

        Raises ValueError when there are fewer than two frames.
        """
        layers = [_Moments(dim, self.kept_variance.device) for dim in self.spec.dims]
        for item in states:
            for moments, state in zip(layers, item, strict=True):
                state = (
                    nn.functional.layer_norm(state, state.shape[-1:]) if self.normalize else state
                )
                moments.add(state)
        if layers[-1].frames < 2:
            raise ValueError(f"pca_concat: {layers[-1].frames} frames are too few to fit")
        for layer, moments in enumerate(layers):
            mean, axes, kept = moments.principal(self.components)
            self.get_buffer(f"axes_{layer}").copy_(axes)
            self.get_buffer(f"mean_{layer}").copy_(mean)
            self.kept_variance[layer] = kept
        return layers[-1].frames

    def combine(self, states: list[Tensor]) -> Tensor:
        """Components [n, L * k] of the layers of n frames."""
        parts = []
        for layer, state in enumerate(states):
            axes, mean = self.get_buffer(f"axes_{layer}"), self.get_buffer(f"mean_{layer}")
            parts.append(torch.addmm(-mean @ axes, state, axes))
        return torch.cat(parts, -1)

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int:
        """None are learned by gradients; L D k + L D numbers are stored."""
        return 0

    def layer_usage(self) -> list[float] | None:
        """Variance kept in each layer, divided by the sum; None before `fit`."""
        total = float(self.kept_variance.sum())
        return (self.kept_variance / total).tolist() if total > 0 else None


class _Moments:
    """Running sums of the frames of one layer, in fp64."""

    def __init__(self, dim: int, device: torch.device) -> None:
        self.frames = 0
        self.shift: Tensor | None = None
        self.sums = torch.zeros(dim, dtype=torch.float64, device=device)
        self.squares = torch.zeros(dim, dim, dtype=torch.float64, device=device)

    def add(self, state: Tensor) -> None:
        """Frames [n, D]."""
        if not len(state):
            return
        x = state.to(self.squares)
        if self.shift is None:  # sums around a typical frame: around 0, squares would lose digits
            self.shift = x.mean(0)
        x = x - self.shift
        self.sums += x.sum(0)
        self.squares += x.t() @ x
        self.frames += len(x)

    def principal(self, keep: int) -> tuple[Tensor, Tensor, float]:
        """Mean [D], axes [D, keep] by falling variance, and the share of the variance they keep."""
        assert self.shift is not None
        mean = self.sums / self.frames
        values, vectors = torch.linalg.eigh(self.squares / self.frames - mean.outer(mean))
        axes = vectors.flip(1)[:, :keep]
        largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
        return mean + self.shift, axes * largest.sign(), float(values[-keep:].sum() / values.sum())
