"""One `.safetensors` with the tensors that fine-tuning changed, and which base they belong to.

Beside it lies `<stem>.sha256` with the digest of the file. Pickles are never read here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ssft_bench.errors import MissingError, UsageError
from ssft_bench.files import atomic_path, hash_path, sha256_file, write_hash
from ssft_bench.upstream import weights_sha256

FORMAT = "ssft-bench checkpoint 1"
SUFFIX = ".safetensors"
EXTRA = "extra/"
"""Prefix of the method's own tensors in the file; no state_dict name has a slash."""

ABOUT = ("name", "method", "base", "recipe", "steps", "hours_processed", "versions")
BASE = ("name", "options", "sha256")
_PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds."""

    tensors: dict[str, Tensor]
    """Changed tensors, named as in the base expert's state_dict."""
    extra: dict[str, Tensor] = field(default_factory=dict)
    """The method's own modules, e.g. SPIN's codebook; the upstream does not need them."""
    about: dict[str, Any] = field(default_factory=dict)
    """name, method, base (name, options, sha256), recipe, steps, hours_processed, versions, ..."""


def changed_tensors(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `tuned` that differ from `base` in at least one bit, in the base's types.

    Raises UsageError naming the keys when the two do not have the same names and shapes.
    """
    problems = mismatches(base, tuned)
    if problems:
        raise UsageError(f"the tuned model is not the base model: {problems}")
    found = {}
    for name, old in base.items():
        new = tuned[name].detach().to("cpu", old.dtype).contiguous()
        if not _same_bits(old.detach().cpu().contiguous(), new):
            found[name] = new
    return found


def mismatches(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """In words, the first names of `given` that are missing, unknown or misshapen; "" if none."""
    parts = []
    groups = {
        "missing": [n for n in wanted if n not in given],
        "unknown": [n for n in given if n not in wanted],
        "other shape": [
            f"{n} {list(given[n].shape)} for {list(t.shape)}"
            for n, t in wanted.items()
            if n in given and given[n].shape != t.shape
        ],
    }
    for what, names in groups.items():
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts.append(f"{what}: {', '.join(names[:3])}{more}")
    return "; ".join(parts)


def save_checkpoint(
    path: Path,
    tensors: Mapping[str, Tensor],
    about: Mapping[str, Any],
    extra: Mapping[str, Tensor] | None = None,
    dtype: torch.dtype | None = None,
) -> str:
    """Write the checkpoint and its `.sha256`, both atomically; return the digest.

    Floating tensors are stored as `dtype` when one is given. Raises UsageError when `path` does not
    end in .safetensors, `about` lacks a key of ABOUT, or a finite value does not fit into `dtype`.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise UsageError(f"{path}: a checkpoint's name ends in {SUFFIX}")
    text = _about_text(path, about)
    named = dict(tensors) | {f"{EXTRA}{name}": t for name, t in (extra or {}).items()}
    stored = {name: _stored(name, tensor, dtype) for name, tensor in named.items()}
    # Without its digest a file is still readable; with the digest of an older one it is not.
    hash_path(path).unlink(missing_ok=True)
    with atomic_path(path) as temporary:
        save_file(stored, temporary, {"format": FORMAT, "about": text})
    return write_hash(path)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; tensors keep the type they are stored in.

    Raises MissingError when the file is absent, damaged, or not a checkpoint of this format.
    """
    path = Path(path)
    _verify(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise MissingError(
            f"{path} is not a safetensors file ({error}). {_way_out(path)}"
        ) from error
    if metadata.get("format") != FORMAT:
        raise MissingError(
            f"{path} says format {metadata.get('format')!r}; this release reads {FORMAT!r}. "
            "Foreign checkpoints: ssft-bench import FILE --base UPSTREAM -o OUT.safetensors"
        )
    about = _about(path, metadata.get("about", ""))
    extra = {n.removeprefix(EXTRA): t for n, t in stored.items() if n.startswith(EXTRA)}
    return Checkpoint({n: t for n, t in stored.items() if not n.startswith(EXTRA)}, extra, about)


def apply_checkpoint(expert: nn.Module, checkpoint: Checkpoint, path: Path | str) -> None:
    """Copy the changed tensors into the base expert, in the expert's types; nothing else changes.

    Raises MissingError when `expert` is not, byte for byte, the base that the checkpoint was made
    from, or a tensor is unknown to it or has another shape. `path` is for the message.
    """
    base = checkpoint.about["base"]
    given = weights_sha256(expert)
    if given != base["sha256"]:
        raise MissingError(
            f"checkpoint {path} belongs to base {written_base(base)} with weights "
            f"{base['sha256'][:12]}; the {type(expert).__name__} given has {given[:12]}. "
            "Give that base, or tune this one"
        )
    state = expert.state_dict()
    problems = mismatches(
        {n: state[n] for n in checkpoint.tensors if n in state}, checkpoint.tensors
    )
    if problems:
        raise MissingError(f"checkpoint {path} does not fit its base: {problems}")
    with torch.no_grad():
        for name, tensor in checkpoint.tensors.items():
            state[name].copy_(tensor)


def written_base(base: Mapping[str, Any]) -> str:
    """The base as a user writes it: name:option=value,..."""
    options = ",".join(f"{k}={v}" for k, v in base.get("options", {}).items())
    return f"{base['name']}:{options}" if options else str(base["name"])


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


def _stored(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    plain = tensor.detach().cpu()
    if dtype is None or not plain.is_floating_point():
        return plain.contiguous().clone()
    cast = plain.to(dtype)
    if not torch.equal(cast.isfinite(), plain.isfinite()):
        raise UsageError(f"tensor {name} has values that {dtype} cannot hold; store it as float32")
    return cast.contiguous().clone()


def _about_text(path: Path, about: Mapping[str, Any]) -> str:
    missing = [k for k in ABOUT if k not in about]
    missing += [f"base.{k}" for k in BASE if k not in about.get("base", {})]
    if missing:
        raise UsageError(f"{path}: about lacks {', '.join(missing)}")
    try:
        return json.dumps(dict(about), sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: about is not plain JSON ({error})") from error


def _about(path: Path, text: str) -> dict[str, Any]:
    """The metadata of a file of ours; a file of our format without it was made by something else."""
    try:
        about: Any = json.loads(text)
        lacking = [k for k in ABOUT if k not in about] + [k for k in BASE if k not in about["base"]]
    except (ValueError, TypeError, KeyError) as error:
        raise MissingError(f"{path}: its metadata 'about' cannot be read ({error})") from error
    if lacking:
        raise MissingError(f"{path}: its metadata 'about' lacks {', '.join(lacking)}")
    found: dict[str, Any] = about
    return found


def _verify(path: Path) -> None:
    """Compare the file with its .sha256; a file without one is taken as it is."""
    if not path.is_file():
        raise MissingError(
            f"there is no checkpoint {path}. Make one: ssft-bench tune --method M --base U --corpus C "
            "-o DIR"
        )
    if looks_pickled(path):
        raise MissingError(f"{path} is not a safetensors file. {_way_out(path)}")
    expected = hash_path(path)
    if not expected.is_file():
        return
    want, got = (expected.read_text(encoding="utf-8").split() or [""])[0], sha256_file(path)
    if want != got:
        raise MissingError(
            f"checkpoint {path} has SHA-256 {got}, but {expected.name} says {want or 'nothing'}: "
            "damaged. Get or make it again"
        )


def looks_pickled(path: Path) -> bool:
    """Whether a file starts as torch.save's zip archives or plain pickles do."""
    with path.open("rb") as file:
        start = file.read(9)
    if start[4:] == b"\0\0\0\0{":  # safetensors: the header's length in eight bytes, then JSON
        return False
    return start[:4] == b"PK\x03\x04" or start[:2] in (b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5")


def _way_out(path: Path) -> str:
    if looks_pickled(path) or path.suffix.lower() in _PICKLES:
        return (
            "It looks like a pickled checkpoint: "
            f"ssft-bench import {path} --base UPSTREAM -o OUT{SUFFIX}"
        )
    return f"A checkpoint is a {SUFFIX} made by ssft-bench tune or ssft-bench import"
