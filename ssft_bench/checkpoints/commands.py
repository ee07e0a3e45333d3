"""`ssft-bench import` and `ssft-bench export`; torch is imported only inside."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from torch import nn


class ForeignKind(StrEnum):
    """Layouts that `import` knows."""

    runner = "runner"
    spin = "spin"
    converted = "converted"
    hf = "hf"


class ExportFormat(StrEnum):
    """Layouts that `export` writes."""

    s3prl = "s3prl"
    hf = "hf"


def import_checkpoint_command(
    file: Annotated[
        Path, typer.Argument(help="Checkpoint of SCORE, LASER, SPIN or s3prl, or a HF folder.")
    ],
    base: Annotated[
        str, typer.Option(help="Upstream it was tuned from: name or name:option=value.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The .safetensors to write.")],
    method: Annotated[str, typer.Option(help="Method that made it, e.g. score.")] = "imported",
    name: Annotated[
        str | None, typer.Option(help="Name of the checkpoint; default: METHOD_BASE.")
    ] = None,
    kind: Annotated[
        ForeignKind | None, typer.Option(help="Layout of the file; default: by its content.")
    ] = None,
    trust: Annotated[
        bool,
        typer.Option("--trust-checkpoint", help="Let a pickle run the code that is in it."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Turn a foreign checkpoint into one of ours: the tensors that differ from the base.

    Example: ssft-bench import states-3600.ckpt --base hubert_base --method score -o score.safetensors
    """
    from ssft_bench.checkpoints.delta import SUFFIX
    from ssft_bench.errors import UsageError

    if out.suffix != SUFFIX:
        raise UsageError(f"-o {out}: a checkpoint's name ends in {SUFFIX}")
    done = convert(file, base, out, name=name, method=method, kind=kind, trust=trust)
    if as_json:
        print(json.dumps(done, indent=2, ensure_ascii=False))
        return
    extra = f", and {len(done['extra'])} of its own" if done["extra"] else ""
    print(f"{out} (sha256 {done['sha256'][:12]})")
    print(
        f"{done['about']['imported']['kind']}: {done['tensors']} of {done['of']} tensors differ from "
        f"{base}{extra}"
    )


def convert(
    file: Path,
    base: str,
    out: Path,
    *,
    name: str | None,
    method: str,
    kind: str | None,
    trust: bool,
) -> dict[str, Any]:
    """What `import` does; returns the facts it prints.

    Raises MissingError for a file that does not fit, UsageError for one that equals its base.
    """
    from ssft_bench import __version__
    from ssft_bench.checkpoints.delta import changed_tensors, save_checkpoint
    from ssft_bench.checkpoints.importers import import_checkpoint
    from ssft_bench.errors import MissingError, UsageError
    from ssft_bench.names import split_options
    from ssft_bench.upstream import weights_sha256

    if not file.exists():  # before a large base is loaded
        raise MissingError(f"there is no checkpoint {file}")
    base_name, options = split_options(base, "--base")
    expert = _expert(base_name, options, "--base")
    imported = import_checkpoint(file, expert, kind=kind, trust=trust)
    state = expert.state_dict()
    changed = changed_tensors(state, imported.state)
    if not changed:
        raise UsageError(
            f"{file} equals its base {base} tensor by tensor: there is nothing to keep"
        )
    import torch

    about = {
        "name": name or f"{method}_{base_name}",
        "method": method,
        "base": {"name": base_name, "options": options, "sha256": weights_sha256(expert)},
        "recipe": imported.recipe,
        "steps": imported.steps,
        "hours_processed": None,  # no foreign layout says
        "versions": {"ssft-bench": __version__, "torch": torch.__version__},
        "imported": {"file": file.name, "kind": imported.kind, "sha256": _digest(file)},
    }
    digest = save_checkpoint(out, changed, about, imported.extra)
    return {
        "path": str(out),
        "sha256": digest,
        "tensors": len(changed),
        "of": len(state),
        "extra": sorted(imported.extra),
        "about": about,
    }


def export_command(
    upstream: Annotated[str, typer.Argument(help="Upstream: name or name:option=value.")],
    to: Annotated[ExportFormat, typer.Option("--format", help="s3prl: a .pt; hf: a folder.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The file or folder to write.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write an upstream as other tools load it: s3prl's converted .pt, or a Hugging Face folder.

    Example: ssft-bench export score_hubert --format hf -o score_hubert_hf
    """
    from ssft_bench.checkpoints.exporters import export_hf, export_s3prl
    from ssft_bench.names import split_options

    expert = _expert(*split_options(upstream, "UPSTREAM"), "UPSTREAM")
    if to is ExportFormat.s3prl:
        loader = f"s3prl.hub.{export_s3prl(expert, out)}({str(out)!r})"
    else:
        loader = f"transformers.{export_hf(expert, out)}.from_pretrained({str(out)!r})"
    if as_json:
        print(json.dumps({"path": str(out), "format": to.value, "load": loader}, indent=2))
        return
    print(f"{out}\nload it with {loader}")


def _expert(name: str, options: dict[str, Any], flag: str) -> nn.Module:
    from ssft_bench.errors import UsageError
    from ssft_bench.upstream import JointUpstream, load_upstream

    upstream = load_upstream(name, options)
    if isinstance(upstream, JointUpstream):
        raise UsageError(f"{flag} {name}: give one upstream, not several")
    return upstream.expert


def _digest(file: Path) -> str | None:
    """SHA-256 of what was imported; of a folder, of its weights and configuration together."""
    from ssft_bench.files import sha256_file, sha256_json

    if file.is_file():
        return sha256_file(file)
    parts = {p.name: sha256_file(p) for p in sorted(file.iterdir()) if p.is_file()}
    return sha256_json(parts)
