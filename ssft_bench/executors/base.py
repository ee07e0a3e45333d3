"""What an executor is: something that runs shares of a plan, on this machine or on a cluster."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LOST = -1
"""Exit code of a job that vanished: worker killed, node gone, cancelled, preempted."""
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip


@dataclass(frozen=True)
class Share:
    """One worker's share of a plan: what `ssft-bench work PLAN --index I` does."""

    plan: Path
    """Folder of the plan, on a file system that all workers see."""
    index: int

    def command(self, python: str | None = None) -> list[str]:
        """The worker's command line; `python` is the interpreter on its machine."""
        return [python or sys.executable, "-m", "ssft_bench", "work", str(self.plan),
                "--index", str(self.index)]  # fmt: skip

    @property
    def log(self) -> Path:
        """Where the worker's output is appended."""
        return self.plan / "logs" / f"{self.index}.log"


class Job(ABC):
    """A share that was handed to an executor."""

    label: str
    """For people: `pid 123`, `slurm 17_3`."""

    @abstractmethod
    def poll(self) -> int | None:
        """Exit code; None while it waits or runs, LOST when it vanished."""

    def waiting(self) -> bool:
        """Whether it is queued and has not begun."""
        return False

    @abstractmethod
    def cancel(self) -> None:
        """Stop it; what it has finished stays."""


class Executor(ABC):
    """Runs shares. It knows nothing of cells, results or retries: the sweep does."""

    slots: int | None = None
    """How many jobs may run at once; None where the cluster queues by itself."""

    @abstractmethod
    def submit(self, shares: Sequence[Share]) -> list[Job]:
        """Start or queue these shares; Slurm makes one array of them."""

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Let go of what the executor holds; jobs that still run are cancelled by the sweep before."""


def worker_environment(threads: int, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process' environment with the number of threads of every numeric library set."""
    pinned = dict.fromkeys(THREAD_VARIABLES, str(threads))
    return {**os.environ, **pinned, "OMP_WAIT_POLICY": "PASSIVE", **(extra or {})}
