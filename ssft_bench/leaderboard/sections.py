"""A table as people read it: sections with a title, cells with emphasis, notes; whatever the format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ssft_bench.names import metric_name
from ssft_bench.recipes import packaged_recipes

LEVEL = 0.05
"""Of significance; as in `marks`."""
SECTIONS = ["suite", "corpus", "task", "protocol"]


@dataclass(frozen=True)
class Cell:
    """Text, and whether it is the best or the second best of its column."""

    text: str
    place: int = 0
    """1 best, 2 second best, 0 neither."""
    number: bool = False
    """Set flush right where the format can."""


@dataclass(frozen=True)
class Section:
    """One table."""

    title: str
    header: tuple[Cell, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    notes: tuple[str, ...] = field(default=())


def sections(table: pd.DataFrame) -> list[Section]:
    """One for each suite, corpus, task and protocol, then one for each task that a suite lacks data for."""
    found = [_section(key, group) for key, group in table.groupby(SECTIONS, sort=True)]
    return found + [s for suite in sorted(table["suite"].unique()) for s in unavailable(suite)]


def title_of(key: Sequence[str], synthetic: bool) -> str:
    """`asr on mini (synthetic speech), suite mini`."""
    suite, corpus, task, protocol = key
    kind = " (synthetic speech)" if synthetic else ""
    told = "" if protocol == "frozen" else f", {protocol}"
    return f"{task} on {corpus}{kind}, suite {suite}{told}"


def metric_label(row: Any) -> str:
    """`WER ↓ %`."""
    return (
        f"{metric_name(str(row['metric']))} {'↑' if row['higher_is_better'] else '↓'} {row['unit']}"
    )


def _section(key: Any, group: pd.DataFrame) -> Section:
    first = group.iloc[0]
    versus = _versus(group)
    header = [
        "upstream", "interface", metric_label(first), "95% CI", "n",
        "seeds" if group["seeds"].max() > 1 else "seed", "steps",
        "interface params", "head params", "MMACs/s",
    ]  # fmt: skip
    if versus:
        header += [f"Δ to {versus}"]
    header += ["hours encoded", "seconds"]
    flagged = group["flags"].astype(bool).any()
    header += ["remarks"] if flagged else []
    rows = [_cells(row, bool(versus), flagged) for row in group.itertuples()]
    return Section(
        title_of(key, bool(first["synthetic"])),
        tuple(
            Cell(text, number=place >= 2 and text != "remarks") for place, text in enumerate(header)
        ),
        tuple(rows),
        tuple(_notes(group, versus)),
    )


def _cells(row: Any, versus: bool, flagged: bool) -> tuple[Cell, ...]:
    value = f"{row.value:.2f}"
    if not _nothing(row.sd):
        value += f" ± {row.sd:.2f}"
    cells = [
        Cell(row.upstream),
        Cell(row.interface if _nothing(row.layer) else f"{row.interface} (dev picked {row.layer})"),
        Cell(value, place=row.place if row.place <= 2 else 0, number=True),
        Cell(interval(row.ci_low, row.ci_high), number=True),
        *(Cell(text, number=True) for text in (
            str(row.utterances), str(row.seed).replace(" ", ", "), str(row.steps),
            f"{row.interface_parameters:,}", f"{row.head_parameters:,}",
            f"{row.macs_per_second / 1e6:,.0f}",
        )),
    ]  # fmt: skip
    if versus:
        cells.append(Cell(_difference(row), number=True))
    cells += [
        Cell(f"{row.hours_encoded:.2f}", number=True),
        Cell(f"{row.seconds:,.0f}", number=True),
    ]
    return (*cells, Cell(row.flags)) if flagged else tuple(cells)


def interval(low: Any, high: Any) -> str:
    """`1.20 to 3.40`, or a dash where there is none."""
    return "–" if _nothing(low) or _nothing(high) else f"{low:.2f} to {high:.2f}"


def _difference(row: Any) -> str:
    if row.mark == "reference":
        return "–"
    if _nothing(row.difference):
        return ""
    symbol = row.mark if row.mark in ("*", "†") else ""
    return f"{row.difference:+.2f}{symbol}".replace("-", "−")


def _nothing(value: Any) -> bool:
    return value is None or bool(pd.isna(value))


def _versus(group: pd.DataFrame) -> str:
    """What differences of a section are to; empty where nothing was compared."""
    tested = group[group["difference"].notna()]
    if tested.empty:
        return ""
    named = sorted(set(tested["versus"]))
    if len(named) > 1:
        upstreams = sorted({name.partition("/")[0] for name in named})
        return f"{upstreams[0]}, same interface" if len(upstreams) == 1 else "its base"
    best = group[group["place"] == 1]
    is_best = any(f"{row.upstream}/{row.interface}" == named[0] for row in best.itertuples())
    return "the best" if is_best else named[0]


def _notes(group: pd.DataFrame, versus: str) -> list[str]:
    first = group.iloc[0]
    notes = []
    if first["stands_in"]:
        remark = str(first["stands_in"])
        notes.append(f"{remark[0].upper()}{remark[1:]}.")
    methods = "; ".join(dict.fromkeys(str(m) for m in group["ci_method"] if not _nothing(m)))
    notes.append(f"CI: {methods}. {_selection(group)}")
    if versus:
        notes.append(
            f"Δ to {versus}: paired on the same test items, Holm's correction over this table; * better, "
            "† worse (p < 0.05); no mark: chance is not ruled out."
        )
        notes += _too_few(group)
    why_not = [m for m in group["mark"].dropna() if m not in ("reference", "*", "†")]
    notes += [f"Not compared: {reason}." for reason in dict.fromkeys(why_not)]
    return notes


def _too_few(group: pd.DataFrame) -> list[str]:
    """Says so where the permutation test of single runs has too few speakers for any mark."""
    tested = group[group["difference"].notna() & (group["seeds"] == 1)]
    if tested.empty:
        return []
    clusters = int(tested["clusters"].min())
    smallest = 2.0 ** (1 - clusters)
    if smallest * len(tested) < LEVEL:
        return []
    return [
        f"{clusters} speakers or queries: a permutation test of two runs cannot give less than p = "
        f"{smallest:.2g}, which corrected for {len(tested)} rows marks nothing; more seeds can."
    ]


def _selection(group: pd.DataFrame) -> str:
    """How the parameters of a section's rows were picked, and their learning rates."""
    rates = sorted({f"{rate:g}" for rate in group["lr"].dropna()}, key=float)
    if not rates:
        return "Nothing is trained; where layers were compared, dev picked."
    return f"Selected on dev; lr {', '.join(rates)}."


def unavailable(suite: str) -> list[Section]:
    """The tasks that a suite has no data for, and why."""
    return [
        Section(f"{task}, suite {suite}: no data", notes=(f"{recipes[suite]['unavailable']}.",))
        for task, recipes in packaged_recipes().items()
        if "unavailable" in recipes.get(suite, {})
    ]
