"""The Slurm executor against a real slurmctld and slurmd on this machine, and what needs none."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ssft_bench.errors import MissingError, UsageError
from ssft_bench.executors import open_executor
from ssft_bench.executors.base import LOST
from tests.executors.standin import STEPS, StandIn, drive, expected, result, trace, wait_for
from tests.executors.sweeps import Sweep

pytest.importorskip("submitit")

from ssft_bench.executors import slurm
from ssft_bench.executors.remote import RemoteWork
from ssft_bench.executors.slurm import Queue, SlurmExecutor, SlurmJob

SCRIPTS = Path(__file__).parent / "slurm"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Slurm of one node with four CPUs; a visible skip where it cannot be started."""
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([SCRIPTS / "start.sh", folder], capture_output=True, text=True)
    if started.returncode != 0:
        subprocess.run([SCRIPTS / "stop.sh", folder], capture_output=True)
        pytest.skip(f"no Slurm here: {started.stderr.strip()[-600:]}")
    before = {name: os.environ.get(name) for name in ("SLURM_CONF", "PATH")}
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    yield folder
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    subprocess.run([SCRIPTS / "stop.sh", folder], check=True)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    folder = tmp_path / "plan"
    folder.mkdir()
    return folder


def at_step(plan: Path, index: int, number: int = 5) -> None:
    wait_for(
        lambda: len(trace(plan, index, "step")) >= number, 60, f"share {index} at step {number}"
    )


