"""The last hidden state alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface import Interface


class Last(Interface):
    """The last hidden state, unchanged; no parameters."""

    name = "last"
    usage_kind = "constant weight"

    def combine(self, states: list[Tensor]) -> Tensor:
        """Return the only state."""
        return states[0]

    def layers_used(self) -> tuple[int, ...]:
        """Only the last."""
        return (self.spec.num_layers - 1,)

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int:
        """None are learned."""
        return 0

    def layer_usage(self) -> list[float]:
        """All of the last layer."""
        return [float(layer == self.spec.num_layers - 1) for layer in range(self.spec.num_layers)]
