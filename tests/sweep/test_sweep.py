"""Whole sweeps on the toy corpus: equal to runs alone, shared states, failures that stay with their cell."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ssft_bench import executors, results
from ssft_bench.executors.base import Executor, Job, Share
from ssft_bench.sweep.work import work
from tests.sweep.test_drive import Ended
from tests.sweep.toy import BREAKS, RECIPE, table, write_grid

Bench = Callable[..., tuple[int, str, str]]


ONE = ["sweep", "--upstreams", "fbank", "--interfaces", "last", "--tasks", "pr"]


class Here(Executor):
    """Does shares in this process: a worker's start takes longer than a toy cell."""

    slots = 1

    def submit(self, shares: Sequence[Share]) -> list[Job]:
        """Do them at once."""
        jobs: list[Job] = []
        for share in shares:
            outcomes = work(share.plan, share.index)
            jobs.append(Ended(4 if {"failed", "given_up"} & set(outcomes.values()) else 0))
        return jobs


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are not started; their work is done in this process."""
    monkeypatch.setattr(executors, "open_executor", lambda text, jobs=None: Here())


@pytest.fixture
def sweep(bench: Bench, tmp_path: Path, toy_an4: Path, toy_plugins: Path) -> Callable[..., Any]:
    """Run a sweep of the toy grid with one worker and its JSON."""
    (toy_plugins / "breaks.py").write_text(BREAKS)

    def call(out: str, *flags: object, **changes: Any) -> tuple[int, dict[str, Any], str]:
        grid = write_grid(tmp_path / "toy.yaml", toy_an4, toy_plugins, **changes)
        code, text, err = bench(
            "sweep", grid, "--out", tmp_path / out, "--jobs", 1, "--json", *flags
        )
        return code, json.loads(text) if text else {}, err

    return call


def alone(
    bench: Bench, out: Path, corpus: Path, upstream: str, interface: str, states: str
) -> None:
    sets = [part for text in (*RECIPE, f"data.states={states}") for part in ("--set", text)]
    code, _, err = bench(
        "run", "--upstream", upstream, "--interface", interface, "--task", "pr", "--corpus", "an4",
        "--data", corpus, "--out", out, *sets,
    )  # fmt: skip
    assert code == 0, err


def test_a_sweep_gives_what_runs_alone_give_and_then_answers_in_no_time(
    bench: Bench, sweep: Callable[..., Any], tmp_path: Path, toy_an4: Path, toy_plugins: Path
) -> None:
    code, told, err = sweep("runs", "--per-share", 2)  # real workers
    assert code == 0, err
    assert told["counts"] == {"done": 4}
    for gain in ("", ":gain=2.0"):
        for interface in ("weighted_sum", "last"):
            upstream = f"{toy_plugins}/spectrum.py:Spectrum{gain}"
            alone(bench, tmp_path / "alone", toy_an4, upstream, interface, "bfloat16")
    assert table(tmp_path / "runs") == table(tmp_path / "alone")
    encoded = [r.cost["speech_hours_encoded"] for _, r in results.find_all(tmp_path / "runs")]
    assert encoded == [0.0] * 4  # all of it came from the store
    assert [r.cost["speech_hours_encoded"] > 0 for _, r in results.find_all(tmp_path / "alone")]
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*") if p.is_file()}
    code, told, err = sweep("runs", "--per-share", 2)
    assert code == 0, err
    assert told["counts"] == {"done": 4}
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*") if p.is_file()}
    assert after == before  # no worker was started


@pytest.mark.usefixtures("here")
def test_without_a_store_and_side_by_side_the_numbers_are_the_same(
    sweep: Callable[..., Any], tmp_path: Path
) -> None:
    assert sweep("store")[0] == 0
    assert sweep("memory", "--cache-gib", 0)[0] == 0
    assert sweep("together", "--cache-gib", 1e-6, "--per-share", 4)[0] == 0
    assert table(tmp_path / "memory") == table(tmp_path / "store")
    assert table(tmp_path / "together") == table(tmp_path / "store")
    logs = "".join(p.read_text() for p in (tmp_path / "together").rglob("logs/*.log"))
    assert "Traceback" not in logs


@pytest.mark.usefixtures("here")
def test_a_cell_that_fails_is_listed_and_the_others_are_done(
    sweep: Callable[..., Any], bench: Bench, tmp_path: Path, toy_plugins: Path
) -> None:
    wrong = f"{toy_plugins}/breaks.py:Breaks"
    code, told, err = sweep("runs", "--retries", 1, interfaces=["last", wrong], upstreams=[
        f"{toy_plugins}/spectrum.py:Spectrum"])  # fmt: skip
    assert code == 4
    assert "1 of 2 cells failed" in err
    assert told["counts"] == {"done": 1, "failed": 1}
    failed = next(c for c in told["cells"] if c["status"] == "failed")
    assert "this one always breaks" in failed["note"]
    code, out, _ = bench("status", "--out", tmp_path / "runs")
    assert code == 0
    assert "this one always breaks" in out
    assert "✗" in out
    (toy_plugins / "breaks.py").write_text(BREAKS.replace(
        'raise RuntimeError("this one always breaks")', "return states[-1]"))  # fmt: skip
    code, told, err = sweep("runs", interfaces=["last", wrong], upstreams=[
        f"{toy_plugins}/spectrum.py:Spectrum"])  # fmt: skip
    assert code == 0, err
    assert told["counts"] == {"done": 2}


@pytest.mark.usefixtures("here")
def test_plan_tells_states_hours_and_sharing_without_running(
    bench: Bench, sweep: Callable[..., Any], tmp_path: Path, toy_an4: Path, toy_plugins: Path
) -> None:
    grid = write_grid(tmp_path / "toy.yaml", toy_an4, toy_plugins)
    code, text, err = bench("plan", grid, "--out", tmp_path / "runs", "--jobs", 1, "--json")
    assert code == 0, err
    told = json.loads(text)
    assert told["counts"] == {"missing": 4}
    assert {one["cells"] for one in told["shared"]} == {2}
    assert told["estimate"]["hours_left"] > 0
    assert not list((tmp_path / "runs").rglob("result.json"))
    assert sweep("runs")[0] == 0
    code, text, err = bench("plan", grid, "--out", tmp_path / "runs", "--jobs", 1, "--json")
    assert json.loads(text)["counts"] == {"done": 4}
    changed = write_grid(tmp_path / "toy.yaml", toy_an4, toy_plugins, set=[*RECIPE, "train.clip=3"])
    code, out, err = bench("plan", changed, "--out", tmp_path / "runs", "--jobs", 1)
    assert code == 0, err
    assert "4 stale" in out


@pytest.mark.parametrize(("arguments", "code", "told"), [
    (["sweep", "nowhere.yaml"], 2, "nowhere.yaml"),
    (["sweep", "--upstreams", "fbank"], 2, "--interfaces"),
    ([*ONE, "--jobs", "999"], 2, "--jobs"),
    ([*ONE, "--seeds", "x"], 2, "--seeds"),
    ([*ONE, "--cache", "occupied/here"], 2, "--cache"),
    ([*ONE, "--executor", "moon"], 2,
     "executor"),
    ([*ONE[:-1], "sa", "--suite", "pocket"], 3, "sa"),
    (["work", "nowhere", "--index", "0"], 2, "plan.json"),
    (["status", "--out", "nowhere"], 2, "no plan"),
])  # fmt: skip
def test_mistakes_end_in_one_line(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], code: int, told: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "occupied").touch()
    found, _, err = bench(*arguments)
    assert found == code, err
    assert told in err.splitlines()[-1]
    assert "Traceback" not in err
