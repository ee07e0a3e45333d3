"""`ssft-bench plan`, `sweep`, `work`, `status`: torch is imported only inside."""

from __future__ import annotations

import json
import signal
import sys
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssft_bench.errors import CellsFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ssft_bench.sweep.plan import Plan
    from ssft_bench.sweep.state import CellState

EXITS = "Exit codes: 0 done, 1 failed, 2 bad usage, 3 missing data or weights, 4 some cells failed."


class Overwrite(StrEnum):
    """What becomes of cells that failed in an earlier sweep."""

    missing = "missing"
    failed = "failed"


GridFile = Annotated[
    str | None,
    typer.Argument(help="Sweep file, or a name of `ssft-bench list sweeps`.", metavar="[GRID]"),
]
Upstreams = Annotated[str | None, typer.Option(help="Comma separated; name:option=value works.")]
Interfaces = Annotated[str | None, typer.Option(help="Comma separated; name:option=value works.")]
Tasks = Annotated[str | None, typer.Option(help="Comma separated: asr,pr,qbe,ner,sa.")]
Seeds = Annotated[str | None, typer.Option(help="Comma separated whole numbers; default 1.")]
Suite = Annotated[str | None, typer.Option(help="mini, pocket or full: the same grid there.")]
Corpus = Annotated[str | None, typer.Option(help="Another corpus than the suite's.")]
Protocol = Annotated[
    str | None, typer.Option(help="frozen, finetuned or training-free; default: each task's first.")
]
Data = Annotated[str | None, typer.Option(help="Folder that holds the corpora.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="key=value of every resolved run; repeatable.")
]
States = Annotated[
    str | None,
    typer.Option(help="bfloat16 (default) or float32: how hidden states are kept; part of a cell."),
]
Out = Annotated[Path, typer.Option(help="Folder of all results.")]
PerShare = Annotated[
    int | None,
    typer.Option(min=1, help="Cells a worker does in turn; default: by the number of workers."),
]
CacheGib = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Quota of the feature store, GiB; 0: hidden states stay in memory. "
        "Default: SSFT_BENCH_CACHE_GIB, else 100 or half of the disk.",
    ),
]
Cache = Annotated[Path | None, typer.Option(help="Folder of the feature store.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")]
Devices = Annotated[int, typer.Option(min=1, help="Devices of one cell.")]
Jobs = Annotated[
    int | None, typer.Option(min=1, help="Local workers; default: one a core, or one a GPU.")
]
ExecutorName = Annotated[
    str, typer.Option(help="local, ray:address=..., slurm:partition=...,time=60,cpus=2.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def plan_command(
    grid: GridFile = None,
    upstreams: Upstreams = None,
    interfaces: Interfaces = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    suite: Suite = None,
    corpus: Corpus = None,
    protocol: Protocol = None,
    data: Data = None,
    sets: Sets = None,
    states: States = None,
    out: Out = Path("runs"),
    per_share: PerShare = None,
    cache_gib: CacheGib = None,
    cache: Cache = None,
    device: Device = "auto",
    devices: Devices = 1,
    jobs: Jobs = None,
    executor: ExecutorName = "local",
    as_json: AsJson = False,
) -> None:
    """Resolve every cell of a grid without running any: state, hours, disk, what is shared or left out."""
    from ssft_bench.sweep import report

    flags = _flags(upstreams, interfaces, tasks, seeds, suite=suite, corpus=corpus, protocol=protocol,
                   data=data, states=states, set=tuple(sets or ()))  # fmt: skip
    made, folder, slots = _planned(
        grid, flags, out, per_share, cache_gib, cache, device, devices, jobs, executor
    )
    if as_json:
        print(json.dumps(report.plan_json(made, folder, slots), indent=2))
    else:
        report.print_plan(made, folder, slots)


def sweep_command(
    grid: GridFile = None,
    upstreams: Upstreams = None,
    interfaces: Interfaces = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    suite: Suite = None,
    corpus: Corpus = None,
    protocol: Protocol = None,
    data: Data = None,
    sets: Sets = None,
    states: States = None,
    out: Out = Path("runs"),
    overwrite: Annotated[
        Overwrite, typer.Option(help="missing: leave failed cells alone; failed: try them again.")
    ] = Overwrite.failed,
    retries: Annotated[
        int,
        typer.Option(
            min=0, help="Times a cell is tried again that killed its worker or met chance."
        ),
    ] = 2,
    per_share: PerShare = None,
    cache_gib: CacheGib = None,
    cache: Cache = None,
    device: Device = "auto",
    devices: Devices = 1,
    jobs: Jobs = None,
    executor: ExecutorName = "local",
    as_json: AsJson = False,
) -> None:
    """Run a grid of upstreams x interfaces x tasks x seeds; hidden states of an upstream are computed once.

    Called again it goes on: finished cells are answered from their folders, killed ones resume. A cell that
    fails is listed and does not stop the others.
    """
    from ssft_bench.executors import open_executor
    from ssft_bench.sweep import display
    from ssft_bench.sweep.drive import Drive
    from ssft_bench.sweep.estimate import Estimate
    from ssft_bench.sweep.state import states as states_of

    flags = _flags(upstreams, interfaces, tasks, seeds, suite=suite, corpus=corpus, protocol=protocol,
                   data=data, states=states, set=tuple(sets or ()))  # fmt: skip
    made, folder, slots = _planned(
        grid, flags, out, per_share, cache_gib, cache, device, devices, jobs, executor
    )
    found = list(states_of(made, folder))
    if any(one.status != "done" for one in found):
        estimate = Estimate.of(made, slots or 1)
        with display.Watch(made, folder, estimate) as watch, _terminable():
            drive = Drive(made, folder, open_executor(executor, jobs), retries, notice=watch)
            found = drive.run(overwrite.value)
    _end(made, folder, found, as_json)


def work_command(
    plan: Annotated[Path, typer.Argument(help="Folder of a plan (`ssft-bench plan` prints it).")],
    index: Annotated[int, typer.Option(help="Share of the plan to do.")],
) -> None:
    """Do one share of a plan: what an executor starts, and what you start on a cluster of your own."""
    from ssft_bench.sweep.work import work

    outcomes = work(plan, index)
    failed = sum(outcome in ("failed", "given_up") for outcome in outcomes.values())
    if failed:
        raise CellsFailed(
            f"{failed} of {len(outcomes)} cells failed; ssft-bench status {plan} lists them"
        )


def status_command(
    grid: Annotated[
        str | None, typer.Argument(help="Folder of a plan, or its name; default: the newest plan.")
    ] = None,
    out: Out = Path("runs"),
    watch: Annotated[bool, typer.Option(help="Go on showing it until everything is done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Where a sweep stands, from files alone: it need not run, or runs on another machine."""
    from ssft_bench.sweep import display, report
    from ssft_bench.sweep.plan import load_plan
    from ssft_bench.sweep.state import states

    folder = report.find_plan(grid, out)
    made = load_plan(folder)
    if watch and not as_json:
        report.watch(made, folder)
    found = list(states(made, folder))
    if as_json:
        print(json.dumps(report.status_json(made, folder, found), indent=2))
    else:
        display.print_states(made, found)


def _flags(
    upstreams: str | None, interfaces: str | None, tasks: str | None, seeds: str | None, **others: Any
) -> dict[str, Any]:  # fmt: skip
    from ssft_bench.sweep.grid import comma_separated, seeds_of

    axes = {"upstreams": upstreams, "interfaces": interfaces, "tasks": tasks}
    return {
        **{name: comma_separated(text) for name, text in axes.items()},
        "seeds": seeds_of(seeds),
        **others,
    }


def _planned(
    grid: str | None, flags: dict[str, Any], out: Path, per_share: int | None, cache_gib: float | None,
    cache: Path | None, device: str, devices: int, jobs: int | None, executor: str,
) -> tuple[Plan, Path, int | None]:  # fmt: skip
    """The plan, written to its folder, and how many workers there are at once."""
    from ssft_bench import results
    from ssft_bench.executors import slots_of
    from ssft_bench.feature_store import FeatureStore, default_folder, default_quota_gib
    from ssft_bench.progress import Progress
    from ssft_bench.sweep.grid import find_grid, load_grid
    from ssft_bench.sweep.plan import make_plan, with_shares, write_plan

    results.check_writable(out)
    slots = slots_of(executor, jobs)
    loaded = load_grid(find_grid(grid), flags)
    place = (cache or default_folder()).resolve()
    gib = default_quota_gib(place) if cache_gib is None else cache_gib
    if gib:
        FeatureStore(place, gib).check_writable()
    with Progress("plan", len(loaded.cells()), unit="cell") as bar:
        made = make_plan(
            loaded, out.resolve(), notice=bar.advance, device=device, devices=devices,
            store=str(place) if gib else None, store_gib=gib,
        )  # fmt: skip
    made = with_shares(made, per_share, slots)
    return made, write_plan(made, made.folder(out.resolve())), slots


def _end(made: Plan, folder: Path, found: list[CellState], as_json: bool) -> None:
    from ssft_bench.sweep import display, report

    if as_json:
        print(json.dumps(report.status_json(made, folder, found), indent=2))
    else:
        display.print_states(made, found)
        print(f"results: {made.out}; ssft-bench leaderboard build --runs {made.out} makes tables",
              file=sys.stderr)  # fmt: skip
    failed = sum(s.status == "failed" for s in found)
    if failed:
        raise CellsFailed(
            f"{failed} of {len(found)} cells failed; the same command tries them again"
        )


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM stops the workers too, as Ctrl-C does."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
