"""Processes on this machine, each on cores of its own, or with a GPU of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ssft_bench.errors import UsageError
from ssft_bench.executors.base import LOST, Executor, Job, Share, worker_environment


class LocalJob(Job):
    """A worker process."""

    def __init__(self, process: subprocess.Popen[bytes], place: int) -> None:
        """`place` says which cores or which GPU it has."""
        self.process, self.place = process, place
        self.label = f"pid {process.pid}"

    def poll(self) -> int | None:
        """Exit code of the process; LOST when a signal ended it."""
        code = self.process.poll()
        return LOST if code is not None and code < 0 else code

    def cancel(self) -> None:
        """SIGTERM, then SIGKILL after ten seconds."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class LocalExecutor(Executor):
    """`jobs` processes at once; the machine's cores are dealt out evenly, GPUs in turn."""

    slots: int

    def __init__(self, jobs: int | None = None, gpus: int | None = None) -> None:
        """Without `jobs` there is a job for each GPU, or for each core where there is no GPU.

        Raises UsageError for less than one job or more jobs than cores.
        """
        cores = available_cores()
        self.gpus = visible_gpus() if gpus is None else [str(n) for n in range(gpus)]
        self.slots = jobs or len(self.gpus) or len(cores)
        if not 1 <= self.slots <= len(cores):
            raise UsageError(f"--jobs {jobs}: this machine has cores for 1 to {len(cores)} jobs")
        each = len(cores) // self.slots
        self.cores = [cores[n * each : (n + 1) * each] for n in range(self.slots)]
        self.running: list[LocalJob] = []

    def submit(self, shares: Sequence[Share]) -> list[Job]:
        """Start a process for each share; the sweep never submits more than there are slots."""
        return [self._start(share) for share in shares]

    def _start(self, share: Share) -> Job:
        self.running = [job for job in self.running if job.poll() is None]
        taken = {job.place for job in self.running}
        place = next(n for n in range(self.slots) if n not in taken)
        cores = self.cores[place]
        extra = {"CUDA_VISIBLE_DEVICES": self.gpus[place % len(self.gpus)]} if self.gpus else {}
        share.log.parent.mkdir(parents=True, exist_ok=True)
        with share.log.open("ab") as log:
            process = subprocess.Popen(
                share.command(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=worker_environment(len(cores), extra),
                start_new_session=True,  # Ctrl-C reaches the sweep alone, which then stops its workers
            )
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, cores)
        job = LocalJob(process, place)
        self.running.append(job)
        return job


def available_cores() -> list[int]:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def visible_gpus() -> list[str]:
    """NVIDIA GPUs that a worker could be given, without importing torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [one for one in named.split(",") if one.strip() not in ("", "-1")]
    return [str(n) for n in range(len(list(Path("/proc/driver/nvidia/gpus").glob("*"))))]
