"""`--tracker` and `--tensorboard`, the same for every command that trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from ssft_bench.errors import UsageError
from ssft_bench.tracking.choice import TrackerChoice, check_trackers, parse_tracker

TrackerNames = Annotated[
    list[str] | None,
    typer.Option(
        "--tracker",
        help="Also log to tensorboard, wandb (offline) or mlflow (local files); name:folder for one "
        "folder of many runs; repeatable.",
    ),
]
TensorBoardFlag = Annotated[bool, typer.Option(help="Short for --tracker tensorboard.")]


def chosen(names: Sequence[str] | None, tensorboard: bool) -> tuple[TrackerChoice, ...]:
    """The trackers that were asked for, checked before any work.

    Raises UsageError for an unknown or repeated tracker, MissingError for an absent package.
    """
    asked = [*(["tensorboard"] if tensorboard else []), *(names or [])]
    choices = tuple(map(parse_tracker, asked))
    for choice in choices:
        if sum(other.name == choice.name for other in choices) > 1:
            raise UsageError(f"--tracker {choice.name}: asked for twice")
    check_trackers(choices)
    return choices
