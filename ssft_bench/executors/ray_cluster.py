"""Ray: shares as tasks on a cluster that is there, or on one that is started here.

Only paths and numbers go through Ray; features, checkpoints and results stay on the shared file system.
Ray itself retries nothing: what is lost comes back as LOST, and the sweep has the budget.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from ssft_bench.errors import MissingError, UsageError
from ssft_bench.executors.base import LOST, Executor, Job, Share
from ssft_bench.executors.local import available_cores
from ssft_bench.executors.remote import RemoteWork, begun

OBJECT_STORE_BYTES = 100 * 2**20  # hardly used; Ray would take 30 % of the memory


class RayJob(Job):
    """A task of Ray's."""

    def __init__(self, reference: Any, work: RemoteWork) -> None:
        """`reference` is the future of the worker's exit code."""
        self.reference, self.work = reference, work
        self.code: int | None = None

    @property
    def label(self) -> str:  # type: ignore[override]
        """`ray task 1f2e on node-7, pid 812`, as far as it is known yet."""
        name, where = f"ray task {self.work.token}", begun(self.work)
        return name if where is None else f"{name} on {where['host']}, pid {where['pid']}"

    def poll(self) -> int | None:
        """Exit code; LOST when its process, Ray's worker or the node died, or it was cancelled."""
        if self.code is None:
            self.code = self._ended()
            if self.code is not None:
                self.work.place.unlink(missing_ok=True)
        return self.code

    def waiting(self) -> bool:
        """Whether no worker has taken it up yet."""
        return self.code is None and begun(self.work) is None

    def cancel(self) -> None:
        """Kill Ray's worker; the share's process dies with it."""
        _ray().cancel(self.reference, force=True)

    def _ended(self) -> int | None:
        ray = _ray()
        try:
            ready, _ = ray.wait([self.reference], timeout=0)
            if not ready:
                return None
            code: int = ray.get(self.reference)
        except (ray.exceptions.RayError, ConnectionError) as error:
            with open(self.work.log, "a", encoding="utf-8") as log:
                log.write(f"{self.label}: {type(error).__name__}: {error}\n")
            return LOST
        return LOST if code < 0 else code


class RayExecutor(Executor):
    """`--executor ray:cpus=4,gpus=1`, `ray:address=auto`, `ray:address=ray://host:10001`."""

    def __init__(
        self,
        address: str | None = None,
        cpus: float = 1,
        gpus: float = 0,
        memory_gib: float | None = None,
    ) -> None:
        """`cpus`, `gpus` and `memory_gib` are what a share takes of a node; parts of a GPU are allowed.

        Without an `address`: the cluster of RAY_ADDRESS or of this machine, else one of this machine's cores
        and GPUs that lives as long as the executor. Raises UsageError for a wrong value or a cluster that
        does not answer, MissingError without Ray.
        """
        numbers = {"cpus": cpus, "gpus": gpus, "memory_gib": memory_gib}
        for name, value in numbers.items():
            if value is None or (isinstance(value, int | float) and value > 0):
                continue
            if name != "gpus" or value != 0:
                raise UsageError(f"--executor ray: {name}={value} is not a number above 0")
        ray = _ray()
        self.threads = max(1, int(cpus))
        self.ours = not ray.is_initialized()
        if self.ours:
            _connect(address)
        try:
            _check_fits(cpus, gpus)
        except UsageError:
            self.close()
            raise
        memory = {} if memory_gib is None else {"memory": int(memory_gib * 2**30)}
        self.task = ray.remote(
            num_cpus=cpus, num_gpus=gpus, max_retries=0, scheduling_strategy="SPREAD", **memory
        )(_run)

    def submit(self, shares: Sequence[Share]) -> list[Job]:
        """A task for each; Ray queues what does not fit at once."""
        works = [RemoteWork.of(share, self.threads, uuid.uuid4().hex[:8]) for share in shares]
        return [RayJob(self.task.remote(work), work) for work in works]

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self.ours:
            _ray().shutdown()


def _ray() -> Any:
    """The package, which takes seconds to import and may be absent."""
    try:
        return import_module("ray")
    except ImportError as error:
        raise MissingError("--executor ray needs Ray: pip install 'ssft-bench[ray]'") from error


def _run(work: RemoteWork) -> int:
    return work()


def _connect(address: str | None) -> None:
    ray = _ray()
    quiet = {"log_to_driver": False, "logging_level": "warning"}
    # Accelerators of tasks that ask for none stay hidden, which Ray warns of without this.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address in (None, "local"):
        if address is None:
            try:
                ray.init("auto", **quiet)
                return
            except ConnectionError:
                pass  # none is running
        ray.init(
            "local", num_cpus=len(available_cores()), object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False, **quiet,
        )  # fmt: skip
        return
    try:
        if address != "auto":
            _reach(address)
        ray.init(address, **quiet)
    except (OSError, ValueError, RuntimeError, AssertionError) as error:
        told = str(error).strip().splitlines()
        raise UsageError(
            f"--executor ray:address={address}: {told[0] if told else type(error).__name__}"
        ) from error


def _reach(address: str) -> None:
    """Raise OSError or ValueError where nobody listens; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError("an address is auto, local, host:port or ray://host:port")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
        pass


def _check_fits(cpus: float, gpus: float) -> None:
    """Raise UsageError where no node has room for one share: Ray would wait for such a node for ever."""
    nodes = [node["Resources"] for node in _ray().nodes() if node["Alive"]]
    if not any(n.get("CPU", 0) >= cpus and n.get("GPU", 0) >= gpus for n in nodes):
        has = ", ".join(f"{n.get('CPU', 0):g} cpus and {n.get('GPU', 0):g} gpus" for n in nodes)
        raise UsageError(
            f"--executor ray: a share takes cpus={cpus:g}, gpus={gpus:g}, but the nodes have {has}"
        )
