"""What one worker does: the cells of its share, one after the other or side by side."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from ssft_bench import results
from ssft_bench.cell import Machine
from ssft_bench.errors import BenchError, CheckFailed, UsageError
from ssft_bench.files import write_json
from ssft_bench.lease import Busy
from ssft_bench.runner import Answer, Claim, Ready, Sources, claim
from ssft_bench.sweep import shared_states
from ssft_bench.sweep.plan import Plan, PlannedCell, load_plan, open_cell
from ssft_bench.sweep.state import given_up, note_error

BEGUN = "begun"
"""Folder of a plan: by share, the cell that its worker is at; the driver reads it when the worker dies."""


def work(folder: Path, index: int) -> dict[str, str]:
    """Do share `index` of the plan in a folder; what was done is not done again.

    Returns the outcome of each cell by signature: done, failed, elsewhere (another process works on it)
    or given_up. A cell that fails does not stop the others. Raises UsageError for a plan or an index that
    does not exist.
    """
    plan = load_plan(folder)
    if not 0 <= index < len(plan.shares):
        raise UsageError(
            f"--index {index}: the plan in {folder} has shares 0 to {len(plan.shares) - 1}"
        )
    began = time.monotonic()
    worker = _Worker(plan, folder, index)
    worker.run([plan.cells[n] for n in plan.shares[index]])
    summary = {"cells": worker.outcomes, "seconds": round(time.monotonic() - began, 1)}
    write_json(folder / "shares" / f"{index}.json", summary)
    (folder / BEGUN / str(index)).unlink(missing_ok=True)
    return worker.outcomes


class _Worker:
    def __init__(self, plan: Plan, folder: Path, index: int) -> None:
        self.plan, self.folder, self.index = plan, folder, index
        self.out = Path(plan.out)
        self.sources = Sources()
        self.outcomes: dict[str, str] = {}

    def run(self, cells: Sequence[PlannedCell]) -> None:
        """Groups in turn: cells of a share that have the same hidden states share them."""
        groups: dict[str, list[PlannedCell]] = {}
        for cell in cells:
            if given_up(self.folder, cell):
                self.outcomes[cell.signature] = "given_up"
            elif self._done(cell):
                self.outcomes[cell.signature] = "done"
            else:
                groups.setdefault(cell.group or cell.signature, []).append(cell)
        for own in groups.values():
            self._group(own)

    def _done(self, cell: PlannedCell) -> bool:
        try:
            record = results.load(self.plan.place(cell))
        except CheckFailed:  # a result that cannot be read is made again
            return False
        return record is not None and results.finished(self.plan.place(cell), record)

    def _group(self, cells: Sequence[PlannedCell]) -> None:
        opened: list[tuple[PlannedCell, Ready]] = []
        for cell in cells:
            with self._outcome(cell):
                opened.append((cell, open_cell(cell, self.plan.grid, self.sources)))
        if not opened:
            return
        machine = shared_states.machine(self.plan, cells[0].group)
        alone, together = shared_states.side_by_side(self.plan, machine, opened)
        shared_states.fill(machine, alone)
        for cell, made in alone:
            with self._outcome(cell), self._claimed(cell, made, machine) as claimed:
                if isinstance(claimed, Claim):
                    claimed.answer()
                self.outcomes[cell.signature] = "done"
        for batch in together:
            self._fan_out(batch, machine)

    @contextmanager
    def _claimed(
        self, cell: PlannedCell, made: Ready, machine: Machine
    ) -> Iterator[Claim | Answer]:
        self._set_aside_broken(self.plan.place(cell))
        write_json(self.folder / BEGUN / str(self.index), cell.signature)
        passed = {k: v for k, v in cell.request.items() if v not in (None, (), [])}
        if made.spec.protocol == "training-free":  # there is no work to share out
            machine = replace(machine, devices=1)
        with claim(made, self.out, args_passed=passed, machine=machine) as claimed:
            yield claimed

    @staticmethod
    def _set_aside_broken(place: Path) -> None:
        """A result that cannot be read (half a file from elsewhere) makes way for a new one."""
        try:
            results.load(place)
        except CheckFailed as error:
            (place / "result.json").rename(place / "result.json.broken")
            print(f"{error}; kept as result.json.broken", file=sys.stderr, flush=True)

    def _fan_out(self, batch: Sequence[tuple[PlannedCell, Ready]], machine: Machine) -> None:
        """Several heads on one forward pass."""
        from ssft_bench import fan_out
        from ssft_bench.trained_cell import FrozenCell

        with ExitStack() as held:
            cells: list[FrozenCell] = []
            fresh: list[bool] = []
            names: list[PlannedCell] = []
            for cell, made in batch:
                with self._outcome(cell):
                    claimed = held.enter_context(self._claimed(cell, made, machine))
                    if isinstance(claimed, Answer):
                        self.outcomes[cell.signature] = "done"
                        continue
                    assert isinstance(claimed.cell, FrozenCell)
                    cells.append(claimed.cell)
                    fresh.append(claimed.fresh)
                    names.append(cell)
            for cell, outcome in zip(names, fan_out.run(cells, fresh), strict=True):
                with self._outcome(cell):
                    if isinstance(outcome, BaseException):
                        raise outcome
                    self.outcomes[cell.signature] = "done"

    @contextmanager
    def _outcome(self, cell: PlannedCell) -> Iterator[None]:
        """What goes wrong in the block is noted and stays with the cell."""
        try:
            yield
        except Busy as error:
            self.outcomes[cell.signature] = "elsewhere"
            print(f"{cell.label}: {error}", file=sys.stderr, flush=True)
        except BenchError as error:
            self._failed(cell, error)
            print(f"{cell.label}: {error}", file=sys.stderr, flush=True)
        except Exception as error:  # the next cell may well work
            self._failed(cell, error)
            traceback.print_exc()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _failed(self, cell: PlannedCell, error: Exception) -> None:
        self.outcomes[cell.signature] = "failed"
        note_error(self.folder, cell, error)
