"""What a training loop logs to, beside its own log.jsonl; a tracker that breaks breaks nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ssft_bench.tracking.choice import TrackerChoice


class Tracker(Protocol):
    """Where numbers go. Anything may be raised: the run goes on without the tracker."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take the numbers of a step; steps never go back, a step can come twice with other names."""
        ...

    def close(self) -> None:
        """Write what is still held. Called once, also when the training failed."""
        ...


@dataclass(frozen=True)
class Place:
    """What a tracker is told when it is opened."""

    folder: Path
    """Where to write."""
    own_folder: bool
    """Whether no other run writes there."""
    title: str
    """The run's name: upstream/interface/task."""
    signature: str
    """Of the run."""
    config: Mapping[str, Any]
    """The resolved specification."""
    step: int
    """Updates that an earlier part of the run has done; 0 for a fresh one."""


@dataclass(frozen=True)
class Tracking:
    """The trackers of a run."""

    choices: tuple[TrackerChoice, ...] = ()
    title: str = ""
    signature: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)

    def open(self, folder: Path, step: int, events: list[dict[str, Any]]) -> OpenTrackers:
        """Open every tracker for a training in `folder` from `step` on; failures go to `events`."""
        found = OpenTrackers(events)
        for choice in self.choices:
            place = Place(
                folder=choice.folder or folder / choice.name,
                own_folder=choice.folder is None,
                title=self.title,
                signature=self.signature,
                config=self.config,
                step=step,
            )
            found.add(choice.name, place)
        return found


class OpenTrackers:
    """Trackers in use. What one raises becomes an event, once, and that one is left out from then on."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        """No tracker yet."""
        self._open: dict[str, Tracker] = {}
        self._events = events

    def add(self, name: str, place: Place) -> None:
        """Open a tracker."""
        from ssft_bench.tracking.backends import BACKENDS

        def start() -> None:
            self._open[name] = BACKENDS[name](place)

        self._try(name, start)

    def log(self, row: Mapping[str, float]) -> None:
        """Give a line of log.jsonl to every tracker."""
        numbers = {key: float(value) for key, value in row.items() if key != "step"}
        for name, tracker in list(self._open.items()):
            self._try(name, lambda t=tracker: t.log(int(row["step"]), numbers))  # type: ignore[misc]

    def close(self) -> None:
        """Close every tracker that still works."""
        for name, tracker in list(self._open.items()):
            self._try(name, tracker.close)
        self._open.clear()

    def _try(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # whatever it is, no number depends on it
            self._open.pop(name, None)
            text = str(error).strip().partition("\n")[0]
            event = {
                "kind": "tracker_failed",
                "tracker": name,
                "error": f"{type(error).__name__}: {text}",
            }
            if event not in self._events:  # a resumed run has the old ones
                self._events.append(event)
