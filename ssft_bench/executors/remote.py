"""What runs on a cluster's machine: the work of one share, as a process of its own."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ssft_bench.executors.base import Share, worker_environment
from ssft_bench.files import write_json

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass
class RemoteWork:
    """A share on its way to another machine; calling it there runs the share.

    Only paths and numbers travel. The process is isolated (a crash of it is an exit code), has as many
    threads as it has cores, and does not outlive the cluster's own process.
    """

    arguments: list[str]
    """The worker's command line without the interpreter, which is that of the machine it runs on."""
    plan: str
    log: str
    folder: str
    """Working directory: relative paths in a plan mean the same everywhere."""
    threads: int
    token: str
    """Tells this attempt from others of the same share."""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, share: Share, threads: int, token: str) -> RemoteWork:
        """The work of a share, with absolute paths."""
        share = replace(share, plan=share.plan.absolute())
        share.log.parent.mkdir(parents=True, exist_ok=True)
        arguments, folder = share.command()[1:], os.getcwd()
        return cls(arguments, str(share.plan), str(share.log), folder, threads, token)

    @property
    def place(self) -> Path:
        """File that says where the work has begun."""
        return Path(self.log).with_suffix(f".{self.token}.json")

    def __call__(self) -> int:
        """Run the worker to its end: its exit code, -N when signal N ended it, 3 without the plan."""
        for path in (self.plan, self.folder):
            if not Path(path).is_dir():
                print(
                    f"error: {path} is not on {socket.gethostname()}; plan and results must lie on a "
                    "file system that all machines share",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
                return 3
        with Path(self.log).open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=worker_environment(self.threads),
                start_new_session=True,
                preexec_fn=_tied_to(os.getpid()),
            )
        try:
            write_json(self.place, {"host": socket.gethostname(), "pid": self.process.pid})
            # Not wait(): neither Ray's interrupt nor a signal handler that stops the process gets in.
            while self.process.poll() is None:
                time.sleep(0.2)
            return self.process.returncode
        finally:
            self.stop()

    def stop(self) -> None:
        """End the process and its own, if it still runs; returns within some ten seconds."""
        process = self.process
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process is None or process.poll() is not None:
                return
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            for _ in range(50):
                if process.poll() is not None:
                    return
                time.sleep(0.1)


def begun(work: RemoteWork) -> dict[str, Any] | None:
    """Host and process id of a work that has begun; None before."""
    with suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads(work.place.read_text(encoding="utf-8"))
        return found
    return None


def _tied_to(parent: int) -> Callable[[], None]:
    """What the new process does first: die when its parent does, and leave SIGUSR2 to the parent.

    A scheduler's warning goes to all processes of a job, and would end this one before the parent has
    asked to be queued again.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def begin() -> None:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died in between
                os._exit(1)

    return begin
