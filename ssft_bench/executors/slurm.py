"""Slurm, through submitit: the shares of a plan as job arrays.

How a job ended is read from submitit's result file, which a worker writes when its process has ended by
itself. Without that file, `squeue` says whether the job still waits or runs; when it says that the job is
over, or does not know it any more, the job is lost. So no accounting database (`sacct`) is needed.

A job that runs into its time limit, or is told of a preemption, gets SIGUSR2 beforehand: submitit then
asks Slurm to queue it again under the same id (`scontrol requeue`). Slurm itself does that for a node that
fails and for partitions that preempt by requeueing (`sbatch --requeue`). The work goes on from its
checkpoints.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssft_bench.errors import MissingError, UsageError
from ssft_bench.executors.base import LOST, Executor, Job, Share
from ssft_bench.executors.remote import RemoteWork

OVER = frozenset(
    "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED TIMEOUT".split()
)
"""States that a job does not leave by itself (a requeued one does, so they count when they last)."""
WAITING = frozenset("PENDING REQUEUED REQUEUE_HOLD REQUEUE_FED CONFIGURING SUSPENDED".split())
LARGEST_ARRAY = 1000  # Slurm's MaxArraySize is 1001 where nothing else is said


class SlurmWork(RemoteWork):
    """A share as submitit's callable."""

    def __call__(self) -> int:
        """The worker's exit code becomes the job's result, unless a signal ended the worker.

        Then there is none: of a job that is cancelled or requeued, Slurm knows what becomes of it.
        """
        code = super().__call__()
        if code < 0:
            sys.exit(128 - code)
        return code

    def checkpoint(self) -> Any:
        """Called by submitit before it has the job queued again."""
        from submitit.helpers import DelayedSubmission

        self.stop()
        self.process = None
        return DelayedSubmission(self)


class Queue:
    """States of jobs, asked of `squeue` for all of them at once and not more often than every `every` s."""

    every = 3.0

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.known: dict[str, str] = {}
        self.asked = -1e9
        """When `known` was read, by the monotonic clock."""

    def state(self, job: str) -> str | None:
        """State of `17_3` or `17`, None when Slurm does not know it any more.

        When the controller does not answer, the last one stands.
        """
        if time.monotonic() - self.asked > self.every:
            self._ask()
        return self.known.get(job)

    def _ask(self) -> None:
        arrays = sorted({job.partition("_")[0] for job in self.ids})
        command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T",
                   "--jobs", ",".join(arrays)]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return
        if done.returncode != 0 and "Invalid job id" not in done.stderr:
            return
        rows = (line.strip().partition("|") for line in done.stdout.splitlines())
        self.known = {job: state for job, _, state in rows}
        self.asked = time.monotonic()


class SlurmJob(Job):
    """One task of an array."""

    grace = 20.0
    """Seconds that a result file may need to be seen on this machine when the job is over."""

    def __init__(self, job: Any, work: RemoteWork, queue: Queue) -> None:
        """`job` is submitit's."""
        self.job, self.work, self.queue = job, work, queue
        self.id: str = job.job_id
        self.label = f"slurm {self.id}"
        self.over_since: float | None = None
        self.code: int | None = None
        queue.ids.add(self.id)

    def poll(self) -> int | None:
        """Exit code from the result file; LOST when the job is over without one."""
        if self.code is None:
            self.code = self._result()
        if self.code is None and self._over():
            self.code = LOST
        if self.code is not None:
            self.queue.ids.discard(self.id)
        return self.code

    def waiting(self) -> bool:
        """Whether it is queued, for the first time or again."""
        return self.code is None and self.queue.state(self.id) in WAITING

    def cancel(self) -> None:
        """`scancel`, which is no error for a job that is over."""
        subprocess.run(["scancel", self.id], capture_output=True, timeout=60, check=False)

    def _result(self) -> int | None:
        path: Path = self.job.paths.result_pickle
        if not path.exists():
            return None
        from submitit.core.utils import pickle_load

        kind, found = pickle_load(path)
        if kind == "success":
            return int(found)
        with Path(self.work.log).open("a", encoding="utf-8") as log:
            log.write(f"{self.label}:\n{found}\n")
        return LOST

    def _over(self) -> bool:
        """Whether Slurm has been saying for `grace` seconds that it is over, or has forgotten it."""
        state = self.queue.state(self.id)
        if self.queue.asked < 0 or (state is not None and state not in OVER):
            self.over_since = None
            return False
        now = time.monotonic()
        if self.over_since is None:
            self.over_since = now
        return now - self.over_since > self.grace


