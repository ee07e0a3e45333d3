"""Which trackers are asked for, and whether they can be had; nothing of them is imported here."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ssft_bench.errors import MissingError, UsageError
from ssft_bench.names import unknown

PACKAGES = {
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb",),
    "mlflow": ("mlflow", "mlflow-skinny"),
}
"""Packages of each tracker; any one of them will do."""


@dataclass(frozen=True)
class TrackerChoice:
    """A tracker by name, and where it writes."""

    name: str
    folder: Path | None = None
    """None: a folder of the tracker's name inside the run's."""


def parse_tracker(text: str) -> TrackerChoice:
    """`mlflow` or `mlflow:folder`. Raises UsageError for a tracker that nobody knows."""
    name, colon, folder = text.partition(":")
    if name not in PACKAGES:
        raise unknown("tracker in --tracker", name, PACKAGES)
    if colon and not folder:
        raise UsageError(f"--tracker {text}: name a folder after the colon, or leave it out")
    return TrackerChoice(name, Path(folder).expanduser() if folder else None)


def check_trackers(choices: Iterable[TrackerChoice]) -> None:
    """Raise MissingError, naming the extra, where a tracker's package is not installed, and UsageError
    where its folder cannot be written to."""
    for choice in choices:
        if not any(map(_installed, PACKAGES[choice.name])):
            raise MissingError(
                f"--tracker {choice.name}: the package {' or '.join(PACKAGES[choice.name])} is not "
                "installed; pip install 'ssft-bench[tracking]'"
            )
        if choice.folder is None:
            continue
        try:
            choice.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"--tracker {choice.name}:{choice.folder}: cannot write there ({error.strerror})"
            ) from error
        if not os.access(choice.folder, os.W_OK):
            raise UsageError(f"--tracker {choice.name}:{choice.folder}: cannot write there")


def _installed(package: str) -> bool:
    """By its metadata: a folder that a tracker left in the working directory can be imported too."""
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False
