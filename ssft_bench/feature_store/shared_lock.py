"""Who uses a volume: any number of processes, and none of them while it is removed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows removes no file that a process has open, so it needs no such lock
    fcntl = None  # type: ignore[assignment]


class SharedLock:
    """A lock on a file that the kernel gives up when its process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        """Held from now on. Raises OSError where the file cannot be made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if fcntl is not None:
            fcntl.flock(self._file, fcntl.LOCK_SH)

    def release(self) -> None:
        """Give it up."""
        os.close(self._file)


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """True where nobody holds the lock, and then nobody gets it while the block lasts."""
    if fcntl is None:
        yield True
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(file)
