"""The command line: one function per command; torch is imported only inside the commands."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ssft_bench import __version__
from ssft_bench.analysis.commands import analyse_app
from ssft_bench.checkpoints.commands import export_command, import_checkpoint_command
from ssft_bench.comparison.commands import compare
from ssft_bench.data_commands import data_app
from ssft_bench.errors import BenchError
from ssft_bench.feature_store.commands import cache_app
from ssft_bench.leaderboard.commands import leaderboard_app
from ssft_bench.model_card.commands import card
from ssft_bench.ngram import lm_app
from ssft_bench.ranks import rank
from ssft_bench.report.commands import report_command
from ssft_bench.sweep.commands import EXITS as SWEEP_EXITS
from ssft_bench.sweep.commands import plan_command, status_command, sweep_command, work_command
from ssft_bench.tracking.options import TensorBoardFlag, TrackerNames, chosen
from ssft_bench.tuning.commands import tune

app = typer.Typer(
    help="Benchmark self-supervised fine-tuning of speech models and the interfaces to their layers.",
    epilog="Example: ssft-bench run --upstream hubert_mini --interface hconv --task asr",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(leaderboard_app, name="leaderboard")
check_app = typer.Typer(help="Does a plug-in keep its contract?", no_args_is_help=True)
app.add_typer(check_app, name="check")
app.add_typer(analyse_app, name="analyse")
app.add_typer(data_app, name="data")
app.add_typer(cache_app, name="cache")
app.add_typer(lm_app, name="lm")


class Overwrite(StrEnum):
    """What to do when a run has been tried before."""

    missing = "missing"
    failed = "failed"
    always = "always"


class Kind(StrEnum):
    """What can be listed."""

    upstreams = "upstreams"
    interfaces = "interfaces"
    tasks = "tasks"
    suites = "suites"
    corpora = "corpora"
    methods = "methods"
    sweeps = "sweeps"


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Entry point: a user's mistake ends in one line and an exit code, not in a traceback."""
    if rank() > 0:  # of several devices, the first prints
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    try:
        app()
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)


def _version(show: bool) -> None:
    if show:
        print(f"ssft-bench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Exit codes: 0 done, 1 failed, 2 bad usage, 3 missing data or weights.")
