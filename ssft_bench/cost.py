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
    """Multiply-adds of one call: torch's FLOP counter, halved, with a formula for LSTMs in `modules`.

    The counter sees nothing of some LSTM kernels and all of others, by device, version and packing;
    so what it counted inside an LSTM is taken out, and 4 H (I + H) for each frame, layer and
    direction (input and recurrent products) put in.
    """
    counter = FlopCounterMode(display=False)
    correction = 0

    def before(module: nn.Module, inputs: Any) -> None:
        nonlocal correction
        correction += counter.get_total_flops() // 2

    def after(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal correction
        assert isinstance(module, nn.LSTM)
        correction += _lstm_macs(module, inputs[0]) - counter.get_total_flops() // 2

    lstms = [m for root in modules for m in root.modules() if isinstance(m, nn.LSTM)]
    hooks = [lstm.register_forward_pre_hook(before) for lstm in lstms]
    hooks += [lstm.register_forward_hook(after) for lstm in lstms]
    try:
        with torch.no_grad(), counter:
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return counter.get_total_flops() // 2 + correction


def macs_on_top(interface: nn.Module, head: nn.Module | None, hidden: Any) -> int:
    """Multiply-adds of an interface on hidden states, and of a head on its features where there is one."""

    def run() -> None:
        features = interface(hidden)
        if head is not None:
            head(*features)

    return macs(run, interface, *([] if head is None else [head]))


def _lstm_macs(lstm: nn.LSTM, data: Any) -> int:
    packed = isinstance(data, nn.utils.rnn.PackedSequence)
    frames = data.data.shape[0] if packed else data.shape[0] * data.shape[1]
    directions = 2 if lstm.bidirectional else 1
    hidden, total, width = lstm.hidden_size, 0, lstm.input_size
    for _ in range(lstm.num_layers):
        total += frames * directions * 4 * hidden * (width + hidden)
        width = hidden * directions
    return total


def tuning(upstream: nn.Module) -> list[dict[str, Any]]:
    """What made each tuned checkpoint in an upstream: name, method, base, steps, hours of speech heard."""
    abouts = [
        vars(m)["checkpoint_about"] for m in upstream.modules() if "checkpoint_about" in vars(m)
    ]
    kept = ("name", "method", "steps", "hours_processed")
    return [{**{k: a[k] for k in kept}, "base": a["base"]["name"]} for a in abouts]


def peak_memory_mib() -> int:
    """Largest resident size of this process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if sys.platform == "darwin" else 2**10)


def second_of_noise() -> Tensor:
    """One second at 16 kHz, always the same."""
    return torch.randn(16_000, generator=torch.Generator().manual_seed(0))
