"""What a plan and its cells look like on a terminal, and in plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ssft_bench.sweep.drive import Drive
from ssft_bench.sweep.estimate import Estimate
from ssft_bench.sweep.plan import Plan
from ssft_bench.sweep.state import CellState, counts, states
from ssft_bench.tables import format_value

MARKS = {"running": "…", "interrupted": "▮", "missing": "·", "stale": "≠", "failed": "✗"}
COLOURS = {"done": "", "running": "cyan", "interrupted": "yellow", "missing": "dim", "stale": "yellow",
           "failed": "red"}  # fmt: skip


def matrix(found: Sequence[CellState]) -> Table:
    """Upstream and interface (and seed, where there are several) by task: the score, or the state."""
    tasks = list(dict.fromkeys(s.cell.task for s in found))
    more = [name for name in ("variant", "seed") if len({getattr(s.cell, name) for s in found}) > 1]
    rows: dict[tuple[str, ...], dict[str, list[CellState]]] = {}
    for one in found:
        own = one.cell
        key = (own.upstream, own.interface, *(str(getattr(own, name)) for name in more))
        rows.setdefault(key, {}).setdefault(one.cell.task, []).append(one)
    # Five tasks and the longest names of the package in 80 columns.
    table = Table(show_edge=False, pad_edge=False)
    for name in ("upstream", "interface", *more):
        table.add_column(name, overflow="fold")
    for task in tasks:
        table.add_column(_heading(task, found), justify="right")
    for key, by_task in rows.items():
        table.add_row(*key, *(_cells(by_task.get(task, [])) for task in tasks))
    return table


def _heading(task: str, found: Sequence[CellState]) -> str:
    """`asr`, `WER`, `↓ %` below each other once a result tells the metric, else the task alone."""
    for one in found:
        metric = one.record.primary() if one.record and one.cell.task == task else None
        if metric is not None:
            arrow = "↑" if metric.higher_is_better else "↓"
            return f"{task}\n{metric.label}\n{arrow} {metric.unit}"
    return task


def _cells(own: Sequence[CellState]) -> Text:
    """Usually one cell; several where controls or corpora of a task differ."""
    return Text(" / ").join(map(_cell, own))


def _cell(one: CellState) -> Text:
    metric = one.record.primary() if one.record and one.status == "done" else None
    if metric is not None:
        return Text(f"{metric.value:.2f}")
    share = f" {100 * one.progress:.0f} %" if one.progress is not None else ""
    return Text(f"{MARKS.get(one.status, '?')}{share}", style=COLOURS[one.status])


def open_console() -> Console:
    """Standard output; 120 columns where it is no terminal, so that names stay whole in a log."""
    return Console() if sys.stdout.isatty() else Console(width=120)


def tally(found: Sequence[CellState]) -> str:
    """`54 cells: 12 done, 2 running, 40 missing`."""
    parts = ", ".join(f"{n} {name}" for name, n in counts(found).items())
    return f"{len(found)} cells: {parts}"


def print_states(plan: Plan, found: Sequence[CellState]) -> None:
    """The matrix, what is left out, what failed and why."""
    console = open_console()
    console.print(matrix(found))
    shown = {s.status for s in found} - {"done"}
    if shown:
        console.print("  ".join(f"{MARKS[name]} {name}" for name in MARKS if name in shown),
                      highlight=False)  # fmt: skip
    console.print(tally(found), highlight=False)
    print_left_out(plan, console)
    for one in found:
        if one.status == "failed":
            console.print(f"[red]failed[/]: {escape(one.cell.label)}: {escape(one.note)}",
                          highlight=False, soft_wrap=True)  # fmt: skip


def print_left_out(plan: Plan, console: Console) -> None:
    """Combinations that cannot be run, those of one reason in one line."""
    reasons: dict[tuple[bool, str], list[str]] = {}
    for cell in plan.left_out:
        name = f"{cell.upstream} | {cell.interface} | {cell.task}"
        reasons.setdefault((cell.missing, cell.reason), []).append(name)
    for (missing, reason), names in reasons.items():
        kind = "no data" if missing else "left out"
        few = list(dict.fromkeys(names))
        shown = "; ".join(few[:3]) + (f" and {len(few) - 3} more" if len(few) > 3 else "")
        console.print(f"{kind}: {escape(shown)}: {escape(reason)}", highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`, `12 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def size(count: float) -> str:
    """`512 MiB`, `3.2 GiB`."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


class Watch:
    """Shows a drive: a live table on a terminal, a line for each cell that ends elsewhere."""

    def __init__(self, plan: Plan, folder: Path, estimate: Estimate) -> None:
        self.plan, self.folder, self.estimate = plan, folder, estimate
        self.known: dict[str, str] = {}
        self.live: Live | None = None
        self.last = 0.0
        self.began = time.monotonic()

    def __enter__(self) -> Watch:
        for one in states(self.plan, self.folder):
            self.known[one.cell.signature] = one.status
        if sys.stderr.isatty():
            self.live = Live(console=Console(stderr=True), refresh_per_second=2, transient=True)
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live is not None:
            self.live.stop()

    def __call__(self, drive: Drive) -> None:
        """The drive's `notice`; looks at the files every second at most."""
        if time.monotonic() - self.last < 1.0 and drive.running:
            return
        self.last = time.monotonic()
        found = list(states(self.plan, self.folder))
        if self.live is not None:
            self.live.update(self._picture(found, drive))
        for one in found:
            if self.known.get(one.cell.signature) != one.status and one.status in (
                "done",
                "failed",
            ):
                self._line(one, found)
            self.known[one.cell.signature] = one.status

    def _line(self, one: CellState, found: Sequence[CellState]) -> None:
        if self.live is not None:
            return
        done = sum(s.status in ("done", "failed") for s in found)
        metric = one.record.primary() if one.record and one.status == "done" else None
        what = one.note if metric is None else f"{metric.label} {format_value(metric)}"
        took = f" in {duration(one.seconds)}" if one.seconds else ""
        left = duration(self.estimate.left(found))
        print(f"[{done}/{len(found)}] {one.status} {one.cell.label}: {what}{took}; about {left} left",
              file=sys.stderr, flush=True)  # fmt: skip

    def _picture(self, found: Sequence[CellState], drive: Drive) -> RenderableType:
        done = sum(s.status in ("done", "failed") for s in found)
        left = duration(self.estimate.left(found))
        bar = Table.grid(padding=(0, 1))
        waiting = sum(one.job.waiting() for one in drive.running)
        jobs = f"{len(drive.running) - waiting} workers" + (
            f", {waiting} queued" if waiting else ""
        )
        gone = duration(time.monotonic() - self.began)
        bar.add_row(
            ProgressBar(len(found), done, width=30),
            f"{tally(found)}; {jobs}; {gone}, about {left} left",
        )
        return Group(matrix(found), bar)
