"""Attention over the layers of each frame."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface import Interface
from ssft_bench.interfaces._heads import dividing_heads


class CLSPool(Interface):
    """A Transformer layer over the layers of each frame, read at a CLS vector (arXiv:2406.12209).

    CLS pooling of "Interface Design for Self-Supervised Speech Models". In every frame the layers are
    tokens, a learned CLS vector is added, and the CLS output of a Transformer layer is the feature. The
    paper leaves its shape open; ours: one pre-norm layer, 8 heads (or the largest number below that
    divides D), feed-forward 4 D with GELU, learned positions, no dropout. It wants warm-up and clipping:
    it failed in 5 of the paper's 35 cells.

    Equals row 0 of `torch.nn.TransformerEncoderLayer`, whose parameters these are, but only what CLS
    needs is computed. Its query is the same in every frame, so it multiplies the keys' weights once, and
    the values are projected after they were averaged.
    """

    name = "cls_pool"
    framewise = True
    has_gates = True
    usage_kind = "attention of CLS, mean over heads and the frames of dev"

    def __init__(self, spec: UpstreamSpec, heads: int = 8, normalize: bool = False) -> None:
        """`heads` is lowered to a divisor of D."""
        super().__init__(spec, normalize)
        self.align_layers()
        if heads < 1:
            raise ValueError(f"heads={heads}: must be at least 1")
        dim = self.output_dim
        self.heads = dividing_heads(dim, heads)
        self.cls = nn.Parameter(torch.randn(dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(spec.num_layers + 1, dim) * 0.02)
        self.transformer = nn.TransformerEncoderLayer(
            dim, self.heads, 4 * dim, 0.0, "gelu", batch_first=True, norm_first=True
        )

    def combine(self, states: list[Tensor]) -> Tensor:
        """Features [n, D] from the layers of n frames."""
        block, dim = self.transformer, self.output_dim
        tokens, cls = self._tokens(states)
        attention = self._attention(tokens)
        mixed = torch.einsum("nlh,nld->nhd", attention, tokens)
        value, value_bias = (p[2 * dim :] for p in self._in_projection())
        per_head = value.unflatten(0, (self.heads, -1))
        pooled = torch.einsum("nhd,hed->nhe", mixed, per_head).flatten(1) + value_bias
        z = cls + block.self_attn.out_proj(pooled)
        fed = block.linear2(nn.functional.gelu(block.linear1(block.norm2(z))))
        features: Tensor = z + fed
        return features

    def gates(self, states: list[Tensor]) -> Tensor:
        """Attention of CLS to the layers, without itself, averaged over heads: [n, L]."""
        attention = self._attention(self._tokens(states)[0])[:, 1:].mean(-1)
        return attention / attention.sum(1, keepdim=True)

    def _in_projection(self) -> tuple[Tensor, Tensor]:
        attention = self.transformer.self_attn
        return attention.in_proj_weight, attention.in_proj_bias

    def _tokens(self, states: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Normed tokens [n, L + 1, D], CLS first, and CLS itself [D]."""
        cls = self.cls + self.positions[0]
        layers = torch.stack(states, 1) + self.positions[1:]
        everything = torch.cat([cls.expand(len(layers), 1, -1), layers], 1)
        return self.transformer.norm1(everything), cls

    def _attention(self, tokens: Tensor) -> Tensor:
        """Softmax over tokens [n, L + 1, heads]; the keys' bias shifts all of a head alike."""
        dim = self.output_dim
        weight, bias = self._in_projection()
        cls = self.cls + self.positions[0]
        query = nn.functional.linear(self.transformer.norm1(cls), weight[:dim], bias[:dim])
        query = query.unflatten(0, (self.heads, -1)) * (dim // self.heads) ** -0.5
        keys = weight[dim : 2 * dim].unflatten(0, (self.heads, -1))
        return (tokens @ torch.einsum("he,hed->dh", query, keys)).softmax(1)

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int:
        """12 D D + 13 D + D (L + 2)."""
        dim = spec.dims[-1]
        return 12 * dim * dim + 13 * dim + dim * (spec.num_layers + 2)