def run(
    upstream: Annotated[str, typer.Option(help="Name, name:option=value, or file.py:Class.")],
    interface: Annotated[str, typer.Option(help="Name, name:option=value, or file.py:Class.")],
    task: Annotated[str, typer.Option(help="asr, pr, qbe, ner, sa, or another.")],
    suite: Annotated[
        str,
        typer.Option(
            help="mini (embedded), pocket (small recorded corpora), full (official ones)."
        ),
    ] = "mini",
    corpus: Annotated[str | None, typer.Option(help="Another corpus than the suite's.")] = None,
    data: Annotated[str | None, typer.Option(help="Folder that holds the corpus.")] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Checkpoint of an SSFT upstream (score_hubert, ...).")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="frozen, finetuned or training-free; default: the task's first."),
    ] = None,
    trainable: Annotated[
        str | None,
        typer.Option(help="Protocol finetuned: all, top:K, lora:r=8 or adapter:32."),
    ] = None,
    lr_grid: Annotated[
        str | None,
        typer.Option(help="Train each of these learning rates, pick on dev: 1e-4,5e-4,1e-3."),
    ] = None,
    lm: Annotated[
        str | None, typer.Option(help="KenLM n-gram: the test split is also decoded with it.")
    ] = None,
    lexicon: Annotated[
        str | None, typer.Option(help="Lexicon for --lm; default: the words of the training split.")
    ] = None,
    interface_from: Annotated[
        str | None, typer.Option(help="Training-free tasks: the trained interface of this run.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 1,
    control: Annotated[
        str | None,
        typer.Option(
            help="matched-head: weighted_sum instead, its head enlarged by the interface's parameters."
        ),
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the resolved run; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of all results.")] = Path("runs"),
    overwrite: Annotated[
        Overwrite,
        typer.Option(
            help="missing: leave failed runs alone; failed: try them again; always: anew."
        ),
    ] = Overwrite.failed,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    devices: Annotated[int, typer.Option(help="Number of devices.")] = 1,
    tensorboard: TensorBoardFlag = False,
    tracker: TrackerNames = None,
    as_json: AsJson = False,
) -> None:
    """Train and score one cell: an upstream through an interface on a task.

    A finished run is answered from its folder; a killed one goes on from its last checkpoint.
    """
    passed = {k: v for k, v in locals().items() if v is not None and k not in ("out", "as_json")}
    from ssft_bench import results, spec

    trackers = chosen(tracker, tensorboard)
    results.check_writable(out)
    resolved = spec.resolve(
        upstream=upstream, interface=interface, task=task, suite=suite, corpus=corpus, data=data,
        protocol=protocol, seed=seed, sets=sets or [], control=control, checkpoint=checkpoint,
        trainable=trainable, lr_grid=spec.rates(lr_grid), lm=lm, lexicon=lexicon,
        interface_from=interface_from,
    )  # fmt: skip
    from ssft_bench import runner, tables
    from ssft_bench.cell import Machine

    answer = runner.run(
        resolved,
        out,
        overwrite=overwrite.value,
        args_passed={k: v.value if isinstance(v, StrEnum) else v for k, v in passed.items()},
        machine=Machine(device, devices, trackers),
    )
    if as_json:
        print(answer.record.model_dump_json(indent=2))
    else:
        tables.print_run(answer.folder, answer.record, answer.stored)


app.command(epilog="Exit codes: 0 done, 1 failed, 2 bad usage, 3 missing data or weights.")(tune)
app.command(epilog="Exit codes: 0 compared, 2 bad usage or not comparable, 3 missing data.")(
    compare
)
for command_name, command in (
    ("plan", plan_command),
    ("sweep", sweep_command),
    ("work", work_command),
    ("status", status_command),
):
    app.command(command_name, epilog=SWEEP_EXITS)(command)
app.command("import")(import_checkpoint_command)
app.command("export")(export_command)
app.command(epilog="Exit codes: 0 done, 2 bad usage, 3 not a checkpoint.")(card)
app.command("report", epilog="Exit codes: 0 done, 2 bad usage, 3 no run there.")(report_command)


@app.command("list")
def list_names(
    kind: Annotated[Kind, typer.Argument(help="What to list.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Upstreams: s3prl's own names too (takes seconds).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List what can be named: built in, from installed packages, and broken plug-ins with their error."""
    from ssft_bench import tables

    tables.print_list(listing(kind.value, everything), kind.value, as_json)


def listing(kind: str, everything: bool = False) -> list[dict[str, Any]]:
    """Rows of `list`: name, origin, summary, error."""
    from ssft_bench import registry
    from ssft_bench.suites import SUITES

    if kind == "suites":
        return [
            {"name": n, "origin": "built-in", "summary": s, "error": None}
            for n, s in SUITES.items()
        ]
    if kind == "sweeps":
        from ssft_bench.sweep.grid import load_grid, packaged_sweeps

        return [
            {"name": n, "origin": "built-in", "summary": load_grid(p, {}).about, "error": None}
            for n, p in packaged_sweeps().items()
        ]
    rows = [
        {"name": p.name, "origin": p.origin, "summary": p.summary, "error": registry.broken(p)}
        for p in registry.plugins(kind)
    ]
    names = [row["name"] for row in rows]
    for row in rows:
        if names.count(row["name"]) > 1 and not row["error"]:
            row["error"] = "name claimed twice; see CONTRIBUTING"
    if everything and kind == "upstreams":
        known = set(names)
        rows += [
            {"name": n, "origin": "s3prl", "summary": "", "error": None}
            for n in sorted(registry.s3prl_hub().options())
            if n not in known
        ]
    return rows


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="An upstream, interface, task, suite or corpus.")],
    as_json: AsJson = False,
) -> None:
    """Show what a name stands for: summary, options with defaults, recipe, model card."""
    from ssft_bench import cards

    card = cards.describe(name)
    print(json.dumps(card, indent=2, ensure_ascii=False) if as_json else cards.text(card))


@check_app.command("interface", epilog="Exit codes: 0 all passed, 1 a check failed, 2 bad usage.")
def check_interface(
    name: Annotated[str, typer.Argument(help="Name, name:option=value, or file.py:Class.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Also write the report to this file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check an interface: padding, views, types, gradients, saving, few frames, layers, memory.

    Takes seconds and needs no data. Prints a Markdown report with what to do about each failure.
    """
    from ssft_bench.conformance.report import Status, check_target, write

    check_target(out)
    from ssft_bench.conformance.checks import check_interface as check

    report = check(name)
    if as_json:
        print(json.dumps(report.as_dict(), indent=2, ensure_ascii=False, default=str))
    else:
        print(report.markdown(), end="")
    write(report, out)
    if report.count(Status.failed):
        raise typer.Exit(1)


@app.command()
def doctor(
    data: Annotated[str | None, typer.Option(help="Folder with corpora to look at.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check the installation: versions, devices, embedded data and weights, corpora, disk."""
    from ssft_bench import doctor as doctor_module
    from ssft_bench import tables

    findings = doctor_module.examine(data)
    tables.print_doctor(findings, as_json)
    if any(f["status"] == "broken" for f in findings):
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
