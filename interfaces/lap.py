"""Attentive max pooling over the layers of each frame."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface import Interface
from ssft_bench.interfaces._heads import dividing_heads


class LAP(Interface):
    """Gated maximum over the layers of each frame (LAP, Kim et al. 2025; github.com/sadPororo/LAP).

    Layer attentive pooling. Per frame and head: mean and maximum of each layer go through a bottleneck
    over the layers that both share, the sum of the two through a sigmoid gates the layers, and each
    dimension takes its largest gated value; then a projection. The authors normalise by batch
    statistics; ours is a layer norm before and after, so that a frame does not depend on the padding and
    the batch around it.
    """

    name = "lap"
    framewise = True
    draws = True
    has_gates = True
    usage_kind = "share of the dimensions that the layer wins, mean over the frames of dev"

    def __init__(
        self, spec: UpstreamSpec, heads: int = 16, output: int = 512, dropout: float = 0.1,
        normalize: bool = False,
    ) -> None:  # fmt: skip
        """`heads` is lowered to a divisor of D; `output` is the features' width; `dropout` of gates."""
        super().__init__(spec, normalize)
        self.align_layers()
        if heads < 1 or output < 1 or not 0 <= dropout < 1:
            raise ValueError(f"heads={heads}, output={output}, dropout={dropout}: out of range")
        dim, layers = self.output_dim, spec.num_layers
        self.heads = dividing_heads(dim, heads)
        middle = max(1, layers // 2)
        self.norm_in = nn.LayerNorm(dim)
        self.project_in = nn.Linear(dim, dim)
        # Of unit size per output, as a linear layer; the authors draw from a unit normal.
        self.squeeze = nn.Parameter(torch.randn(self.heads, layers, middle) * layers**-0.5)
        self.squeeze_bias = nn.Parameter(torch.zeros(self.heads, middle))
        self.excite = nn.Parameter(torch.randn(self.heads, middle, layers) * middle**-0.5)
        self.excite_bias = nn.Parameter(torch.zeros(self.heads, layers))
        self.dropout = nn.Dropout(dropout)
        self.project_out = nn.Linear(dim, output)
        self.norm_out = nn.LayerNorm(output)
        self.output_dim = output

    def combine(self, states: list[Tensor]) -> Tensor:
        """Features [n, output] from the layers of n frames."""
        pooled = self._gated(states).amax(1)
        features: Tensor = self.norm_out(self.project_out(pooled.flatten(1)))
        return features

    def gates(self, states: list[Tensor]) -> Tensor:
        """Share of the dimensions whose maximum is the layer's: [n, L]."""
        winners = self._gated(states).argmax(1).flatten(1)
        return nn.functional.one_hot(winners, self.spec.num_layers).double().mean(1)

    def _gated(self, states: list[Tensor]) -> Tensor:
        """Projected layers times their gates: [n, L, heads, D / heads]."""
        x = self.project_in(self.norm_in(torch.stack(states, 1)))
        x = x.unflatten(-1, (self.heads, -1))
        scores = self._scores(x.mean(-1)) + self._scores(x.amax(-1))
        gated: Tensor = x * self.dropout(scores.sigmoid()).unsqueeze(-1)
        return gated

    def _scores(self, x: Tensor) -> Tensor:
        """One statistic of the layers [n, L, heads] through the bottleneck: [n, L, heads]."""
        low = torch.einsum("nlh,hlm->nhm", x, self.squeeze) + self.squeeze_bias
        high = torch.einsum("nhm,hml->nhl", low.relu(), self.excite) + self.excite_bias
        return high.transpose(1, 2)

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int:
        """2 D + D D + D + H (2 L m + m + L) + D O + O + 2 O with m = max(1, L // 2)."""
        dim, layers, out = spec.dims[-1], spec.num_layers, int(options.get("output", 512))
        heads = dividing_heads(dim, int(options.get("heads", 16)))
        middle = max(1, layers // 2)
        gates = heads * (2 * layers * middle + middle + layers)
        return 2 * dim + dim * dim + dim + gates + dim * out + out + 2 * out
