"""The driver: hands shares to an executor, tries again what was lost, gives up what is hopeless."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

from ssft_bench.executors.base import LOST, Executor, Job, Share
from ssft_bench.sweep.plan import Plan, PlannedCell
from ssft_bench.sweep.state import (
    CellState,
    give_up,
    given_up,
    noted_error,
    state,
    states,
    try_again,
)
from ssft_bench.sweep.work import BEGUN

DETERMINED = ("CheckFailed", "UsageError", "MissingError")
"""Errors that the same run would meet again."""


@dataclass
class Running:
    """A share at work."""

    share: int
    job: Job


@dataclass
class Drive:
    """One driver's work on one plan."""

    plan: Plan
    folder: Path
    executor: Executor
    retries: int = 2
    """How often a cell is tried again that failed for no reason of its own or killed its worker."""
    poll_seconds: float = 0.5
    notice: Callable[[Drive], None] = lambda drive: None
    """Called about every `poll_seconds`."""
    running: list[Running] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    tries: Counter[str] = field(default_factory=Counter)
    """Failures and deaths by signature."""

    def run(self, overwrite: Literal["missing", "failed"] = "failed") -> list[CellState]:
        """Work until every cell is done, failed or given up; returns their states.

        With `overwrite` failed, what failed in earlier drives is tried again. Stopped by Ctrl-C it stops
        its workers; whatever they had finished, and their checkpoints, stay.
        """
        for found in states(self.plan, self.folder):
            if overwrite == "failed":
                try_again(self.folder, found.cell)
            elif found.status == "failed":
                give_up(self.folder, found.cell, found.note)
        self.waiting = [n for n in range(len(self.plan.shares)) if self._open_cells(n)]
        try:
            while self.waiting or self.running:
                self._start()
                self._collect()
                self.notice(self)
                if self.running or self.waiting:
                    time.sleep(self.poll_seconds)
        except BaseException:
            for one in self.running:
                with suppress(Exception):
                    one.job.cancel()
            raise
        finally:
            self.executor.close()
        return list(states(self.plan, self.folder))

    def _start(self) -> None:
        slots = self.executor.slots
        room = len(self.waiting) if slots is None else slots - len(self.running)
        # No more shares are looked at than there is room for: each look reads its cells' records.
        ready = list(islice((n for n in self.waiting if not self._elsewhere(n)), max(0, room)))
        if not ready:
            return
        jobs = self.executor.submit([Share(self.folder, n) for n in ready])
        self.waiting = [n for n in self.waiting if n not in ready]
        self.running += [Running(n, job) for n, job in zip(ready, jobs, strict=True)]

    def _collect(self) -> None:
        for one in list(self.running):
            code = one.job.poll()
            if code is None:
                continue
            self.running.remove(one)
            died = code == LOST or code not in (0, 4)
            at = self._begun(one.share) if died else None
            for found in self._states(one.share):
                if found.status in ("done", "running"):  # running: another worker has it
                    continue
                if died and found.status != "failed" and at not in (None, found.cell.signature):
                    continue  # its turn had not come
                self._tried(found, one, code if died else None)
            if self._open_cells(one.share):
                self.waiting.append(one.share)

    def _begun(self, share: int) -> str | None:
        """The cell that a dead worker was at; None when it had not come to any."""
        with suppress(OSError, ValueError):
            return str(json.loads((self.folder / BEGUN / str(share)).read_text(encoding="utf-8")))
        return None

    def _tried(self, found: CellState, one: Running, death: int | None) -> None:
        """A cell failed or killed its worker: another try, or none."""
        cell = found.cell
        self.tries[cell.signature] += 1
        if found.status == "failed":
            error = found.note
        elif death is None:
            error = noted_error(self.folder, cell) or "its worker left it undone"
        else:
            how = "vanished" if death == LOST else f"ended with code {death}"
            error = (f"its worker ({one.job.label}) {how} {self.tries[cell.signature]} times; see "
                     f"{Share(self.folder, one.share).log}")  # fmt: skip
        if error.startswith(DETERMINED) or self.tries[cell.signature] > self.retries:
            give_up(self.folder, cell, error)

    def _open_cells(self, share: int) -> list[PlannedCell]:
        """Cells of a share that may still change."""
        return [
            s.cell for s in self._states(share)
            if s.status != "done" and not given_up(self.folder, s.cell)
        ]  # fmt: skip

    def _elsewhere(self, share: int) -> bool:
        """Whether all that is left of a share is being worked on by others."""
        left = [s for s in self._states(share) if s.status not in ("done", "failed")]
        return bool(left) and all(s.status == "running" for s in left)

    def _states(self, share: int) -> list[CellState]:
        cells = [self.plan.cells[n] for n in self.plan.shares[share]]
        return [state(self.plan, self.folder, cell) for cell in cells]
