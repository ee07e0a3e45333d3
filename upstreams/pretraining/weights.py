"""Weights of a small upstream: fp16 safetensors with all that is needed to build the model again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ssft_bench.errors import MissingError
from ssft_bench.files import atomic_path, hash_path, sha256_file, write_hash
from ssft_bench.upstreams.pretraining.models import build_model

FORMAT = "ssft-bench upstream 1"


@dataclass(frozen=True)
class Loaded:
    """A model in evaluation mode, and what its file says about it (plain JSON values)."""

    model: nn.Module
    about: dict[str, Any]


def save_weights(path: Path, model: nn.Module, about: Mapping[str, Any]) -> str:
    """Write fp16 weights and `<path>.sha256`; return the hash. `about` needs kind, model, task, clusters."""
    state = {
        k: v.detach().to(torch.float16).contiguous().clone() for k, v in model.state_dict().items()
    }
    with atomic_path(path) as temporary:
        save_file(
            state, temporary, {"format": FORMAT, "about": json.dumps(dict(about), sort_keys=True)}
        )
    return write_hash(path)


def load_weights(path: Path, *, random: bool = False, seed: int = 0) -> Loaded:
    """Build the model of a weights file; `random` keeps the architecture but not the weights.

    Raises MissingError when the file is absent, damaged, or not what its .sha256 says.
    """
    _verify(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state: dict[str, Tensor] = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise MissingError(f"{path} is not a safetensors file: {error}") from error
    if metadata.get("format") != FORMAT:
        raise MissingError(
            f"{path} says format {metadata.get('format')!r}; this release reads {FORMAT!r}."
        )
    about: dict[str, Any] = json.loads(metadata["about"])
    model = build_model(about["kind"], about["model"], about["task"], about["clusters"], seed)
    if not random:
        model.load_state_dict(state)
    return Loaded(model.eval(), about)


def _verify(path: Path) -> None:
    """Compare the file with its .sha256; a file without one is taken as it is (someone's own training)."""
    if not path.is_file():
        raise MissingError(
            f"weights {path} are missing; reinstall the package or pretrain (README.md)."
        )
    expected = hash_path(path)
    if not expected.exists():
        return
    want, got = expected.read_text(encoding="utf-8").split()[0], sha256_file(path)
    if want != got:
        raise MissingError(
            f"weights {path} have SHA-256 {got}, but {expected.name} says {want}: damaged."
        )
