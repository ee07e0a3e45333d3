"""Options that the analyses share, and what they do with them; torch is imported only when needed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssft_bench.errors import UsageError

if TYPE_CHECKING:
    from ssft_bench.analysis.report import Report
    from ssft_bench.analysis.sources import Speech
    from ssft_bench.upstream import Upstream


class Split(StrEnum):
    """Part of a corpus."""

    train = "train"
    dev = "dev"
    test = "test"


class Pooling(StrEnum):
    """How two recordings are compared."""

    dtw = "dtw"
    mean = "mean"


Upstreams = Annotated[
    list[str],
    typer.Option("--upstream", help="Name, name:option=value or file.py:Class; repeatable."),
]
CorpusName = Annotated[str, typer.Option(help="Corpus, e.g. mini, an4, librispeech.")]
Data = Annotated[str | None, typer.Option(help="Folder that holds the corpus.")]
MaxUtterances = Annotated[
    int | None, typer.Option(help="Only so many utterances, evenly spread over the split.")
]
Alignments = Annotated[
    list[Path] | None,
    typer.Option("--alignments", help="JSON lines of phone segments in 10 ms frames; repeatable."),
]
DropSilence = Annotated[
    bool, typer.Option("--drop-silence", help="Leave silence out; default: it counts as a phone.")
]
Layers = Annotated[str, typer.Option(help="all, or hidden states such as 0,3,-1.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of everything random.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")]
Out = Annotated[
    Path | None,
    typer.Option("-o", "--out", help="Folder for the table (JSON, Markdown) and the plot."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
EXITS = "Exit codes: 0 done, 2 bad usage, 3 missing data or weights."


def settings_of(values: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a command as JSON takes them."""
    left_out = ("out", "as_json")
    return {key: _plain(value) for key, value in values.items() if key not in left_out}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, StrEnum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def check_out(out: Path | None) -> None:
    from ssft_bench import results

    if out is not None:
        results.check_writable(out)


def given(alignments: list[Path] | None) -> list[Path]:
    if not alignments:
        raise UsageError("--alignments FILE.jsonl is needed: phones with their times")
    return alignments


def open_speech(corpus: str, split: Split, data: str | None, limit: int | None) -> Speech:
    from ssft_bench.analysis.sources import speech

    return speech(corpus, split.value, data, limit)


def open_upstreams(names: list[str], device: str) -> list[Upstream]:
    from ssft_bench.analysis.sources import device_of, names_in_order, upstream_named

    place = device_of(device)
    return [upstream_named(name, place) for name in names_in_order(names)]


def give(report: Report, out: Path | None, as_json: bool, draw: Callable[[Path], Path]) -> None:
    """Print the table; with a folder also write it, and the plot beside it."""
    report.print(as_json)
    if out is not None:
        paths = [*report.write(out), draw(out / f"{report.name}.png")]
        print(f"written: {', '.join(map(str, paths))}", file=sys.stderr)
