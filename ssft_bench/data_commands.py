"""`ssft-bench data get` and `ssft-bench data check`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from ssft_bench.errors import UsageError

data_app = typer.Typer(help="Corpora: download them, check them.", no_args_is_help=True)

Root = Annotated[
    str | None, typer.Option("--data", help="Folder of corpora; default: SSFT_BENCH_DATA.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@data_app.command(
    "get",
    epilog="Exit codes: 0 done, 2 bad usage or no room, 3 not to be had or not what it should be.",
)
def get_command(
    name: Annotated[str, typer.Argument(help="Corpus: librispeech, quesst14, an4, ...")],
    data: Root = None,
    part: Annotated[
        list[str] | None,
        typer.Option(help="Only this part, such as test-other of librispeech; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Download a corpus from its public source, verify it, unpack it below --data.

    Run it again after a break: it goes on where it stopped, and leaves alone what is there.
    Example: ssft-bench data get librispeech --data corpora --part dev-clean
    """
    from ssft_bench.downloads.get import get
    from ssft_bench.downloads.sources import download_of

    place = data or os.environ.get("SSFT_BENCH_DATA")
    if not place:
        raise UsageError("say where to put it with --data FOLDER or SSFT_BENCH_DATA")
    download = download_of(name)
    outcomes = get(download, Path(place), part or [])
    if as_json:
        rows = [{**vars(outcome), "verified": outcome.verified or None} for outcome in outcomes]
        print(json.dumps({"files": rows, "notes": list(download.notes)}, indent=2))
        return
    for outcome in outcomes:
        print(outcome.line)
    for note in download.notes:
        print(f"note: {note}")
    print(f"next: ssft-bench data check {name} --data {place}")


@data_app.command(
    "check", epilog="Exit codes: 0 whole, 1 it differs from published sizes, 3 missing or broken."
)
def check_command(
    name: Annotated[str, typer.Argument(help="Corpus, or corpus:option=value.")],
    data: Root = None,
    as_json: AsJson = False,
) -> None:
    """Count a corpus and decode every recording; compare with the sizes that are published.

    Example: ssft-bench data check an4 --data corpora
    """
    from ssft_bench import data_check
    from ssft_bench.data import open_corpus

    report = data_check.check(open_corpus(name, data))
    print(json.dumps(report, indent=2, ensure_ascii=False) if as_json else data_check.text(report))
    code = {"whole": 0, "differs": 1, "missing": 3}[report["status"]]
    if code:
        raise typer.Exit(code)
