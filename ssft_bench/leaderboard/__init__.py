"""Results -> tables, in every format; scores over tasks; the committed leaderboards.

Importing this is cheap: pandas comes with the first table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ssft_bench.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "FORMATS", "build", "markdown", "render", "write"]

COLUMNS = (
    "suite", "corpus", "synthetic", "stands_in", "task", "metric", "unit", "higher_is_better", "upstream",
    "interface", "protocol", "seed", "value", "ci_low", "ci_high", "utterances", "ci_method",
    "interface_parameters", "head_parameters", "upstream_parameters", "macs_per_second",
    "steps", "lr", "best_step", "events", "signature",
    # Added later; scripts that read the above by name or place go on working.
    "place", "layer", "seeds", "sd", "versus", "difference", "difference_low", "difference_high",
    "p", "p_corrected", "mark", "clusters", "flags", "seconds", "hours_encoded", "peak_memory_mib",
)  # fmt: skip
"""Of leaderboard.csv."""
FORMATS = ("csv", "md", "latex", "html")
SUFFIX = {"csv": "csv", "md": "md", "latex": "tex", "html": "html"}
Pivot = Literal["upstream", "interface", "task"]
"""What lies across the page."""


def build(
    runs: Path | Sequence[Path],
    *,
    seeds: Literal["each", "mean"] = "each",
    base: str | None = None,
    significance: bool = True,
) -> pd.DataFrame:
    """One row for each finished run's primary test metric, best first within suite, corpus and task.

    `seeds="mean"`: runs that differ only in their seed are one row, the mean, its standard deviation and
    a pooled interval. `base`: see `marks.marks`. Raises MissingError when no folder holds a finished run.
    """
    from ssft_bench.leaderboard import table

    return table.build(runs, seeds=seeds, base=base, significance=significance)


def markdown(table: pd.DataFrame) -> str:
    """A section for each suite, corpus, task and protocol; the best value is bold; synthetic speech says
    so, and so does what stands in for something else."""
    return render(table, "md")


def render(table: pd.DataFrame, form: str, pivot: Pivot | None = None) -> str:
    """The table in one of FORMATS, as rows or as rows x columns. The same bytes from the same table."""
    from ssft_bench.leaderboard import formats
    from ssft_bench.leaderboard.pivot import pivot_sections, pivot_table
    from ssft_bench.leaderboard.sections import sections

    if form == "csv":
        shown = table if pivot is None else pivot_table(table, pivot)
        return str(shown.to_csv(index=False, lineterminator="\n"))
    parts = sections(table) if pivot is None else pivot_sections(table, pivot)
    writer = {"md": formats.markdown, "latex": formats.latex, "html": formats.html}[form]
    return writer(parts)


def write(
    table: pd.DataFrame,
    folder: Path,
    forms: Sequence[str] = ("csv", "md"),
    pivot: Pivot | None = None,
) -> list[Path]:
    """Write leaderboard.<format> (leaderboard-by-<pivot>.<format>) atomically; return their paths."""
    stem = "leaderboard" if pivot is None else f"leaderboard-by-{pivot}"
    paths = []
    for form in forms:
        path = folder / f"{stem}.{SUFFIX[form]}"
        with atomic_path(path) as temporary:
            temporary.write_text(render(table, form, pivot), encoding="utf-8")
        paths.append(path)
    return paths
