"""`ssft-bench compare A B [...]`: is a difference of two runs more than chance?"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class CorrectionName(StrEnum):
    """How p-values of several comparisons are corrected."""

    holm = "holm"
    bh = "bh"
    none = "none"


def compare(
    systems: Annotated[
        list[str],
        typer.Argument(
            metavar="A B [...]",
            help="Folders of runs, or cells: upstream/interface/task. Runs of a cell that differ only "
            "in their seed are one system.",
        ),
    ],
    runs: Annotated[
        Path, typer.Option("--runs", help="Folder of results, for cells by name.")
    ] = Path("runs"),
    metric: Annotated[
        str | None, typer.Option(help="Another metric than the task's primary one: cer, wer_lm.")
    ] = None,
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="All with all, not the first with each other.")
    ] = False,
    correction: Annotated[
        CorrectionName,
        typer.Option(help="For several comparisons: holm, bh (Benjamini-Hochberg), none."),
    ] = CorrectionName.holm,
    seed: Annotated[int, typer.Option(help="Seed of what is drawn.")] = 1,
    resamples: Annotated[
        int, typer.Option(min=1000, help="Draws of bootstrap and permutation test.")
    ] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare runs on the same test utterances: difference with interval, p-values, who is better.

    Paired bootstrap and permutation test, whole speakers together where they are known; MAPSSWE for
    error rates; over several seeds where there are several. Differences are A - B.
    """
    from ssft_bench.comparison.printed import show
    from ssft_bench.comparison.report import compare as compare_sides
    from ssft_bench.comparison.sides import sides

    report = compare_sides(
        sides(systems, runs),
        metric=metric,
        which="all" if all_pairs else "first",
        correction=correction.value,
        seed=seed,
        resamples=resamples,
    )
    if as_json:
        print(json.dumps(report.as_dict(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        show(report)
