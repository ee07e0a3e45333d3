"""Comparisons as they are seen on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ssft_bench.comparison.report import LEVEL, Comparison, Report
from ssft_bench.comparison.sides import Side
from ssft_bench.names import metric_name
from ssft_bench.tables import SYNTHETIC

CORRECTIONS = {"holm": "Holm", "bh": "Benjamini-Hochberg", "none": "none"}


def show(report: Report) -> None:
    """The systems, their comparisons, then how those were made and what weakens them."""
    console = Console()
    console.print(_systems(report))
    console.print(_comparisons(report))
    for line in notes(report):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def notes(report: Report) -> list[str]:
    """Lines below the tables."""
    n = len(report.comparisons)
    lines = list(
        dict.fromkeys(f"{_amount(one, report)}; {one.found.method}" for one in report.comparisons)
    )
    if n > 1:
        lines.append(
            f"{n} comparisons, correction: {CORRECTIONS[report.correction]}; better: p < {LEVEL} after it"
        )
    if any(one.mapsswe for one in report.comparisons):
        lines.append("MAPSSWE takes the errors of a speaker for independent; what decides is p")
    return lines + [f"warning: {warning}" for warning in report.warnings()]


def _amount(one: Comparison, report: Report) -> str:
    told = f"{one.found.n} {report.metric.over}"
    same = one.found.over == report.metric.over
    return told if same else f"{told} of {one.found.clusters} {one.found.over}"


def _systems(report: Report) -> Table:
    arrow = "↑" if report.metric.higher_is_better else "↓"
    kind = f" ({SYNTHETIC})" if report.synthetic else ""
    table = Table(title=f"{report.task} on {report.corpus}{kind}")
    table.add_column("")
    table.add_column("upstream/interface", overflow="fold")
    table.add_column(
        f"{metric_name(report.metric.name)} {arrow} {report.metric.unit}",
        justify="right",
        no_wrap=True,
    )
    values = {}
    for one in report.comparisons:
        values[one.a.letter], values[one.b.letter] = one.found.values
    for side in report.sides:
        table.add_row(side.letter, _label(side), f"{values[side.letter]:.2f}")
    return table


def _comparisons(report: Report) -> Table:
    corrected = len(report.comparisons) > 1 and report.correction != "none"
    matched = any(one.mapsswe for one in report.comparisons)
    table = Table()
    head = ["", "difference [95% CI]", "p"]
    head += (
        [f"{report.correction.capitalize()} p"] * corrected + ["P better"] + ["MAPSSWE p"] * matched
    )
    for column in head:
        table.add_column(column, justify="right" if column else "left")
    table.columns[1].no_wrap = True
    table.add_column("better")
    for one in report.comparisons:
        table.add_row(*_cells(one, report, corrected, matched))
    return table


def _cells(one: Comparison, report: Report, corrected: bool, matched: bool) -> list[str]:
    found = one.found
    ends = f" [{found.ci95[0]:+.2f}, {found.ci95[1]:+.2f}]" if found.ci95 else ""
    cells = [f"{one.a.letter} - {one.b.letter}", f"{found.difference:+.2f}{ends}", p_text(found.p)]
    if corrected:
        cells.append(p_text(one.p_corrected))
    cells.append(f"{found.probability_of_improvement:.2f}")
    if matched:
        cells.append(p_text(one.mapsswe.p) if one.mapsswe else "")
    better = one.better(report.metric.higher_is_better)
    return [*cells, {"a": one.a.letter, "b": one.b.letter, None: "-"}[better]]


def _label(side: Side) -> str:
    seeds = f", seeds {', '.join(map(str, side.seeds))}" if len(side.seeds) > 1 else ""
    return escape(side.label + seeds)


def p_text(p: float) -> str:
    """`0.034`, `<0.001`; `1` for 1."""
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.9995 else "1"
