"""`--lr-grid`: every rate is trained as if alone, dev picks, all trials are stored."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ssft_bench import results
from tests.conftest import SMALL

Bench = Callable[..., tuple[int, str, str]]
SHORT = ("--set", "train.steps=120", "--set", "train.eval_every=40")


@pytest.fixture
def command(toy_an4: Path, toy_plugins: Path) -> list[str]:
    """A run on the toy corpus, without its output folder."""
    return [
        "run", "--upstream", f"{toy_plugins}/spectrum.py:Spectrum", "--interface", "weighted_sum",
        "--task", "pr", "--corpus", "an4", "--data", str(toy_an4), *SMALL, *SHORT,
    ]  # fmt: skip


def only(out: Path) -> tuple[Path, results.ResultRecord]:
    ((folder, record),) = results.find_all(out)
    return folder, record


def test_the_winner_is_the_run_of_its_rate_alone(
    bench: Bench, command: list[str], tmp_path: Path
) -> None:
    assert bench(*command, "--lr-grid", "1e-5,2e-2,8e-3", "--out", tmp_path / "grid")[0] == 0
    folder, record = only(tmp_path / "grid")
    values = {row["lr"]: row["value"] for row in record.trials}
    assert list(values) == [1e-5, 2e-2, 8e-3]
    best = min(values, key=lambda rate: values[rate])
    assert best != 1e-5  # it has learned nothing in 120 steps
    assert record.selection["lr"] == best
    logs = {path.parent.name: path.read_text() for path in folder.glob("trials/*/log.jsonl")}
    losses = {name: next(line for line in log.splitlines() if "loss" in line)
              for name, log in logs.items()}  # fmt: skip
    assert len(set(losses.values())) == 3, losses

    alone = tmp_path / "alone"
    assert bench(*command, "--set", f"train.optimizer.lr={best}", "--out", alone)[0] == 0
    one_folder, one = only(alone)
    assert one.metrics == record.metrics
    assert one.learning_curve == record.learning_curve
    assert one.signature != record.signature
    first, second = (load_file(place / "best.safetensors") for place in (folder, one_folder))
    assert all(first[name].equal(second[name]) for name in second)
    assert (folder / "log.jsonl").read_text().count("\n") == (
        (one_folder / "log.jsonl").read_text().count("\n")
    )


def test_finished_trials_are_not_trained_again(
    bench: Bench, command: list[str], tmp_path: Path
) -> None:
    """A run that stopped after its first trial goes on with the second and ends in the same numbers."""
    grid = (*command, "--lr-grid", "2e-2,1e-3", "--out", tmp_path / "runs")
    assert bench(*grid)[0] == 0
    folder, whole = only(tmp_path / "runs")
    first = folder / "trials" / "lr=0.02" / "trial.json"
    told = json.loads(first.read_text())
    assert told["value"] == whole.trials[0]["value"]
    # Put the folder back to how it was after the first trial.
    record = whole.model_copy(update={"status": "running", "trials": [], "metrics": []})
    results.save(folder, record)
    shutil.copyfile(folder / "best.safetensors", first.with_name("best.safetensors"))
    shutil.rmtree(folder / "trials" / "lr=0.001")
    marked = json.loads(first.read_text()) | {"seconds": 12345.0}
    first.write_text(json.dumps(marked))
    assert bench(*grid)[0] == 0
    _, again = only(tmp_path / "runs")
    assert again.metrics == whole.metrics
    assert again.trials[0]["seconds"] == 12345.0  # read, not trained
    assert again.trials[1]["value"] == whole.trials[1]["value"]


def test_a_rate_that_diverges_does_not_stop_the_others(
    bench: Bench, command: list[str], tmp_path: Path
) -> None:
    grid = (*command, "--set", "train.max_bad_steps=1", "--set", "train.clip=null")
    code, _, err = bench(*grid, "--lr-grid", "1e30,2e-2", "--out", tmp_path / "runs")
    assert code == 0, err
    _, record = only(tmp_path / "runs")
    assert record.selection["lr"] == 2e-2
    assert "not finite" in record.trials[0]["error"]
    code, _, err = bench(*grid, "--lr-grid", "1e30,1e31", "--out", tmp_path / "none")
    assert code == 1
    assert "every rate" in err


@pytest.mark.parametrize("grid", ["", "fast", "1e-3,1e-3", "0", "-1e-3,1e-3"])
def test_rates_that_are_none(bench: Bench, command: list[str], grid: str) -> None:
    code, _, err = bench(*command, "--lr-grid", grid)
    assert code == 2
    assert "--lr-grid" in err