@pytest.mark.slow
def test_array_with_one_job_cancelled_and_one_requeued_is_complete(
    cluster: Path, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """scancel is LOST and comes again; scontrol requeue is not seen; a warned job queues itself again."""
    monkeypatch.setattr(Queue, "every", 0.5)
    monkeypatch.setattr(SlurmJob, "grace", 3.0)
    monkeypatch.setenv("STANDIN_SECONDS", "0.25")
    executor = open_executor("slurm:partition=main,time=5,cpus=1")
    shares = [StandIn(plan, n) for n in range(5)]
    jobs: list[Any] = executor.submit(shares)
    ids = [job.id for job in jobs]
    assert len({job.partition("_")[0] for job in ids}) == 1  # one array
    assert [job.partition("_")[2] for job in ids] == list("01234")
    for index in range(3):
        at_step(plan, index)
    assert jobs[0].poll() is None
    assert not jobs[0].waiting()
    assert jobs[4].waiting()  # there are four CPUs
    subprocess.run(["scancel", ids[0]], check=True)
    subprocess.run(["scontrol", "requeue", ids[1]], check=True)
    # What Slurm sends before a time limit and, where it is set up so, before a preemption.
    subprocess.run(["scancel", "--signal=USR2", ids[2]], check=True)
    wait_for(lambda: jobs[1].waiting() or len(trace(plan, 1, "start")) > 1, 30, "the requeued job")
    codes = drive(executor, shares, jobs, seconds=150)
    assert codes == {0: [LOST, 0], 1: [0], 2: [0], 3: [0], 4: [0]}
    for index in range(5):
        assert result(plan, index) == expected(index)
        starts = trace(plan, index, "start")
        assert len(starts) == (2 if index < 3 else 1)
        assert {start[3] for start in starts} == {"1"}
        # No step was done twice but one that was cut off before it was told.
        assert len(trace(plan, index, "step")) in (STEPS, STEPS - 1)
        assert all(int(start[2]) >= 4 for start in starts[1:])
    assert "Requeued job" in next((plan / "slurm").glob(f"{ids[2]}_0_log.out")).read_text()
    assert (plan / "logs" / "3.log").read_text() == "done 3\n"


@pytest.mark.slow
def test_a_time_limit_only_interrupts(
    cluster: Path, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two minutes of work with a limit of one: the job queues itself again and goes on."""
    monkeypatch.setattr(Queue, "every", 1.0)
    monkeypatch.setenv("STANDIN_SECONDS", "3")
    executor = SlurmExecutor(time=1)
    shares = [StandIn(plan, 0)]
    assert drive(executor, shares, executor.submit(shares), seconds=360) == {0: [0]}
    assert result(plan, 0) == expected(0)
    assert len(trace(plan, 0, "start")) >= 2
    assert len(trace(plan, 0, "step")) == STEPS


@pytest.mark.slow
def test_killed_worker_is_lost_and_an_exit_code_comes_through(
    cluster: Path, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Queue, "every", 0.5)
    monkeypatch.setattr(SlurmJob, "grace", 2.0)
    executor = SlurmExecutor(time=5, cpus=2)
    (plan / "1.exit").write_text("4")
    shares = [StandIn(plan, n) for n in range(2)]
    jobs = executor.submit(shares)
    at_step(plan, 0)
    os.kill(int(trace(plan, 0, "start")[0][1]), signal.SIGKILL)
    assert drive(executor, shares, jobs, seconds=60) == {0: [LOST, 0], 1: [4]}
    assert result(plan, 0) == expected(0)
    assert trace(plan, 0, "start")[0][3] == "2"  # threads


@pytest.mark.slow
def test_cancel_ends_the_work(cluster: Path, plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Queue, "every", 0.5)
    monkeypatch.setattr(SlurmJob, "grace", 1.0)
    monkeypatch.setenv("STANDIN_SECONDS", "5")
    (job,) = SlurmExecutor(time=5).submit([StandIn(plan, 0)])
    wait_for(lambda: trace(plan, 0, "start"), 60, "the job")
    pid = int(trace(plan, 0, "start")[0][1])
    job.cancel()
    wait_for(lambda: job.poll() is not None, 60, "the end")
    assert job.poll() == LOST
    assert not Path(f"/proc/{pid}").exists()
    job.cancel()  # of a job that is over: no error


@pytest.mark.slow
def test_disturbed_sweep_ends_in_the_table_of_an_undisturbed_one(
    cluster: Path, tmp_path: Path, toy_an4: Path, toy_plugins: Path
) -> None:
    """One job of the array is cancelled and one requeued while they train."""
    disturbed = Sweep(tmp_path / "slurm", toy_an4, toy_plugins, "slurm:partition=main,time=10")
    shares = [worker["share"] for worker in disturbed.training(2)]
    listed = subprocess.run(
        ["squeue", "--noheader", "--array", "--format=%i"],
        capture_output=True,
        text=True,
        check=True,
    )
    (array,) = {job.strip().partition("_")[0] for job in listed.stdout.splitlines()}
    subprocess.run(["scancel", f"{array}_{shares[0]}"], check=True)
    subprocess.run(["scontrol", "requeue", f"{array}_{shares[1]}"], check=True)
    found = disturbed.end(300)
    calm = Sweep(tmp_path / "local", toy_an4, toy_plugins, "local").end(240)
    assert len(found) == 4
    assert found == calm
    assert all(row["metrics"][0]["value"] < 90 for row in calm.values())  # learned: not all alike
    assert disturbed.resumed() == 2


@pytest.mark.slow
def test_what_sbatch_refuses_is_one_line(cluster: Path, plan: Path) -> None:
    with pytest.raises(UsageError, match="invalid partition specified: nowhere"):
        SlurmExecutor(partition="nowhere").submit([StandIn(plan, n) for n in range(2)])


@pytest.mark.parametrize("option", ["time=0", "time=1h", "cpus=1.5", "parallel=-1", "colour=red"])
def test_wrong_options_are_named(option: str) -> None:
    with pytest.raises(UsageError, match=option.partition("=")[0]):
        open_executor(f"slurm:{option}")


def test_without_slurm_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match=r"no sbatch, srun, squeue, scancel"):
        open_executor("slurm")


class FakeJob:
    """A job of submitit's, of which only the id and the result file are looked at."""

    def __init__(self, folder: Path, job_id: str) -> None:
        from submitit.core.utils import JobPaths

        self.job_id, self.paths = job_id, JobPaths(folder, job_id, 0)


def program(folder: Path, text: str) -> None:
    (folder / "squeue").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "squeue").chmod(0o755)


def test_states_without_accounting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """squeue alone: waiting, running, requeued, unreachable, forgotten."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(Queue, "every", -1.0)
    monkeypatch.setattr(SlurmJob, "grace", 0.05)
    queue, work = Queue(), RemoteWork([], "", str(tmp_path / "0.log"), "", 1, "t")
    job = SlurmJob(FakeJob(tmp_path, "7_3"), work, queue)
    program(
        tmp_path, "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"
    )
    assert [job.poll() for _ in range(2)] == [None, None]  # never known, but nobody has answered
    program(tmp_path, "echo '7_3|PENDING'")
    assert job.poll() is None
    assert job.waiting()
    program(tmp_path, "echo '7_3|RUNNING'; echo '7_4|CANCELLED'")
    assert job.poll() is None
    assert not job.waiting()
    program(tmp_path, "echo '7_3|PREEMPTED'")
    assert job.poll() is None  # on its way to be requeued
    program(tmp_path, "echo '7_3|PENDING'")
    assert job.poll() is None
    assert job.over_since is None
    program(tmp_path, "exit 1")
    assert job.poll() is None  # no answer: the last state stands
    program(tmp_path, "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    wait_for(lambda: job.poll() is not None, 5, "a forgotten job to be lost")
    assert job.poll() == LOST


@pytest.mark.parametrize(("stored", "code"), [(("success", 4), 4), (("error", "trace"), LOST)])
def test_result_file_wins_over_the_queue(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stored: tuple[str, Any], code: int
) -> None:
    from submitit.core.utils import cloudpickle_dump

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program(tmp_path, "echo '7|RUNNING'")
    work = RemoteWork([], "", str(tmp_path / "0.log"), "", 1, "t")
    job = SlurmJob(FakeJob(tmp_path, "7"), work, Queue())
    assert job.poll() is None
    cloudpickle_dump(stored, tmp_path / "7_0_result.pkl")
    assert job.poll() == code
    assert (tmp_path / "0.log").exists() == (code == LOST)


def test_large_submissions_are_cut_into_arrays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, plan: Path
) -> None:
    """What sbatch gets: flags of the array, the limit, the signal, and that it may be requeued."""
    for name in ("srun", "squeue", "scancel"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "sbatch").write_text(
        f'#!/bin/sh\nn=$(ls {tmp_path}/*.sent 2>/dev/null | wc -l)\ncp "$1" {tmp_path}/$n.sent\n'
        "echo Submitted batch job 10$n\n"
    )
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "LARGEST_ARRAY", 3)
    executor = open_executor("slurm:time=90,cpus=2,gres=gpu:1,mem=8G,partition=a,parallel=2")
    labels = [job.label for job in executor.submit([StandIn(plan, n) for n in range(7)])]
    assert labels == [f"slurm {a}" for a in
                      ("100_0", "100_1", "100_2", "101_0", "101_1", "101_2", "102")]  # fmt: skip
    script = (tmp_path / "0.sent").read_text()
    flags = ("array=0-2%2", "time=90", "cpus-per-task=2", "gres=gpu:1", "mem=8G", "partition=a",
             "signal=USR2@90", "requeue", "open-mode=append")  # fmt: skip
    assert [f for f in flags if f"#SBATCH --{f}\n" not in script] == []
    assert " --cpus-per-task=2 " in script.splitlines()[-1]
