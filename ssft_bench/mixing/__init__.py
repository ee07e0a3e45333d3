"""How hidden states are mixed: kernels over the list of layers that copy nothing and skip padding."""

from ssft_bench.mixing.frames import real_frames, sum_type
from ssft_bench.mixing.framewise import framewise
from ssft_bench.mixing.layer_conv import LayerConv, Source, layer_convs
from ssft_bench.mixing.resample import layer_positions, resample
from ssft_bench.mixing.weighted_sum import weighted_sum

__all__ = [
    "LayerConv",
    "Source",
    "framewise",
    "layer_convs",
    "layer_positions",
    "real_frames",
    "resample",
    "sum_type",
    "weighted_sum",
]
