"""`ssft-bench card RUN|CHECKPOINT`: a model card in Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def card(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|CHECKPOINT", help="Folder of a run or tuning, or a .safetensors."
        ),
    ],
    runs: Annotated[
        Path, typer.Option("--runs", help="Folder of results, for a checkpoint's scores.")
    ] = Path("runs"),
    licence: Annotated[
        str | None,
        typer.Option(help="Licence of the weights, as Hugging Face writes it: apache-2.0."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="File to write; default: print it.")
    ] = None,
) -> None:
    """Write the card of a finished run or of an SSFT checkpoint: data, hours, recipe, scores, limits.

    Everything comes from the record; the head is YAML as in Hugging Face's model cards.
    """
    from ssft_bench.errors import UsageError
    from ssft_bench.model_card.card import checkpoint_card, run_card

    if not target.exists():
        raise UsageError(f"{target} is not there; name a run's folder or a .safetensors file")
    inside = target / "checkpoint.safetensors"
    if target.is_file() or inside.is_file():
        text = checkpoint_card(inside if target.is_dir() else target, runs, licence=licence)
    else:
        text = run_card(target, licence=licence)
    if out is None:
        print(text, end="")
        return
    from ssft_bench.files import atomic_path

    try:
        with atomic_path(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"-o {out}: cannot write there ({error.strerror})") from error
    print(out)
