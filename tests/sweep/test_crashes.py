"""A sweep that is killed, starved and tampered with ends in the table of an undisturbed one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ssft_bench import results
from tests.sweep.toy import table, write_grid

KILLS = 20
GRID = {
    "interfaces": ["weighted_sum", "last", "mean"],
    "tasks": ["pr", "asr"],
    "seeds": [1, 2],
}


@pytest.fixture
def grid(tmp_path: Path, toy_an4: Path, toy_plugins: Path) -> Path:
    return write_grid(tmp_path / "toy.yaml", toy_an4, toy_plugins, **GRID)


def start(grid: Path, out: Path, cache: Path, retries: int = 50) -> subprocess.Popen[bytes]:
    """A driver with two workers, its own process group."""
    environment = {
        **os.environ,
        "SSFT_BENCH_CACHE": str(cache.parent / "digests"),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "ssft_bench", "sweep", str(grid), "--out", str(out), "--cache", str(cache),
         "--jobs", "2", "--retries", str(retries), "--json"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(grid: Path, out: Path, cache: Path) -> str:
    process = start(grid, out, cache)
    text, _ = process.communicate(timeout=900)
    assert process.returncode == 0, text.decode()
    return text.decode()


def workers(out: Path) -> list[int]:
    """Processes that work on plans below a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = entry.read_bytes().split(b"\0")
            if b"work" in words and any(word.startswith(os.fsencode(out)) for word in words):
                found.append(int(entry.parent.name))
    return found


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def disturb(rng: np.random.Generator, out: Path, cache: Path) -> str:
    """One of: half a result, half a line of a log, a flipped bit or a cut in the store."""
    records = sorted(out.rglob("result.json"))
    data = sorted(p for p in cache.rglob("*") if p.is_file() and p.stat().st_size > 1000)
    kind = rng.choice(["result", "log", "flip", "cut"])
    if kind == "result" and records:
        path = records[rng.integers(len(records))]
        path.write_bytes(path.read_bytes()[: rng.integers(1, 200)])
    elif kind == "log":
        for path in sorted(out.rglob("log.jsonl"))[:1]:
            with path.open("ab") as file:
                file.write(b'{"step": 1')
    elif data:
        path = data[rng.integers(len(data))]
        whole = bytearray(path.read_bytes())
        if kind == "flip":
            whole[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
            path.write_bytes(whole)
        else:
            path.write_bytes(whole[: rng.integers(len(whole))])
    return str(kind)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc")
def test_twenty_kills_and_damage_end_in_the_undisturbed_table(grid: Path, tmp_path: Path) -> None:
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    rng = np.random.default_rng(seed)
    finish(grid, tmp_path / "calm", tmp_path / "calm_store")
    out, cache = tmp_path / "wild", tmp_path / "wild_store"
    history: list[str] = []
    done_when_killed = []
    for number in range(KILLS):
        process = start(grid, out, cache)
        time.sleep(float(rng.uniform(1, 14)))
        victims = workers(out)
        whom = rng.choice(["driver", "worker", "all"])
        if whom != "driver" and victims:
            for pid in victims if whom == "all" else victims[:1]:
                kill(pid)
        if whom == "worker":
            time.sleep(1)
        process.kill()
        process.communicate()
        done_when_killed.append(sum(r.status == "done" for r in results.readable(out)))
        if number % 3 == 2:
            for pid in workers(out):  # nobody writes while files are changed under them
                kill(pid)
            time.sleep(0.3)
            history.append(disturb(rng, out, cache))
        history.append(str(whom))
    finish(grid, out, cache)
    assert table(out) == table(tmp_path / "calm"), (seed, history)
    assert len(table(out)) == 24
    assert any(0 < n < 24 for n in done_when_killed), (
        seed,
        done_when_killed,
    )  # some came in the middle
    kept = [r for r in results.readable(out) if any(e["kind"] == "resumed" for e in r.events)]
    assert kept or max(done_when_killed) > 0, seed


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 200 kB; skips visibly where none can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_full_disk_under_the_store_changes_no_number(
    grid: Path, tmp_path: Path, tiny_disk: Path
) -> None:
    small = write_grid(
        grid, Path(json_of(grid)["data"]), grid.parent / "plugins", interfaces=["last"]
    )
    finish(small, tmp_path / "calm", tmp_path / "calm_store")
    finish(small, tmp_path / "full", tiny_disk / "store")
    assert table(tmp_path / "full") == table(tmp_path / "calm")
    events = [e for r in results.readable(tmp_path / "full") for e in r.events]
    together = [r.cost["states_from"] for r in results.readable(tmp_path / "full")]
    assert any(e["kind"] == "feature_store" for e in events) or "store" not in together


def json_of(grid: Path) -> dict[str, str]:
    import yaml

    loaded: dict[str, str] = yaml.safe_load(grid.read_text())
    return loaded


@pytest.mark.slow
def test_two_drivers_share_the_work(grid: Path, tmp_path: Path) -> None:
    """Each cell is done by one of them, and both end with the whole table."""
    first = start(grid, tmp_path / "runs", tmp_path / "store")
    time.sleep(3)
    second = start(grid, tmp_path / "runs", tmp_path / "store")
    texts = [p.communicate(timeout=900)[0].decode() for p in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], texts
    for text in texts:
        told = json.loads(text[text.index("{\n") :])
        assert told["counts"] == {"done": 24}
    records = list(results.readable(tmp_path / "runs"))
    assert len(records) == 24
    assert not [r for r in records if any(e["kind"] == "resumed" for e in r.events)]
