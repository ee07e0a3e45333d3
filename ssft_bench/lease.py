"""Who works on a folder: a lease with a heartbeat, so that two processes, on one machine or two, never
do the same work, and a killed one's work is free again.

A lease is a file that names its holder and whose time of change is its heartbeat. On the holder's own
machine a dead process is seen at once; from elsewhere a lease is taken to be left behind when its heart
has not beaten for `STALE` seconds. Clocks do not count: a watcher measures how long the heartbeat stands
still with its own clock.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ssft_bench.errors import UsageError
from ssft_bench.files import atomic_path

NAME = ".lease"
BEAT = 5.0
"""Seconds between heartbeats."""
STALE = 60.0
"""Seconds without a heartbeat after which another machine's holder counts as dead."""


class Busy(UsageError):
    """Another process works on the folder."""


@dataclass(frozen=True)
class Holder:
    """Who has a lease."""

    host: str
    boot: str
    """Tells machines of one name apart, and a machine from itself after a restart."""
    pid: int
    token: str

    @property
    def here(self) -> bool:
        """Whether it is a process of this machine."""
        return (self.host, self.boot) == _machine()

    def alive(self) -> bool:
        """Whether a holder of this machine still runs."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@contextmanager
def lease(folder: Path, *, patience: float = 0.0) -> Iterator[None]:
    """Hold a folder's lease for the length of the block, the heart beating in a thread.

    Raises Busy when a living process has it and does not give it back within `patience` seconds. One that
    may be dead on another machine is watched for up to `STALE` seconds, whatever the patience.
    """
    mine = Holder(*_machine(), os.getpid(), secrets.token_hex(8))
    _take(folder, mine, patience)
    done = threading.Event()
    beating = threading.Thread(target=_beat, args=(folder, mine, done), daemon=True)
    beating.start()
    try:
        yield
    finally:
        done.set()
        beating.join()
        with _short_lock(folder):
            if holder(folder) == mine:
                (folder / NAME).unlink(missing_ok=True)


def holder(folder: Path) -> Holder | None:
    """Who holds a folder's lease by its file, dead or alive; None for nobody."""
    try:
        return Holder(**json.loads((folder / NAME).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def worked_on(folder: Path) -> Holder | None:
    """The living holder as seen at a glance: by process here, by the heartbeat's age elsewhere."""
    found = holder(folder)
    if found is None:
        return None
    if found.here:
        return found if found.alive() else None
    try:
        age = time.time() - (folder / NAME).stat().st_mtime
    except FileNotFoundError:
        return None
    return found if age < STALE else None


def _take(folder: Path, mine: Holder, patience: float) -> None:
    """Write the lease once nobody living has it."""
    began = time.monotonic()
    seen: tuple[Holder, int] | None = None
    still_since = began
    while True:
        with _short_lock(folder):
            other = holder(folder)
            if other is None or (other.here and not other.alive()):
                _write(folder, mine)
                return
            now, pulse = time.monotonic(), (other, (folder / NAME).stat().st_mtime_ns)
            if pulse != seen:
                alive_elsewhere = seen is not None and seen[0] == other
                seen, still_since = pulse, now
            else:
                alive_elsewhere = False
            if now - still_since > STALE:
                _write(folder, mine)
                return
        # One beat seen from elsewhere proves life; a process of this machine needs no proof.
        waited = now - began > patience
        if waited and (other.here or alive_elsewhere):
            raise Busy(f"{folder} is being worked on by {other}; wait for it or stop it")
        time.sleep(min(BEAT / 5, 1.0) if patience or not other.here else 0.01)


def _beat(folder: Path, mine: Holder, done: threading.Event) -> None:
    path = folder / NAME
    while not done.wait(BEAT):
        try:
            os.utime(path)
        except OSError:
            continue  # the folder may be away for a moment (network file systems)


def _write(folder: Path, mine: Holder) -> None:
    with atomic_path(folder / NAME) as temporary:
        temporary.write_text(json.dumps(asdict(mine)), encoding="utf-8")


@contextmanager
def _short_lock(folder: Path) -> Iterator[None]:
    """Nobody else looks at or changes the lease meanwhile; held for moments only."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=30):
            yield
    except Timeout as error:
        raise Busy(f"{folder}: its lock is held for long; remove {folder / '.lock'}") from error


def _machine() -> tuple[str, str]:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return socket.gethostname(), boot
