"""`ssft-bench leaderboard ...`: tables, verification, reference records, published numbers."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ssft_bench.errors import UsageError

leaderboard_app = typer.Typer(
    help="Tables from results; do their numbers hold?", no_args_is_help=True
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder of results.")]
OwnReference = Annotated[
    Path | None,
    typer.Option("--reference", help="Your own reference folder; default: the package's."),
]


class SeedsName(StrEnum):
    """Rows of a table."""

    each = "each"
    mean = "mean"


class PivotName(StrEnum):
    """What lies across the page."""

    upstream = "upstream"
    interface = "interface"
    task = "task"


@leaderboard_app.command("build", epilog="Exit codes: 0 done, 2 bad usage, 3 no finished run.")
def build_command(
    runs: Runs = Path("runs"),
    to: Annotated[
        Path | None, typer.Option(help="Folder for leaderboard.csv and .md; default: --runs.")
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="Any of csv,md,latex,html, with commas between.")
    ] = "csv,md",
    seeds: Annotated[
        SeedsName,
        typer.Option(
            help="each: a row for each run; mean: runs that differ only in the seed are one."
        ),
    ] = SeedsName.each,
    base: Annotated[
        str | None,
        typer.Option(
            help="Differences are to this upstream by the same interface, or to upstream/interface; "
            "default: to the best row."
        ),
    ] = None,
    pivot: Annotated[
        PivotName | None, typer.Option(help="Rows x columns: what lies across the page.")
    ] = None,
    significance: Annotated[
        bool, typer.Option(help="Paired tests of every row; --no-significance leaves them out.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Make tables of all finished runs, and print them as Markdown.

    Best bold, second best italic (underlined in LaTeX and HTML); arrows say which way is better; * and †
    mark what a paired test with Holm's correction calls better or worse than the reference row.
    Example: ssft-bench leaderboard build --seeds mean --base hubert_mini --format md,latex
    """
    from ssft_bench import leaderboard

    forms = [part.strip() for part in form.split(",") if part.strip()]
    unknown = [part for part in forms if part not in leaderboard.FORMATS]
    if unknown or not forms:
        raise UsageError(f"--format {form}: give any of {', '.join(leaderboard.FORMATS)}")
    table = leaderboard.build(runs, seeds=seeds.value, base=base, significance=significance)
    if base is not None and base.partition("/")[0] not in set(table["upstream"]):
        known = ", ".join(sorted(set(table["upstream"])))
        raise UsageError(f"--base {base}: no run of that upstream; there are: {known}")
    paths = leaderboard.write(table, to or runs, forms, pivot.value if pivot else None)
    if as_json:
        print(table.to_json(orient="records", indent=2))
        return
    print(leaderboard.render(table, "md", pivot.value if pivot else None), end="")
    print(f"written: {', '.join(map(str, paths))}", file=sys.stderr)


