"""Where the shares of a sweep are worked on: local processes, Ray, Slurm."""

from __future__ import annotations

from ssft_bench.errors import UsageError
from ssft_bench.executors.base import Executor
from ssft_bench.names import split_options, unknown

NAMES = ("local", "ray", "slurm")


def open_executor(text: str, jobs: int | None = None) -> Executor:
    """The executor that `--executor name:option=value,...` names.

    `jobs` is the number of local processes. Raises UsageError for an unknown name or option, and for a
    package or a cluster that is not there.
    """
    name, options = split_options(text, "--executor")
    if name not in NAMES:
        raise unknown("executor", name, NAMES)
    if jobs is not None and name != "local":
        raise UsageError(f"--jobs {jobs} goes with --executor local; {name} takes its own options")
    try:
        if name == "local":
            from ssft_bench.executors.local import LocalExecutor

            return LocalExecutor(**{**options, **({} if jobs is None else {"jobs": jobs})})
        if name == "ray":
            from ssft_bench.executors.ray_cluster import RayExecutor

            return RayExecutor(**options)
        from ssft_bench.executors.slurm import SlurmExecutor

        return SlurmExecutor(**options)
    except TypeError as error:  # an option the class does not take
        raise UsageError(f"--executor {text}: {error}") from error


def slots_of(text: str, jobs: int | None = None) -> int | None:
    """How many workers that executor runs at once; None where a cluster decides. Opens no cluster."""
    name, _ = split_options(text, "--executor")
    if name not in NAMES:
        raise unknown("executor", name, NAMES)
    return open_executor(text, jobs).slots if name == "local" else None
