"""`--devices 2` on the CPU: the same updates, batches and numbers as one device, within rounding."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from ssft_bench.ranks import weight

RUN = ("-m", "ssft_bench")
TORCHRUN = (
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc-per-node",
    "2",
    "-m",
    "ssft_bench",
)
# Seven to a batch: one rank has four of them, the other three; the last batch of a pass has one.
RECIPE = {"train.steps": 120, "train.eval_every": 40, "train.save_every": 10, "train.log_every": 1,
          "train.optimizer.lr": 0.02, "data.batch_size": 7}  # fmt: skip


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_weighted_means_of_ranks_are_the_mean_of_all(world: int) -> None:
    seed = secrets.randbits(32)
    losses = np.random.default_rng(seed).normal(size=7)
    parts = [losses[r::world] if r < 7 else losses[:1] for r in range(world)]
    weighted = [weight(7, r, world) * part.mean() for r, part in enumerate(parts)]
    assert np.mean(weighted) == pytest.approx(losses.mean(), rel=1e-12, abs=1e-12), seed
    if world > 1:  # the control: without weights it is another number
        assert abs(np.mean([p.mean() for p in parts]) - losses.mean()) > 1e-6, seed


def run(
    start: tuple[str, ...], out: Path, *arguments: object, expect: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *start, "run", *map(str, arguments), "--device", "cpu", "--out", str(out)],
        capture_output=True, text=True, timeout=300,
        env={**os.environ, "SSFT_BENCH_CACHE": str(out / "cache"), "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip
    assert done.returncode == expect, done.stderr[-3000:]
    return done


def found(out: Path) -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """Record, parameters and log of the only run in a folder."""
    (path,) = out.rglob("result.json")
    log = (path.parent / "log.jsonl").read_text().splitlines()
    parameters = load_file(path.parent / "best.safetensors")
    return json.loads(path.read_text()), parameters, [json.loads(line) for line in log]


def losses(run: tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]) -> np.ndarray:
    """Training loss of every update."""
    return np.array([row["loss"] for row in run[2] if "loss" in row])


def distance(a: dict[str, Any], b: dict[str, Any]) -> float:
    assert a.keys() == b.keys()
    return max(float(np.abs(a[key] - b[key]).max()) for key in a)


def cell(corpus: Path, plugins: Path, **changes: object) -> list[str]:
    sets = [f"{key}={value}" for key, value in {**RECIPE, **changes}.items()]
    return [
        "--upstream", f"{plugins}/spectrum.py:Spectrum", "--interface", "weighted_sum", "--task", "pr",
        "--corpus", "an4", "--data", str(corpus), *(w for s in sets for w in ("--set", s)),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("start", [RUN, TORCHRUN], ids=["fabric", "torchrun"])
def test_two_devices_come_to_what_one_does(
    start: tuple[str, ...], tmp_path: Path, toy_an4: Path, toy_plugins: Path
) -> None:
    arguments = cell(toy_an4, toy_plugins, **{"train.accumulate": 2})
    alone = run(RUN, tmp_path / "one", *arguments)
    done = run(start, tmp_path / "two", *arguments, "--devices", 2)
    one, two = found(tmp_path / "one"), found(tmp_path / "two")
    assert one[0]["signature"] == two[0]["signature"]
    told = [len(output.stdout.splitlines()) for output in (alone, done)]
    assert told[0] == told[1] > 0  # one table, not one of each rank
    assert len(losses(one)) == len(losses(two)) == 120  # as many updates, each told once
    # Training amplifies rounding: on one device, features changed by one ulp come to 1e-3 in the end too.
    np.testing.assert_allclose(losses(two)[:20], losses(one)[:20], rtol=1e-5)
    np.testing.assert_allclose(losses(two), losses(one), rtol=2e-2)
    assert distance(one[1], two[1]) < 3e-3
    assert one[0]["metrics"][0]["value"] < 90  # it has learned: like scores say something
    for ours, theirs in zip(two[0]["metrics"], one[0]["metrics"], strict=True):
        assert ours["value"] == pytest.approx(theirs["value"], abs=5)
    assert two[0]["status"] == "done"
    # The control: ranks that count alike, though one has four utterances and the other three.
    plugin = toy_plugins / "spectrum.py"
    plugin.write_text(plugin.read_text() + ALIKE)
    run(start, tmp_path / "alike", *arguments, "--devices", 2)
    alike = found(tmp_path / "alike")
    assert np.abs(losses(alike)[:20] / losses(one)[:20] - 1).max() > 1e-3
    assert distance(one[1], alike[1]) > 3e-2


ALIKE = """
from ssft_bench import features

features.weight = lambda count, rank, world: 1.0
"""


@pytest.mark.slow
def test_two_devices_search_learning_rates_and_answer_from_the_store(
    tmp_path: Path, toy_an4: Path, toy_plugins: Path
) -> None:
    arguments = [*cell(toy_an4, toy_plugins), "--lr-grid", "0.02,0.001"]
    run(RUN, tmp_path / "one", *arguments)
    run(RUN, tmp_path / "two", *arguments, "--devices", 2)
    one, two = found(tmp_path / "one"), found(tmp_path / "two")
    assert [t["lr"] for t in two[0]["trials"]] == [0.02, 0.001]
    assert two[0]["selection"] == one[0]["selection"]
    assert distance(one[1], two[1]) < 3e-3
    again = run(TORCHRUN, tmp_path / "two", *arguments, "--devices", 2)
    assert "Traceback" not in again.stderr
    assert found(tmp_path / "two")[0] == two[0]


@pytest.mark.slow
def test_a_killed_run_goes_on_with_another_number_of_devices(
    tmp_path: Path, toy_an4: Path, toy_plugins: Path
) -> None:
    """What two devices have saved, one takes up."""
    plugin = toy_plugins / "spectrum.py"
    plugin.write_text(plugin.read_text() + STOPS)
    arguments = cell(toy_an4, toy_plugins)
    run(RUN, tmp_path / "one", *arguments)
    killed = subprocess.run(
        [sys.executable, *RUN, "run", *arguments, "--device", "cpu", "--devices", "2",
         "--out", str(tmp_path / "two")],
        capture_output=True, text=True, timeout=300, env={**os.environ, "STOP_AT_STEP": "65"},
    )  # fmt: skip
    assert killed.returncode != 0
    (record,) = (tmp_path / "two").rglob("result.json")
    assert json.loads(record.read_text())["status"] == "running"
    run(RUN, tmp_path / "two", *arguments)
    one, two = found(tmp_path / "one"), found(tmp_path / "two")
    assert [e for e in two[0]["events"] if e["kind"] == "resumed"] == [
        {"kind": "resumed", "step": 60}
    ]
    assert distance(one[1], two[1]) < 3e-3


STOPS = """
import os, signal
from ssft_bench import training

if "STOP_AT_STEP" in os.environ:
    update = training.Trainer._update

    def stopping(self, stream):
        if self.outcome.step == int(os.environ["STOP_AT_STEP"]):
            os.kill(os.getpid(), signal.SIGKILL)
        return update(self, stream)

    training.Trainer._update = stopping
"""


@pytest.mark.slow
def test_torchrun_and_devices_must_agree(tmp_path: Path, toy_an4: Path, toy_plugins: Path) -> None:
    done = run(TORCHRUN, tmp_path, *cell(toy_an4, toy_plugins), expect=1)
    assert "error: torchrun started 2 processes: say --devices 2" in done.stderr
    assert "UsageError" not in done.stderr  # our part of it is that line
