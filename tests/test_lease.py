"""Leases: one holder at a time, a dead one's is free, one of another machine is watched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ssft_bench import lease as leases
from ssft_bench.lease import NAME, Busy, holder, lease, worked_on

HOLD = """
import sys, time
from pathlib import Path
from ssft_bench.lease import lease
with lease(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""

COUNT = """
import sys, time
from pathlib import Path
from ssft_bench.lease import lease
folder = Path(sys.argv[1])
for _ in range(10):
    with lease(folder, patience=60):
        count = folder / "count"
        number = int(count.read_text())
        time.sleep(0.003)  # without exclusion, others read the same number now
        count.write_text(str(number + 1))
"""


def python(code: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_living_holder_keeps_others_out_and_a_killed_one_does_not(tmp_path: Path) -> None:
    process = python(HOLD, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(Busy, match=f"process {process.pid}"), lease(tmp_path):
        pytest.fail("held twice")
    assert worked_on(tmp_path) is not None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert worked_on(tmp_path) is None
    assert holder(tmp_path) is not None  # the dead one's file is still there
    with lease(tmp_path):
        found = holder(tmp_path)
        assert found is not None
        assert found.pid == os.getpid()
    assert holder(tmp_path) is None


def test_processes_that_race_take_turns(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    processes = [python(COUNT, tmp_path) for _ in range(4)]
    assert [p.wait(120) for p in processes] == [0, 0, 0, 0]
    assert (tmp_path / "count").read_text() == "40"


def elsewhere(folder: Path) -> Path:
    """A lease of a process on another machine."""
    path = folder / NAME
    path.write_text(json.dumps({"host": "far", "boot": "away", "pid": 1, "token": "x"}))
    return path


def test_a_silent_holder_elsewhere_is_given_up_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "STALE", 0.5)
    monkeypatch.setattr(leases, "BEAT", 0.05)
    elsewhere(tmp_path)
    began = time.monotonic()
    with lease(tmp_path):
        assert time.monotonic() - began > 0.5


def test_a_beating_heart_elsewhere_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "STALE", 30.0)
    monkeypatch.setattr(leases, "BEAT", 0.5)
    path = elsewhere(tmp_path)
    beats = subprocess.Popen([
        sys.executable, "-c",
        "import os, sys, time\nfor _ in range(200): os.utime(sys.argv[1]); time.sleep(0.1)", str(path),
    ])  # fmt: skip
    try:
        with pytest.raises(Busy, match="far"), lease(tmp_path):
            pytest.fail("taken from a living holder")
    finally:
        beats.kill()
        beats.wait()


def test_the_heart_beats_and_the_lease_goes_when_the_block_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "BEAT", 0.05)

    def fail() -> None:
        with lease(tmp_path):
            first = (tmp_path / NAME).stat().st_mtime_ns
            time.sleep(0.5)
            assert (tmp_path / NAME).stat().st_mtime_ns > first
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not (tmp_path / NAME).exists()