@leaderboard_app.command(
    "verify", epilog="Exit codes: 0 nothing moved, 1 something did, 3 missing."
)
def verify_command(
    runs: Annotated[
        Path | None,
        typer.Option(
            "--runs", help="Also look at these results; default: runs, where it is there."
        ),
    ] = None,
    against: Annotated[
        str, typer.Option(help="published, reference, or both with a comma between.")
    ] = "published,reference",
    reference: OwnReference = None,
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Run the cells of --set again from scratch (minutes).")
    ] = False,
    chosen: Annotated[
        str, typer.Option("--set", help="Set of reference cells for --rerun.")
    ] = "ci",
    task: Annotated[
        list[str] | None, typer.Option(help="--rerun: only cells of this task; repeatable.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="--rerun: folder that holds the corpora.")
    ] = None,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Nothing may move: on the machine that made the reference."),
    ] = False,
    worse_only: Annotated[
        bool, typer.Option("--worse-only", help="Only a change for the worse counts as moved.")
    ] = False,
    limit: Annotated[int, typer.Option(min=0, help="Changed utterances that are named.")] = 10,
    everything: Annotated[bool, typer.Option("--all", help="List what holds, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Do the numbers hold? Says which moved, and which utterances moved them.

    Published numbers: sealed digests, official scores and quoted gains recomputed. Committed records:
    every prediction rescored, boards rebuilt. Results: beside the reference, published numbers, and the
    papers' gains. Tolerances are in the reference file, one for each number.
    Example: ssft-bench leaderboard verify --rerun
    """
    from ssft_bench.regression.against import Rules
    from ssft_bench.regression.verify import Request, verify

    sides = [part.strip() for part in against.split(",") if part.strip()]
    if not sides or set(sides) - {"published", "reference"}:
        raise UsageError(f"--against {against}: give published, reference or both")
    if runs is None and reference is None and Path("runs").is_dir():
        runs = _with_results(Path("runs"))
    report = verify(
        Request(
            runs,
            reference,
            sides,
            chosen if rerun else None,
            task or (),
            data,
            Rules(exact, worse_only, limit),
        )
    )
    if as_json:
        print(json.dumps(report.as_dict(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print(report.text(everything))
    if report.failing:
        raise typer.Exit(1)


def _with_results(folder: Path) -> Path | None:
    """The folder if it holds finished runs; nobody asked for it by name."""
    from ssft_bench.leaderboard.entries import finished

    return folder if finished([folder]) else None


@leaderboard_app.command("adopt", epilog="Exit codes: 0 done, 1 a run is not sound, 2, 3.")
def adopt_command(
    runs: Annotated[Path, typer.Argument(help="Folder of finished runs.")],
    into: Annotated[str, typer.Option(help="Set of the reference: mini, pocket, ci, or another.")],
    reference: OwnReference = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Drop committed records that are not among the runs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make finished runs the reference: result.json and predictions.jsonl, without this machine's paths.

    Each run is rescored first. The set's numbers with tolerances are written to <set>.csv; edit a
    tolerance and set tolerance_from to hand to keep it. The package's six boards are built anew.
    Example: ssft-bench leaderboard adopt runs/mini --into mini
    """
    from ssft_bench.leaderboard.adopt import adopt
    from ssft_bench.leaderboard.boards import record_folders, write_boards
    from ssft_bench.published.rows import leaderboards_folder

    folder = reference or leaderboards_folder() / "reference"
    done = adopt(runs, into, folder, prune=prune)
    boards = []
    if reference is None and record_folders(folder):
        boards = write_boards(folder, leaderboards_folder())
    if as_json:
        rows = [
            {"folder": str(d.folder), "replaced": d.replaced, "remarks": d.remarks} for d in done
        ]
        print(json.dumps({"adopted": rows, "boards": list(map(str, boards))}, indent=2))
        return
    for one in done:
        gone = f", in place of {', '.join(one.replaced)}" if one.replaced else ""
        print(f"{one.folder}{gone}{''.join(f' ({remark})' for remark in one.remarks)}")
    print(f"written: {', '.join(map(str, [folder / f'{into}.csv', *boards]))}", file=sys.stderr)


@leaderboard_app.command(
    "boards", epilog="Exit codes: 0 done, 1 --check found one stale, 3 no records."
)
def boards_command(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; are they what the records give?")
    ] = False,
) -> None:
    """Build the package's six boards (asr, pr, qbe, ner, sa, overall) from its committed records alone.

    Example: ssft-bench leaderboard boards --check
    """
    from ssft_bench.errors import CheckFailed
    from ssft_bench.leaderboard.boards import stale_boards, write_boards
    from ssft_bench.published.rows import leaderboards_folder

    folder = leaderboards_folder()
    if not check:
        print("\n".join(map(str, write_boards(folder / "reference", folder))))
        return
    stale = stale_boards(folder / "reference", folder)
    if stale:
        raise CheckFailed(f"{'; '.join(stale)}. 'ssft-bench leaderboard boards' builds them anew")
    print("the six boards are what the committed records give")


@leaderboard_app.command("published", epilog="Exit codes: 0 done, 1 a row breaks the schema.")
def published_command(
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    upstream: Annotated[str | None, typer.Option(help="Only this base upstream.")] = None,
    seal: Annotated[
        bool,
        typer.Option(
            "--seal", help="Write the digests anew, after rows were checked by their source."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the published numbers with source, status and citation.

    Example: ssft-bench leaderboard published --task qbe --upstream hubert_base
    """
    from ssft_bench.published.checksums import seal as write
    from ssft_bench.published.citations import cited_as
    from ssft_bench.published.rows import load, published_folder

    rows = load()
    if seal:
        print(f"written: {write(published_folder(), rows)}", file=sys.stderr)
        return
    keys = cited_as(published_folder())
    shown = [r for r in rows if task in (None, r.task) and upstream in (None, r.upstream)]
    if as_json:
        dumped = [{**r.model_dump(exclude={"text"}), "citation": keys[r.source]} for r in shown]
        print(json.dumps(dumped, indent=2, ensure_ascii=False))
        return
    for r in shown:
        model = r.upstream if r.method == "none" else f"{r.upstream} + {r.method}"
        cell = " ".join(part for part in (r.task, r.split, r.metric) if part)
        print(
            f"{model:<34} {r.interface or '-':<16} {cell:<44} {r.text:>9} {r.unit:<10} {r.status:<11} "
            f"{keys[r.source]}"
        )
    print(f"{len(shown)} of {len(rows)} numbers", file=sys.stderr)
