"""One hidden state, chosen by its index."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ssft_bench.errors import UsageError
from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface import Interface


class Layer(Interface):
    """Hidden state `index`, unchanged; no parameters. 0 is the first, -1 the last.

    Without an index it is the last, and in a task that trains nothing the one that is best on dev.
    """

    name = "layer"
    usage_kind = "constant weight"

    def __init__(self, spec: UpstreamSpec, index: int | None = None) -> None:
        """Raises UsageError when the upstream has no such hidden state."""
        super().__init__(spec)
        self.picks_layer_on_dev = index is None
        index = -1 if index is None else index
        if not -spec.num_layers <= index < spec.num_layers:
            raise UsageError(
                f"--interface layer:index={index}: {spec.name} has hidden states 0 to "
                f"{spec.num_layers - 1} (or -{spec.num_layers} to -1)"
            )
        self.index = index % spec.num_layers
        self.output_dim = spec.dims[self.index]
        self.output_stride = spec.strides[self.index]

    def combine(self, states: list[Tensor]) -> Tensor:
        """Return the only state."""
        return states[0]

    def layers_used(self) -> tuple[int, ...]:
        """Only the chosen one."""
        return (self.index,)

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int:
        """None are learned."""
        return 0

    def layer_usage(self) -> list[float]:
        """All of the chosen layer."""
        return [float(layer == self.index) for layer in range(self.spec.num_layers)]
