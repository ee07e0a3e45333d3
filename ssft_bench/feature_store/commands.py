"""`ssft-bench cache show`, `cache prune` and `cache verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

cache_app = typer.Typer(help="The store of hidden states.", no_args_is_help=True)

Folder = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder of the store; default: features in SSFT_BENCH_CACHE."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@cache_app.command("show")
def show_command(cache: Folder = None, as_json: AsJson = False) -> None:
    """Show what hidden states are kept: upstream, type, corpus and split, layers, size, last use."""
    from ssft_bench.feature_store import default_folder, inventory

    found = inventory.show(cache or default_folder())
    print(json.dumps(found, indent=2) if as_json else inventory.show_text(found))


@cache_app.command("prune", epilog="Exit codes: 0 done, 2 bad usage.")
def prune_command(
    cache: Folder = None,
    gib: Annotated[
        float | None,
        typer.Option("--cache-gib", min=0, help="Keep at most so much; default: the quota."),
    ] = None,
    upstream: Annotated[
        str | None, typer.Option(help="Throw away all states of this upstream instead.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Throw away hidden states, least recently used first; never what a running process uses.

    They are computed again when they are needed. Example: ssft-bench cache prune --cache-gib 0
    """
    from ssft_bench.errors import UsageError
    from ssft_bench.feature_store import default_folder, inventory

    if gib is not None and upstream is not None:
        raise UsageError("--cache-gib and --upstream: give one of them")
    found = inventory.prune(cache or default_folder(), gib, upstream)
    print(json.dumps(found, indent=2) if as_json else inventory.prune_text(found))


@cache_app.command("verify", epilog="Exit codes: 0 whole or mended, 1 damaged.")
def verify_command(
    cache: Folder = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Keep what is whole, in new files, and drop the rest.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read every stored state and compare it with its checksum.

    Runs notice damage by themselves and compute again what is damaged.
    """
    from ssft_bench.errors import CheckFailed
    from ssft_bench.feature_store import default_folder, inventory

    found = inventory.verify(cache or default_folder(), repair)
    print(json.dumps(found, indent=2) if as_json else inventory.verify_text(found))
    if found["status"] == "damaged":
        raise CheckFailed(f"{found['folder']}: damaged; --repair keeps what is whole")
