"""`ssft-bench report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ssft_bench.errors import UsageError


def report_command(
    runs: Annotated[Path, typer.Option("--runs", help="Folder of results.")] = Path("runs"),
    out: Annotated[Path, typer.Option("-o", "--out", help="The HTML file.")] = Path("report.html"),
    base: Annotated[
        str | None,
        typer.Option(help="Upstream that gains are measured over; default: hubert_mini."),
    ] = None,
    audio: Annotated[
        int,
        typer.Option(
            min=0, max=50, help="Example utterances of each task, with audio where allowed."
        ),
    ] = 3,
    data: Annotated[
        str | None, typer.Option(help="Folder of corpora, for audio; default: that of each run.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Put all finished runs on one HTML page that needs no network: table, gains, plots, examples.

    The same runs give the same bytes. Example: ssft-bench report --runs runs -o report.html
    """
    if out.is_dir():
        raise UsageError(f"-o {out}: that is a folder; name a file in it, as in {out}/report.html")
    from ssft_bench.report import page
    from ssft_bench.report.collect import collect

    found = collect(runs, base)
    size = page.write(found, out, audio=audio, data=data)
    told = {
        "file": str(out), "bytes": size, "runs": len(found.runs),
        "unfinished": len(found.unfinished), "base": found.base or None,
    }  # fmt: skip
    if as_json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return
    rest = f", {len(found.unfinished)} not finished" if found.unfinished else ""
    print(f"written: {out} ({size / 1e6:.1f} MB; {len(found.runs)} runs{rest})")
