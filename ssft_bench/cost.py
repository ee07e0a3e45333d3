"""What a cell costs: parameters, multiply-adds per second of audio, peak memory."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def parameters(module: nn.Module) -> dict[str, int]:
    """Total and trainable parameters; shared ones count once."""
    total = {id(p): p.numel() for p in module.parameters()}
    trainable = {id(p): p.numel() for p in module.parameters() if p.requires_grad}
    return {"total": sum(total.values()), "trainable": sum(trainable.values())}


def macs(run: Callable[[], Any], *modules: nn.Module) -> int:
    """Multiply-adds of one call: torch's FLOP counter, halved, plus the LSTM formula it lacks.

    An LSTM layer and direction costs 4 H (I + H) for each frame (input and recurrent products).
    """
    extra = 0

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal extra
        assert isinstance(module, nn.LSTM)
        extra += _lstm_macs(module, inputs[0])

    lstms = [m for root in modules for m in root.modules() if isinstance(m, nn.LSTM)]
    hooks = [lstm.register_forward_hook(count) for lstm in lstms]
    # The recurrent kernel may or may not dispatch to counted products, by device and version: count
    # the rest without it, and the LSTM by its formula.
    counter = FlopCounterMode(display=False, custom_mapping=_NOTHING)
    try:
        with torch.no_grad(), counter:
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return counter.get_total_flops() // 2 + extra


def _lstm_macs(lstm: nn.LSTM, data: Any) -> int:
    packed = isinstance(data, nn.utils.rnn.PackedSequence)
    frames = data.data.shape[0] if packed else data.shape[0] * data.shape[1]
    directions = 2 if lstm.bidirectional else 1
    hidden, total, width = lstm.hidden_size, 0, lstm.input_size
    for _ in range(lstm.num_layers):
        total += frames * directions * 4 * hidden * (width + hidden)
        width = hidden * directions
    return total


def _no_flops(*args: Any, **kwargs: Any) -> int:
    return 0


_NOTHING: dict[Any, Any] = {
    getattr(torch.ops.aten, name): _no_flops
    for name in ("lstm", "mkldnn_rnn_layer", "_cudnn_rnn", "_thnn_fused_lstm_cell")
    if hasattr(torch.ops.aten, name)
}


def peak_memory_mib() -> int:
    """Largest resident size of this process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)


def second_of_noise() -> Tensor:
    """One second at 16 kHz, always the same."""
    return torch.randn(16_000, generator=torch.Generator().manual_seed(0))
