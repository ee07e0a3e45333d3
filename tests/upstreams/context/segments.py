"""A small wrapped upstream, how it is driven, and a few segments of two sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssft_bench.audio import read_audio
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.upstream import Upstream, load_upstream
from ssft_bench.upstreams.context.expert import UpstreamExpert
from tests.speech import noise, write

DIM, WIDTH = 16, 6


def context(tiny_file: Path, **options: Any) -> Upstream:
    given = {"base": f"hubert_mini_local:ckpt={tiny_file}", "context_dim": WIDTH, **options}
    return load_upstream("context_hubert", given)


def segments(folder: Path) -> list[Utterance]:
    """Two sessions of the split train: segments 0 1 2 4 of `s`, and 0 1 of `t`; one row without."""
    rng = np.random.default_rng(5)
    places = [("s", 0), ("s", 1), ("s", 2), ("s", 4), ("t", 0), ("t", 1), (None, None)]
    found = []
    for session, segment in places:
        name = f"{session}{segment}"
        path = write(folder / "audio" / f"{name}.wav", noise(rng, rng.uniform(0.3, 0.5)), 16000)
        found.append(Utterance(name, path, "train", session=session, segment=segment))
    return found


def waves_of(rows: list[Utterance]) -> list[Tensor]:
    return [torch.from_numpy(read_audio(row.audio)) for row in rows]


def begin(upstream: Upstream, rows: list[Utterance], folder: Path, seed: int = 1) -> UpstreamExpert:
    expert: UpstreamExpert = upstream.expert
    expert.begin({"train": rows}, seed, folder)
    return expert


def step(
    upstream: Upstream, rows: list[Utterance], *, together: bool = True
) -> tuple[Tensor, dict[str, float], dict[str, Tensor]]:
    """One training batch as the harness drives it: auxiliary loss, logs, gradients of both losses."""
    expert: UpstreamExpert = upstream.expert
    upstream.train()
    upstream.zero_grad()
    torch.manual_seed(0)
    expert.expect(rows)
    waves = waves_of(rows)
    parts = [waves] if together else [[wave] for wave in waves]
    last = [upstream(part).states[-1] for part in parts]
    extra, logs = expert.auxiliary_loss(rows)
    (extra + torch.stack([state.square().mean() for state in last]).sum()).backward()
    return extra, logs, {n: p.grad for n, p in expert.named_parameters() if p.grad is not None}
