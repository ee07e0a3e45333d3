"""Plans and their states for people and for programs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ssft_bench.errors import UsageError
from ssft_bench.feature_store.inventory import ranges
from ssft_bench.sweep import display
from ssft_bench.sweep.estimate import Estimate
from ssft_bench.sweep.plan import FOLDER, Plan
from ssft_bench.sweep.state import CellState, counts, states


def find_plan(text: str | None, out: Path) -> Path:
    """The folder of a plan by path, by name, or the newest below `out`. Raises UsageError for none."""
    if text is not None and (Path(text) / "plan.json").exists():
        return Path(text)
    plans = sorted((out / FOLDER).glob("*/plan.json"), key=lambda p: p.stat().st_mtime)
    named = [p for p in plans if text is None or p.parent.name.rsplit("-", 1)[0] == text
             or p.parent.name == text]  # fmt: skip
    if not named:
        what = f"plan {text}" if text else "plan"
        raise UsageError(f"no {what} below {out / FOLDER}; 'ssft-bench plan' or 'sweep' makes one")
    return named[-1].parent


def plan_json(plan: Plan, folder: Path, slots: int | None) -> dict[str, Any]:
    """What `plan --json` prints."""
    estimate, found = Estimate.of(plan, slots or 1), list(states(plan, folder))
    sizes = estimate.states_bytes()
    return {
        **status_json(plan, folder, found),
        "estimate": {
            "hours_left": round(estimate.left(found) / 3600, 3),
            "workers": slots,
            "states_gib": round(sum(sizes.values()) / 2**30, 4),
            "cells": {s.cell.signature: {"seconds": round(estimate.cell(s.cell).seconds, 1),
                                         "source": estimate.cell(s.cell).source} for s in found},
        },
        "shared": [
            {"group": group, "cells": sum(c.group == group for c in plan.cells),
             "layers": list(plan.group_layers(group)), "gib": round(size / 2**30, 4)}
            for group, size in sizes.items()
        ],
        "shares": len(plan.shares),
    }  # fmt: skip


def status_json(plan: Plan, folder: Path, found: Sequence[CellState]) -> dict[str, Any]:
    """What `status --json` and `sweep --json` print."""
    return {
        "name": plan.grid.name, "suite": plan.grid.suite, "plan": str(folder), "out": plan.out,
        "counts": counts(found), "cells": [one.as_dict() for one in found],
        "left_out": [cell.model_dump(mode="json") for cell in plan.left_out],
    }  # fmt: skip


def print_plan(plan: Plan, folder: Path, slots: int | None) -> None:
    """The matrix of states, then hours, disk and sharing."""
    found = list(states(plan, folder))
    display.print_states(plan, found)
    estimate, console = Estimate.of(plan, slots or 1), display.open_console()
    sizes = estimate.states_bytes()
    if sizes:
        table = Table(title="hidden states that cells share")
        for column in ("upstream", "corpus", "cells", "layers kept", f"{plan.grid.states}"):
            table.add_column(column)
        for group, size in sizes.items():
            own = [c for c in plan.cells if c.group == group]
            layers = plan.group_layers(group)
            table.add_row(
                own[0].upstream, own[0].corpus, str(len(own)), ranges(layers), display.size(size)
            )
        console.print(table)
    open_ones = [s for s in found if s.status not in ("done", "failed")]
    sources = sorted({estimate.cell(s.cell).source for s in open_ones})
    workers = f"{slots} workers" if slots else "one worker (the cluster decides how many)"
    if open_ones:
        console.print(
            f"about {display.duration(estimate.left(found))} with {workers}, by {', '.join(sources)}; "
            f"{display.size(sum(sizes.values()))} of hidden states"
            + (_quota(plan, sum(sizes.values()))), highlight=False, soft_wrap=True,
        )  # fmt: skip
    console.print(f"plan: {folder} ({len(plan.shares)} shares: ssft-bench work {folder} --index N)",
                  highlight=False, soft_wrap=True)  # fmt: skip


def _quota(plan: Plan, need: float) -> str:
    if plan.store is None:
        return ", kept in each worker's memory"
    if need > plan.store_gib * 2**30:
        return (f", more than the store's quota of {plan.store_gib:g} GiB: heads will train side by side on "
                "one forward pass")  # fmt: skip
    return f" in {plan.store} (quota {plan.store_gib:g} GiB)"


def watch(plan: Plan, folder: Path, every: float = 2.0) -> None:
    """Show the matrix until every cell is done or failed."""
    with Live(console=Console(stderr=True), refresh_per_second=2, transient=True) as live:
        while True:
            found = list(states(plan, folder))
            live.update(display.matrix(found))
            if all(one.status in ("done", "failed") for one in found):
                return
            time.sleep(every)
