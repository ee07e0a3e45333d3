"""The driver with an executor made of plain functions: retries, budgets, cells that others work on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ssft_bench import lease as leases
from ssft_bench import results
from ssft_bench.executors.base import LOST, Executor, Job, Share
from ssft_bench.files import write_json
from ssft_bench.results import ResultRecord
from ssft_bench.spec import resolve
from ssft_bench.sweep.drive import Drive
from ssft_bench.sweep.grid import Grid
from ssft_bench.sweep.plan import Plan, write_plan
from ssft_bench.sweep.state import GIVEN_UP, states
from ssft_bench.sweep.work import BEGUN
from tests.sweep.test_plan import planned

Worker = Callable[[Plan, Path, int], int]
"""What a job does when it is polled for the first time: files, and an exit code."""


class Ended(Job):
    def __init__(self, code: int) -> None:
        self.label, self.code = "toy", code

    def poll(self) -> int | None:
        return self.code

    def cancel(self) -> None:
        pass


class Functions(Executor):
    """Runs shares in this process at once."""

    def __init__(self, plan: Plan, worker: Worker, slots: int | None = 2) -> None:
        self.plan, self.worker, self.slots = plan, worker, slots
        self.submitted: list[int] = []

    def submit(self, shares: Sequence[Share]) -> list[Job]:
        assert self.slots is None or len(shares) <= self.slots
        self.submitted += [share.index for share in shares]
        return [Ended(self.worker(self.plan, share.plan, share.index)) for share in shares]


SPEC = resolve(upstream="fbank", interface="weighted_sum", task="pr")


def finish(plan: Plan, number: int, status: str = "done", error: str | None = None) -> None:
    """What a worker leaves of a cell."""
    folder = plan.place(plan.cells[number])
    record = ResultRecord(status=status, signature="x", spec=SPEC, error=error)  # type: ignore[arg-type]
    results.save(folder, record)
    if status == "done":
        (folder / "predictions.jsonl").touch()


def begin(folder: Path, share: int, plan: Plan, number: int) -> None:
    write_json(folder / BEGUN / str(share), plan.cells[number].signature)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two shares of three cells."""
    cells = tuple(planned(n, "ab"[n // 3]) for n in range(6))
    grid = Grid(upstreams=("u",), interfaces=("i",), tasks=("t",))
    made = Plan(
        grid=grid, cells=cells, left_out=(), shares=((0, 1, 2), (3, 4, 5)), out=str(tmp_path)
    )
    write_plan(made, tmp_path / "plan")
    return made


def drive(plan: Plan, worker: Worker, retries: int = 2, **more: str) -> tuple[list[str], Functions]:
    executor = Functions(plan, worker)
    folder = Path(plan.out) / "plan"
    found = Drive(plan, folder, executor, retries, poll_seconds=0.0).run(**more)  # type: ignore[arg-type]
    return [one.status for one in found], executor


def done_already(plan: Plan, number: int) -> bool:
    return (plan.place(plan.cells[number]) / "predictions.jsonl").exists()


def skipped(plan: Plan, folder: Path, number: int) -> bool:
    return (folder / GIVEN_UP / plan.cells[number].signature).exists()


def worker_with(fate: dict[int, Callable[[Plan, int], int | None]]) -> Worker:
    """A worker that finishes its cells in turn, but for those with a fate: a code ends the worker."""

    def work(plan: Plan, folder: Path, share: int) -> int:
        failed = False
        for number in plan.shares[share]:
            if done_already(plan, number) or skipped(plan, folder, number):
                continue
            begin(folder, share, plan, number)
            if number in fate:
                code = fate[number](plan, number)
                if code is not None:
                    return code
                failed = failed or not done_already(plan, number)
            else:
                finish(plan, number)
        return 4 if failed else 0

    return work


def test_everything_is_done_once(plan: Plan) -> None:
    found, executor = drive(plan, worker_with({}))
    assert found == ["done"] * 6
    assert executor.submitted == [0, 1]
    again, executor = drive(plan, worker_with({}))
    assert again == ["done"] * 6
    assert executor.submitted == []


def test_a_killer_is_given_up_and_the_cells_behind_it_are_done(plan: Plan) -> None:
    found, executor = drive(plan, worker_with({1: lambda plan, n: LOST}))
    assert found == ["done", "failed", "done", "done", "done", "done"]
    assert (
        executor.submitted.count(0) == 4
    )  # the first try, two more, and one for the cell behind it
    assert executor.submitted.count(1) == 1
    note = next(s.note for s in states(plan, Path(plan.out) / "plan") if s.status == "failed")
    assert "vanished 3 times" in note
    assert "0.log" in note


def test_a_worker_that_dies_once_costs_nothing(plan: Plan) -> None:
    deaths = []

    def once(plan: Plan, number: int) -> int | None:
        deaths.append(number)
        if len(deaths) == 1:
            return LOST
        finish(plan, number)
        return None

    found, _ = drive(plan, worker_with({4: once}))
    assert found == ["done"] * 6
    assert deaths == [4, 4]


@pytest.mark.parametrize(("error", "tries"), [
    ("CheckFailed: loss was not finite", 1), ("OSError: no space left on device", 3),
])  # fmt: skip
def test_failures_of_their_own_are_not_tried_again_and_chance_is(
    plan: Plan, error: str, tries: int
) -> None:
    seen = []

    def fail(plan: Plan, number: int) -> None:
        seen.append(number)
        finish(plan, number, "failed", error)

    found, _ = drive(plan, worker_with({2: fail}))
    assert found == ["done", "done", "failed", "done", "done", "done"]
    assert len(seen) == tries
    again, _ = drive(plan, worker_with({2: fail}), overwrite="missing")
    assert again == found
    assert len(seen) == tries  # left alone
    drive(plan, worker_with({}))  # by default it is tried again
    assert [s.status for s in states(plan, Path(plan.out) / "plan")] == ["done"] * 6


def test_a_worker_that_never_begins_does_not_run_for_ever(plan: Plan) -> None:
    starts = []

    def broken(plan: Plan, folder: Path, share: int) -> int:
        starts.append(share)
        return 1

    found, _ = drive(plan, broken)
    assert found == ["failed"] * 6
    assert len(starts) == 6  # three tries for each share


def test_a_cell_left_undone_without_a_word_does_not_run_for_ever(plan: Plan) -> None:
    found, _ = drive(plan, worker_with({0: lambda plan, n: None}))
    assert found == ["failed", *["done"] * 5]


def test_cells_of_another_driver_are_waited_for_and_not_submitted(
    plan: Plan, tmp_path: Path
) -> None:
    held = [plan.place(plan.cells[n]) for n in (3, 4, 5)]
    lease_text = json.dumps({"host": leases._machine()[0], "boot": leases._machine()[1],
                             "pid": os.getppid(), "token": "t"})  # fmt: skip
    for n, place in zip((3, 4, 5), held, strict=True):
        place.mkdir(parents=True)
        (place / leases.NAME).write_text(lease_text)
        results.save(place, ResultRecord(status="running", signature=f"s{n}", spec=SPEC))
    rounds = []

    def notice(drive: Drive) -> None:
        rounds.append(list(drive.waiting))
        if len(rounds) == 3:  # the other driver finishes
            for n, place in zip((3, 4, 5), held, strict=True):
                finish(plan, n)
                (place / leases.NAME).unlink()

    executor = Functions(plan, worker_with({}))
    found = Drive(plan, tmp_path / "plan", executor, poll_seconds=0.0, notice=notice).run()
    assert [one.status for one in found] == ["done"] * 6
    assert rounds[1] == [1]
    assert executor.submitted.count(0) == 1
    assert executor.submitted.count(1) <= 1  # at most to find that all is done


def test_stopping_the_driver_cancels_its_workers(plan: Plan, tmp_path: Path) -> None:
    cancelled = []

    class Endless(Ended):
        def poll(self) -> int | None:
            return None

        def cancel(self) -> None:
            cancelled.append(self)

    class Starts(Functions):
        def submit(self, shares: Sequence[Share]) -> list[Job]:
            return [Endless(0) for _ in shares]

    def stop(drive: Drive) -> None:
        raise KeyboardInterrupt

    executor = Starts(plan, worker_with({}))
    with pytest.raises(KeyboardInterrupt):
        Drive(plan, tmp_path / "plan", executor, poll_seconds=0.0, notice=stop).run()
    assert len(cancelled) == 2
