"""All hidden states side by side, projected."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface import Interface
from ssft_bench.mixing import LayerConv, layer_convs


class ConcatProj(Interface):
    """All layers concatenated and projected back to D (arXiv:2406.12209).

    z = W [h_1; ...; h_L] + b, of "Interface Design for Self-Supervised Speech Models"; that there is a
    bias is ours. The concatenation is never built.
    """

    name = "concat_proj"
    usage_kind = "norm of the layer's projection, as a share"

    def __init__(self, spec: UpstreamSpec, normalize: bool = False) -> None:
        """`normalize` applies a layer norm without parameters to each state first."""
        super().__init__(spec, normalize)
        self.align_layers()
        layers = spec.num_layers
        self.projection = LayerConv((self.output_dim,) * 2, (layers, 1), layers, 1, relu=False)

    def mix_layers(self, states: list[Tensor], lengths: Tensor) -> Tensor:
        """Sum of states[l] @ weight[l] + b: [B, T, D]."""
        return layer_convs(states, lengths, [self.projection])

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int:
        """L D D + D."""
        dim = spec.dims[-1]
        return spec.num_layers * dim * dim + dim

    def layer_usage(self) -> list[float]:
        """Norm of each layer's part of the projection, as shares."""
        return self.projection.input_shares().tolist()
