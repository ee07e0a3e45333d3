"""The Ray executor on a real cluster of three nodes on this machine: workers and a node are killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ssft_bench.errors import MissingError, UsageError
from ssft_bench.executors import open_executor
from ssft_bench.executors.base import LOST, Executor
from tests.executors.standin import STEPS, StandIn, drive, expected, result, trace, wait_for
from tests.executors.sweeps import Sweep

ray = pytest.importorskip("ray")

from ssft_bench.executors.ray_cluster import OBJECT_STORE_BYTES  # noqa: E402
from ssft_bench.executors.remote import begun  # noqa: E402


class Nodes:
    """A cluster of a head without cores and two nodes with two each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        common = {"object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
        head = {"num_cpus": 0, "num_gpus": 0, **common}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.own: list[Any] = []
        self.address: str = self.cluster.address
        self.complete()

    def complete(self) -> None:
        """Two nodes, whatever a test has done to them."""
        while len(self.own) < 2:
            self.own.append(
                self.cluster.add_node(
                    num_cpus=2, num_gpus=0, object_store_memory=OBJECT_STORE_BYTES
                )
            )
        self.cluster.wait_for_nodes()

    def remove(self, daemon: int) -> None:
        """Kill the node whose raylet has this process id, and all that runs on it."""
        gone = next(n for n in self.own if raylet(n) == daemon)
        self.own.remove(gone)
        self.cluster.remove_node(gone, allow_graceful=False)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    found = Nodes()
    yield found
    found.cluster.shutdown()


@pytest.fixture
def executor(nodes: Nodes) -> Iterator[Executor]:
    nodes.complete()
    found = open_executor(f"ray:address={nodes.address}")
    yield found
    found.close()


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    folder = tmp_path / "plan"
    folder.mkdir()
    return folder


def parent(pid: int) -> int:
    """Process id of a process' parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def raylet(node: Any) -> int:
    """Process id of a node's daemon, whose children its workers are."""
    return int(node.all_processes["raylet"][0].process.pid)


@pytest.mark.slow
def test_killed_process_killed_worker_and_lost_node_end_complete(
    nodes: Nodes, executor: Executor, plan: Path
) -> None:
    (plan / "4.exit").write_text("4")
    shares = [StandIn(plan, n) for n in range(6)]
    jobs: list[Any] = executor.submit(shares)
    wait_for(lambda: sum(bool(trace(plan, n, "step")) for n in range(6)) == 4, 60, "four at work")
    started = [n for n in range(6) if trace(plan, n, "step")]
    assert [not job.waiting() for job in jobs] == [n in started for n in range(6)]
    wait_for(
        lambda: all(len(trace(plan, n, "step")) >= 5 for n in started), 60, "five steps of each"
    )
    pids = {n: int(trace(plan, n, "start")[0][1]) for n in started}
    assert {n: begun(jobs[n].work)["pid"] for n in started} == pids  # type: ignore[index]
    places = {n: parent(parent(pid)) for n, pid in pids.items()}
    assert set(places.values()) == set(map(raylet, nodes.own))  # both nodes work
    doomed = places[started[-1]]
    staying = [n for n in started if places[n] != doomed]
    os.kill(pids[staying[0]], signal.SIGKILL)
    os.kill(parent(pids[staying[1]]), signal.SIGKILL)  # Ray's worker; the process must die with it
    wait_for(lambda: not Path(f"/proc/{pids[staying[1]]}").exists(), 10, "the orphan's end")
    nodes.remove(doomed)
    codes = drive(executor, shares, jobs, seconds=120)
    assert {n: found[-1] for n, found in codes.items()} == {n: 4 if n == 4 else 0 for n in range(6)}
    assert [n for n in range(6) if LOST in codes[n]] == started
    for n in range(6):
        assert result(plan, n) == expected(n)
        starts = trace(plan, n, "start")
        assert len(starts) == len(codes[n])
        assert {start[3] for start in starts} == {"1"}  # threads
        assert {start[4] for start in starts} == {os.getcwd()}
        assert all(int(start[2]) >= 4 for start in starts[1:])
        assert STEPS - len(starts) < len(trace(plan, n, "step")) <= STEPS
    log = (plan / "logs" / f"{staying[1]}.log").read_text()
    assert "WorkerCrashedError" in log
    assert log.endswith(f"done {staying[1]}\n")


@pytest.mark.slow
def test_cancel_ends_running_and_waiting_work(nodes: Nodes, executor: Executor, plan: Path) -> None:
    """More shares than cores: those that run are killed, those that wait never begin."""
    shares = [StandIn(plan, n) for n in range(5)]
    jobs = executor.submit(shares)
    wait_for(lambda: any(not job.waiting() for job in jobs), 60, "one at work")
    running = [n for n, job in enumerate(jobs) if not job.waiting()]
    assert len(running) < 5
    for job in reversed(jobs):
        job.cancel()
    wait_for(lambda: all(job.poll() == LOST for job in jobs), 60, "all of them lost")
    for n in range(5):
        for start in trace(plan, n, "start"):
            wait_for(lambda pid=start[1]: not Path(f"/proc/{pid}").exists(), 10, "its end")
    assert [result(plan, n) for n in range(5)] == [None] * 5


@pytest.mark.slow
def test_disturbed_sweep_ends_in_the_table_of_an_undisturbed_one(
    nodes: Nodes, tmp_path: Path, toy_an4: Path, toy_plugins: Path
) -> None:
    nodes.complete()
    disturbed = Sweep(tmp_path / "ray", toy_an4, toy_plugins, f"ray:address={nodes.address}")
    at_work = disturbed.training(3)
    doomed = parent(parent(at_work[0]["pid"]))
    others = [w["pid"] for w in at_work if parent(parent(w["pid"])) != doomed]
    os.kill(others[0], signal.SIGKILL)
    nodes.remove(doomed)
    found = disturbed.end(240)
    calm = Sweep(tmp_path / "local", toy_an4, toy_plugins, "local").end(240)
    assert len(found) == 4
    assert found == calm
    assert all(row["metrics"][0]["value"] < 90 for row in calm.values())  # learned: not all alike
    assert disturbed.resumed() >= 2


@pytest.mark.slow
def test_share_that_fits_no_node_is_refused(nodes: Nodes) -> None:
    with pytest.raises(
        UsageError, match=r"takes cpus=1, gpus=2, but the nodes have .*2 cpus and 0 gpus"
    ):
        open_executor(f"ray:address={nodes.address},gpus=2")
    assert not ray.is_initialized()


@pytest.mark.slow
def test_without_an_address_a_cluster_lives_as_long_as_the_executor(
    plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    executor = open_executor("ray:address=local,cpus=0.5")
    assert ray.cluster_resources()["object_store_memory"] == OBJECT_STORE_BYTES
    shares = [StandIn(plan, n) for n in range(2)]
    assert drive(executor, shares, executor.submit(shares), seconds=90) == {0: [0], 1: [0]}
    executor.close()
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("address", "told"),
    [("127.0.0.1:9", "Connection refused"), ("ray://127.0.0.1:9", "Connection refused"),
     ("somewhere", "host:port")],
)  # fmt: skip
def test_address_without_a_cluster_is_one_line(address: str, told: str) -> None:
    """And at once: Ray itself tries for nine minutes."""
    with pytest.raises(UsageError, match=f"ray:address={address}: .*{told}"):
        open_executor(f"ray:address={address}")


@pytest.mark.parametrize("option", ["cpus=0", "gpus=-1", "cpus=two", "memory_gib=0", "colour=red"])
def test_wrong_options_are_named(option: str) -> None:
    with pytest.raises(UsageError, match=option.partition("=")[0]):
        open_executor(f"ray:{option}")


def test_without_ray_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingError, match=r"pip install 'ssft-bench\[ray\]'"):
        open_executor("ray")
