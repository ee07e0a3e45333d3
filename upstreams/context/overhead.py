"""What the context module costs beside the encoder it sits on: parameters, and time of a forward pass."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

SECONDS = 4.0
"""Length of the noise that is timed."""
REPEATS = 7
"""Timings of each part, taken in turns; the median counts."""


@torch.no_grad()
def overhead(expert: Any) -> dict[str, Any]:
    """Parameters of encoder and module, and milliseconds for four seconds of noise on this machine."""
    base, device = expert._base[0], next(expert.parameters()).device
    was = expert.training
    expert.eval()
    generator = torch.Generator().manual_seed(0)
    wave = torch.randn(int(16_000 * SECONDS), generator=generator).to(device)
    last = base([wave])["hidden_states"][-1]
    lengths = torch.tensor([last.shape[1]], device=device)
    around = [[None] * len(expert.options.offsets)] if expert.options.mode == "inject" else []

    def module() -> None:
        expert.context_input(last, expert.context(last, lengths), around)

    timed = {"encoder": lambda: base([wave]), "module": module}
    took: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(REPEATS):
        for name, run in timed.items():
            took[name].append(_milliseconds(run, device))
    expert.train(was)
    encoder = sum(p.numel() for p in expert.model.parameters())
    parts = (expert.context, expert.context_input)
    own = sum(p.numel() for part in parts for p in part.parameters())
    median = {name: round(statistics.median(each), 3) for name, each in took.items()}
    return {
        "parameters": {"encoder": encoder, "module": own, "share": own / encoder},
        "milliseconds": {**median, "share": median["module"] / median["encoder"]},
        "seconds_of_audio": SECONDS,
        "device": device.type,
        "threads": torch.get_num_threads(),
    }


def _milliseconds(run: Callable[[], Any], device: torch.device) -> float:
    _finish(device)
    began = time.perf_counter()
    run()
    _finish(device)
    return 1000 * (time.perf_counter() - began)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
