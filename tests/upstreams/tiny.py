"""Tiny upstreams with random weights, of the same classes as the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssft_bench.method import ViewBatch
from ssft_bench.upstream import Upstream
from ssft_bench.upstreams.pretraining.expert import SmallUpstream
from ssft_bench.upstreams.pretraining.models import build_model
from ssft_bench.upstreams.pretraining.weights import save_weights

CONVS = "[(16,320,80)] + [(16,3,2)] + [(16,2,2)]"
BASE = {
    "hubert": {"label_rate": 50, "extractor_mode": "default", "final_dim": 8},
    "wav2vec2": {"extractor_mode": "default", "final_dim": 8, "latent_vars": 4, "latent_dim": 8},
}


def write_tiny(
    folder: Path,
    kind: str = "hubert",
    *,
    layers: int = 3,
    dim: int = 16,
    dropout: float = 0.0,
    layer_norm_first: bool = False,
    seed: int | None = None,
) -> Path:
    """A weights file of a random model that `hubert_mini_local` reads; post-LN as Base models."""
    model: dict[str, Any] = {
        **BASE[kind],
        "conv_feature_layers": CONVS,
        "encoder_layers": layers,
        "encoder_embed_dim": dim,
        "encoder_ffn_embed_dim": 2 * dim,
        "encoder_attention_heads": 2,
        "layer_norm_first": layer_norm_first,
        "conv_pos": 8,
        "conv_pos_groups": 2,
        "dropout": dropout,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "required_seq_len_multiple": 1,
    }
    task = {"label_rate": 50, "sample_rate": 16000, "normalize": True} if kind == "hubert" else {}
    if seed is None:
        seed = int(np.random.default_rng().integers(2**31))
    built = build_model(kind, model, task, 10, seed)
    path = folder / f"tiny_{kind}.safetensors"
    save_weights(path, built, {"kind": kind, "model": model, "task": task, "clusters": 10})
    return path


def tiny(folder: Path, kind: str = "hubert", **options: Any) -> Upstream:
    """The upstream of `write_tiny`."""
    return Upstream("tiny", SmallUpstream(write_tiny(folder, kind, **options)))


def waves(count: int, rng: np.random.Generator, seconds: float = 0.4) -> list[Tensor]:
    """Noise of different lengths around `seconds`."""
    lengths = rng.integers(int(12800 * seconds), int(19200 * seconds), count)
    return [torch.from_numpy(rng.standard_normal(n).astype(np.float32) * 0.1) for n in lengths]


def view_batch(count: int, rng: np.random.Generator, *, equal: bool = False) -> ViewBatch:
    """Two views of `count` utterances, of equal lengths where the method needs it."""
    first = waves(count, rng)
    second = [torch.randn_like(w) * 0.1 for w in first] if equal else waves(count, rng)
    return ViewBatch([f"u{i}" for i in range(count)], [first, second])


def moved(upstream: Upstream) -> set[str]:
    """Parameters of the expert that have a gradient which is not zero."""
    return {
        n
        for n, p in upstream.expert.named_parameters()
        if p.grad is not None and bool(p.grad.abs().sum() > 0)
    }
