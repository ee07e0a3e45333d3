"""What commands print on a terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ssft_bench.results import MetricValue, ResultRecord

SYNTHETIC = "synthetic speech"


def format_value(metric: MetricValue) -> str:
    """`12.3 [11.0, 13.8]`."""
    if metric.ci95 is None:
        return f"{metric.value:.2f}"
    return f"{metric.value:.2f} [{metric.ci95[0]:.2f}, {metric.ci95[1]:.2f}]"


def print_run(folder: Path, record: ResultRecord, stored: bool) -> None:
    """Scores of one run, what they were measured on, and where the record is."""
    spec, data = record.spec, record.data
    kind = f", {SYNTHETIC}" if data["synthetic"] else ""
    title = f"{spec.upstream.label} | {spec.interface_label} | {spec.task.name}"
    table = Table(title=title)
    for column in ("metric", "split", "value [95% CI]", "unit", "better", "utterances"):
        table.add_column(column, justify="right" if column == "value [95% CI]" else "left")
    for m in record.metrics:
        better = "higher" if m.higher_is_better else "lower"
        table.add_row(m.label, m.split, format_value(m), m.unit, better, str(m.n))
    console = Console()
    console.print(table)
    learned = {part: n["trainable"] for part, n in record.cost["parameters"].items()}
    parts = ", ".join(f"{part} {n:,}" for part, n in learned.items() if n or part != "upstream")
    console.print(
        f"corpus {data['corpus']}{kind}; CI by {record.metrics[0].ci_method}; {picked(record)}; "
        f"trainable: {parts}; "
        f"{sum(record.cost['seconds'].values()):.0f} s",
        highlight=False,
    )
    for event in record.events:
        console.print(f"event: {event}", highlight=False)
    start = "answered from the stored result" if stored else "stored"
    console.print(f"{start}: {folder / 'result.json'}", highlight=False, soft_wrap=True)


def picked(record: ResultRecord) -> str:
    """What dev picked, in a few words."""
    chosen = record.selection
    if record.spec.train is None:
        return (
            f"layer {chosen['layer']} picked on dev" if "layer" in chosen else "nothing is trained"
        )
    rate = f" at lr {chosen['lr']:g}" if "lr" in chosen else ""
    return f"best dev step {chosen['step']} of {record.spec.train.steps}{rate}"


def print_list(rows: list[dict[str, Any]], kind: str, as_json: bool) -> None:
    """Names, one a row; broken ones with their error."""
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(title=kind)
    for column in ("name", "from", "what it is"):
        table.add_column(column, overflow="fold")
    for row in rows:
        what = (
            f"[red]broken:[/red] {escape(row['error'])}" if row["error"] else escape(row["summary"])
        )
        table.add_row(row["name"], row["origin"], what)
    Console().print(table)


def print_doctor(findings: list[dict[str, str]], as_json: bool) -> None:
    """Findings, one a row."""
    if as_json:
        print(json.dumps(findings, indent=2))
        return
    table = Table(title="ssft-bench doctor")
    for column in ("what", "status", "found"):
        table.add_column(column, overflow="fold")
    colours = {"ok": "green", "broken": "red", "absent": "yellow"}
    for f in findings:
        table.add_row(f["what"], f"[{colours[f['status']]}]{f['status']}[/]", f["found"])
    Console().print(table)