class SlurmExecutor(Executor):
    """`--executor slurm:partition=gpu,time=240,cpus=4,gres=gpu:1`.

    Files of submitit go to `slurm/` in the plan's folder.
    """

    def __init__(
        self,
        time: int = 240,
        cpus: int = 1,
        partition: str | None = None,
        gres: str | None = None,
        mem: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        parallel: int = 256,
        timeouts: int = 20,
        python: str | None = None,
    ) -> None:
        """`time` is in minutes; `parallel` how many jobs of an array run at once; `timeouts` how often a
        job may run into its limit; `python` the interpreter on the nodes, where it is not this one's path.

        Raises UsageError for a wrong value, MissingError where submitit or Slurm's commands are absent.
        """
        counts = {"time": time, "cpus": cpus, "parallel": parallel, "timeouts": timeouts}
        for name, value in counts.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                unit = " of minutes" if name == "time" else ""
                raise UsageError(
                    f"--executor slurm: {name}={value} is not a whole number{unit} above 0"
                )
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            raise MissingError(
                "--executor slurm needs submitit: pip install 'ssft-bench[slurm]'"
            ) from error
        absent = [c for c in ("sbatch", "srun", "squeue", "scancel") if shutil.which(c) is None]
        if absent:
            raise MissingError(
                f"--executor slurm: no {', '.join(absent)} on this machine; start the sweep where "
                "sbatch works (a login node)"
            )
        self.cpus, self.timeouts, self.python = cpus, timeouts, python
        self.queue = Queue()
        texts = {"partition": partition, "gres": gres, "mem": mem, "account": account, "qos": qos,
                 "constraint": constraint}  # fmt: skip
        self.parameters = {
            "time": time,
            "job_name": "ssft-bench",
            "cpus_per_task": cpus,
            # Since 22.05 srun does not take it over from sbatch.
            "srun_args": [f"--cpus-per-task={cpus}"],
            "array_parallelism": parallel,
            # Slurm may warn a minute early; a short job must come to something before that.
            "signal_delay_s": min(90, 15 * time),
            "additional_parameters": {"requeue": True},
            **{key: str(value) for key, value in texts.items() if value is not None},
        }

    def submit(self, shares: Sequence[Share]) -> list[Job]:
        """One array of all shares (of each thousand). Raises UsageError when sbatch refuses."""
        jobs: list[Job] = []
        for first in range(0, len(shares), LARGEST_ARRAY):
            jobs += self._submit_array(shares[first : first + LARGEST_ARRAY])
        self.queue.asked = -1e9
        return jobs

    def _submit_array(self, shares: Sequence[Share]) -> list[Job]:
        import submitit
        from submitit.core.utils import FailedJobError

        folder = shares[0].plan.absolute() / "slurm"
        python = None if self.python is None else shlex.quote(self.python)
        executor = submitit.SlurmExecutor(folder, max_num_timeout=self.timeouts, python=python)
        executor.update_parameters(**self.parameters)
        works = [SlurmWork.of(s, self.cpus, uuid.uuid4().hex[:8]) for s in shares]
        try:
            with executor.batch():
                jobs = [executor.submit(work) for work in works]
        except (FailedJobError, subprocess.CalledProcessError, OSError) as error:
            told = [line.strip() for line in str(error).splitlines() if "error" in line]
            raise UsageError(f"--executor slurm: {(told or [str(error)])[0]}") from error
        return [SlurmJob(j, w, self.queue) for j, w in zip(jobs, works, strict=True)]
