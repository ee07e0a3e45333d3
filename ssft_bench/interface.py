"""The base class of what sits between an upstream and a downstream."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssft_bench.hidden_states import HiddenStates, UpstreamSpec


class Interface(nn.Module):
    """Turns L hidden states of [B, T, D] into features [B, T', D'].

    A subclass sets `output_dim` in `__init__` when it is not the last layer's width, and writes
    `combine`. The base class checks shapes with a message, runs `combine` in at least fp32, and
    zeroes padded frames, so that a batch gives what single utterances give.
    """

    name: ClassVar[str] = ""
    """The name on the command line; a file in `interfaces/` may leave it to the file's name."""

    def __init__(self, spec: UpstreamSpec) -> None:
        """Options of a subclass are further keyword arguments, set by `--interface name:option=value`."""
        super().__init__()
        self.spec = spec
        self.output_dim: int = spec.dims[-1]
        self.output_stride: int = spec.strides[-1]

    def combine(self, states: list[Tensor]) -> Tensor:
        """Features [B, T', D'] from the used layers' states, each [B, T, D_l] in fp32 or fp64."""
        raise NotImplementedError(f"{type(self).__name__} must define combine()")

    def forward(self, hidden: HiddenStates) -> tuple[Tensor, Tensor]:
        """Return (features [B, T', D'], lengths [B]); padded frames are zero.

        Raises ValueError when the hidden states are not those the interface was built for.
        """
        used = self._check(hidden)
        low = used[0].dtype in (torch.bfloat16, torch.float16)
        # Autocast would take the accumulation down to bf16 again.
        device = used[0].device.type
        autocast = torch.amp.is_autocast_available(device)
        with torch.autocast(device, enabled=False) if autocast else nullcontext():
            features = self.combine([state.float() for state in used] if low else used)
        samples = hidden.lengths * self.spec.strides[-1]
        lengths = (samples + self.output_stride - 1) // self.output_stride
        frames = torch.arange(features.shape[1], device=features.device)
        padded = frames >= lengths.to(features.device).unsqueeze(1)
        features = features.masked_fill(padded.unsqueeze(-1), 0.0)
        return features.to(used[0].dtype) if low else features, lengths

    def layers_used(self) -> tuple[int, ...]:
        """Indices of the hidden states that matter; the feature cache keeps only these."""
        return tuple(range(self.spec.num_layers))

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int | None:
        """Number of parameters by formula, to be checked against the built module; None if not known."""
        return None

    def layer_usage(self) -> list[float] | None:
        """Share of each hidden state in the output [L], summing to 1; None when it has no meaning."""
        return None

    def _check(self, hidden: HiddenStates) -> list[Tensor]:
        """States of the used layers, after a look at their number and widths."""
        who = f"interface {self.name or type(self).__name__}"
        beyond = [layer for layer in hidden.layers if layer >= self.spec.num_layers]
        absent = [layer for layer in self.layers_used() if layer not in hidden.layers]
        if beyond or absent:
            raise ValueError(
                f"{who}: built for the {self.spec.num_layers} hidden states of {self.spec.name}, got "
                f"layers {list(hidden.layers)}; build it again for this upstream"
            )
        used = hidden.select(self.layers_used())
        for layer, state in zip(used.layers, used.states, strict=True):
            if state.shape[-1] != self.spec.dims[layer]:
                raise ValueError(
                    f"{who}: layer {layer} has width {state.shape[-1]}, the upstream "
                    f"{self.spec.name} declares {self.spec.dims[layer]}"
                )
        return used.states

    def require_equal_layers(self) -> None:
        """Raise ValueError unless all layers have one width and one stride."""
        if len(set(self.spec.dims)) > 1 or len(set(self.spec.strides)) > 1:
            raise ValueError(
                f"interface {self.name}: needs layers of one width and stride; {self.spec.name} has "
                f"widths {sorted(set(self.spec.dims))} and strides {sorted(set(self.spec.strides))}. "
                "Use --interface last or --interface layer:index=N"
            )
