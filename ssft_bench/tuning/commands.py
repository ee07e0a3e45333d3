"""`ssft-bench tune`; torch is imported only inside."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ssft_bench.tracking.options import TensorBoardFlag, TrackerNames, chosen


def tune(
    method: Annotated[str, typer.Option(help="score, spin, laser, rewire, or file.py:Class.")],
    base: Annotated[str, typer.Option(help="Upstream to tune: name or name:option=value.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the checkpoint.")],
    corpus: Annotated[str | None, typer.Option(help="Another corpus than the recipe's.")] = None,
    data: Annotated[str | None, typer.Option(help="Folder that holds the corpus.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Entry of the method's recipe.yaml; default: by the base.")
    ] = None,
    faithful: Annotated[
        list[str] | None,
        typer.Option(help="Repeat the published code here, not our fix: an option, or all."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed than the recipe's.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the resolved run; repeatable.")
    ] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Forget what the folder holds.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    devices: Annotated[int, typer.Option(help="Number of devices.")] = 1,
    workers: Annotated[int, typer.Option(help="Processes that make views.", min=0)] = 1,
    tensorboard: TensorBoardFlag = False,
    tracker: TrackerNames = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tune a base upstream on speech by a self-supervised method: a checkpoint in the folder.

    Finished work is answered from the folder; a killed run goes on and ends in the same weights.
    """
    passed = {k: v for k, v in locals().items() if v not in (None, False) and k != "out"}
    from ssft_bench import results
    from ssft_bench.tuning import spec

    trackers = chosen(tracker, tensorboard)
    results.check_writable(out)
    resolved = spec.resolve(
        method=method, base=base, corpus=corpus, data=data, recipe=recipe,
        faithful=faithful or [], seed=seed, sets=sets or [],
    )  # fmt: skip
    from ssft_bench.tuning import run

    machine = run.Machine(device, devices, workers, trackers)
    done = run.tune(resolved, out, anew=anew, args_passed=passed, machine=machine)
    if as_json:
        print(done.record.model_dump_json(indent=2))
        return
    record = done.record
    cost = record.cost
    print(f"{done.path}{' (answered from the folder)' if done.stored else ''}")
    print(
        f"{record.spec.method.label} on {record.spec.base.label}, recipe {record.spec.recipe}: "
        f"{cost['updates']} updates, {cost['hours_processed']:.2f} h of speech, "
        f"{cost['seconds']:.0f} s, {cost['parameters']['upstream']['trainable']:,} trainable parameters"
    )
    for option, choice in record.choices.items():
        print(f"  {option}: {choice}")
    for remark, count in record.method.get("remarks", {}).items():
        print(f"  {remark}: {count} views")
    for event in record.events:
        print(f"note: {_said(event)}", file=sys.stderr)


def _said(event: dict[str, Any]) -> str:
    """An event of the record in words."""
    if event["kind"] == "collapse":
        return (
            f"ALARM: {event['number']} fell from {event['start']:.3g} to {event['value']:.3g}: "
            f"{event['meaning']}. Lower train.optimizer.lr or train.steps"
        )
    rest = ", ".join(f"{k} {v}" for k, v in event.items() if k != "kind")
    return f"{event['kind']}: {rest}"
