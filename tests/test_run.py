"""One cell from the command line: train, score, store, answer from the store, resume, fail clearly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

from ssft_bench import results
from tests.conftest import SMALL

Bench = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cell(toy_an4: Path, toy_plugins: Path, tmp_path: Path) -> list[str]:
    """Arguments of a run on the toy corpus with the toy upstream."""
    return [
        "run", "--upstream", f"{toy_plugins}/spectrum.py:Spectrum", "--interface", "weighted_sum",
        "--task", "pr", "--corpus", "an4", "--data", str(toy_an4), "--out", str(tmp_path / "runs"),
        *SMALL,
    ]  # fmt: skip


def only_record(out: Path) -> tuple[Path, results.ResultRecord]:
    found = list(results.find_all(out))
    assert len(found) == 1
    return found[0]


def comparable(record: results.ResultRecord) -> dict[str, Any]:
    """What must be the same in two undisturbed runs."""
    keep = ("signature", "metrics", "learning_curve", "selection", "predictions", "interface_state")
    values = record.model_dump(mode="json")
    return {key: values[key] for key in keep}


def test_run_learns_scores_and_stores(bench: Bench, cell: list[str], tmp_path: Path) -> None:
    code, out, err = bench(*cell, "--set", "train.steps=300")
    assert code == 0, err
    folder, record = only_record(tmp_path / "runs")
    assert "PER" in out
    assert record.status == "done"
    primary = record.primary()
    assert primary is not None
    assert primary.n == 12
    assert primary.value < 40  # an untrained head deletes every phone: 100
    assert primary.ci95 is not None
    assert primary.ci95[0] <= primary.value <= primary.ci95[1]
    assert "speaker" in str(primary.ci_method)
    rows = results.load_predictions(folder)
    assert [r.id for r in rows] == sorted(r.id for r in rows)
    assert record.predictions["n"] == 12
    usage = record.interface_state["layer_usage"]
    assert sum(usage) == pytest.approx(1)
    assert record.cost["parameters"]["interface"]["trainable"] == 2
    assert not (folder / "last.pt").exists()
    assert not list(folder.glob("*.tmp"))


def test_second_run_answers_from_the_store(bench: Bench, cell: list[str], tmp_path: Path) -> None:
    assert bench(*cell)[0] == 0
    folder, _ = only_record(tmp_path / "runs")
    stamp = (folder / "result.json").stat().st_mtime_ns
    code, out, _ = bench(*cell)
    assert code == 0
    assert "answered from the stored result" in out
    assert (folder / "result.json").stat().st_mtime_ns == stamp


def test_what_moves_a_score_moves_the_signature(
    bench: Bench, cell: list[str], toy_an4: Path, toy_plugins: Path, tmp_path: Path
) -> None:
    quick = ["--set", "train.steps=2", "--set", "train.eval_every=0"]

    def signature(*more: str) -> str:
        code, out, err = bench(*cell, *quick, *more, "--json")
        assert code == 0, err
        return str(json.loads(out)["signature"])

    first = signature()
    assert signature("--set", "train.log_every=1", "--set", "data.memory_gib=0") == first
    moved = toy_an4.rename(toy_an4.with_name("an4-elsewhere"))
    cell[cell.index("--data") + 1] = str(moved)
    assert signature() == first  # bytes count, not paths
    others = {
        signature("--seed", "2"),
        signature("--set", "train.optimizer.lr=0.01"),
        signature("--interface", "last"),
        signature("--upstream", f"{toy_plugins}/spectrum.py:Spectrum:gain=2"),
    }
    assert len(others) == 4
    assert first not in others
    path = next(moved.rglob("*.flac"))
    samples, rate = soundfile.read(path)
    samples[100] += 0.01
    soundfile.write(path, samples, rate)
    assert signature() not in {first, *others}


def test_no_memory_gives_the_same_numbers(bench: Bench, cell: list[str], tmp_path: Path) -> None:
    assert bench(*cell)[0] == 0
    kept = comparable(only_record(tmp_path / "runs")[1])
    assert bench(*cell, "--set", "data.memory_gib=0", "--overwrite", "always")[0] == 0
    assert comparable(only_record(tmp_path / "runs")[1]) == kept


def test_kill_9_and_again_gives_the_same_record(
    bench: Bench, cell: list[str], tmp_path: Path
) -> None:
    assert bench(*cell)[0] == 0
    whole = only_record(tmp_path / "runs")[1]
    cell[cell.index("--out") + 1] = str(tmp_path / "killed")
    process = subprocess.Popen(
        [sys.executable, "-m", "ssft_bench", *cell],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").rglob("last.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    record = only_record(tmp_path / "killed")[1]
    assert record.status == "running"
    code, _, err = bench(*cell)
    assert code == 0, err
    again = only_record(tmp_path / "killed")[1]
    assert comparable(again) == comparable(whole)
    assert any(event["kind"] == "resumed" for event in again.events)


def test_a_failure_is_recorded_and_tried_again(
    bench: Bench, cell: list[str], tmp_path: Path
) -> None:
    broken = [*cell, "--set", "train.optimizer.lr=1e30", "--set", "train.max_bad_steps=2",
              "--set", "train.clip=null"]  # fmt: skip
    code, _, err = bench(*broken)
    assert code == 1
    assert "not finite" in err
    assert "Traceback" not in err
    record = only_record(tmp_path / "runs")[1]
    assert record.status == "failed"
    assert "not finite" in str(record.error)
    code, _, err = bench(*broken, "--overwrite", "missing")
    assert code == 1
    assert "failed before" in err
    assert bench(*broken)[0] == 1


def test_an_interface_in_a_file(
    bench: Bench, cell: list[str], toy_plugins: Path, tmp_path: Path
) -> None:
    cell[cell.index("weighted_sum")] = f"{toy_plugins}/mine.py:Mine:scale=0.5"
    code, _, err = bench(*cell, "--set", "train.steps=20")
    assert code == 0, err
    record = only_record(tmp_path / "runs")[1]
    assert record.spec.interface.options == {"scale": 0.5}
    assert record.cost["parameters"]["interface"]["trainable"] == 1


def test_words(bench: Bench, cell: list[str], tmp_path: Path) -> None:
    cell[cell.index("pr")] = "asr"
    small = [
        item
        for key in ("project_dim=24", "hidden_dim=24", "layers=1")
        for item in ("--set", f"task.options.{key}")
    ]
    code, _, err = bench(*cell, *small, "--set", "train.steps=5")
    assert code == 0, err
    record = only_record(tmp_path / "runs")[1]
    assert {(m.name, m.split) for m in record.metrics} == {
        (name, split) for name in ("wer", "cer") for split in ("test", "dev")
    }
    assert record.primary() == next(
        m for m in record.metrics if (m.name, m.split) == ("wer", "test")
    )


def test_leaderboard_from_results(bench: Bench, cell: list[str], tmp_path: Path) -> None:
    quick = ["--set", "train.steps=2"]
    for interface in ("weighted_sum", "last"):
        cell[cell.index("--interface") + 1] = interface
        assert bench(*cell, *quick)[0] == 0
    code, out, _ = bench("leaderboard", "build", "--runs", tmp_path / "runs")
    assert code == 0
    assert "| weighted_sum |" in out
    first = (tmp_path / "runs/leaderboard.csv").read_bytes()
    assert bench("leaderboard", "build", "--runs", tmp_path / "runs")[0] == 0
    assert (tmp_path / "runs/leaderboard.csv").read_bytes() == first
    code, _, err = bench("leaderboard", "build", "--runs", tmp_path / "nothing")
    assert code == 3
    assert "no finished run" in err
