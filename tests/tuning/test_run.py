"""`ssft-bench tune` from the command line: checkpoints, resuming, mistakes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ssft_bench.checkpoints.delta import read_checkpoint
from ssft_bench.tuning import record as records
from ssft_bench.tuning.learner import TuneLearner
from ssft_bench.upstream import load_upstream
from tests.upstreams.tiny import write_tiny

pytestmark = pytest.mark.usefixtures("one_thread")
Bench = Callable[..., tuple[int, str, str]]
STEPS = 12


@pytest.fixture
def arguments(tmp_path: Path, toy_an4: Path) -> list[object]:
    weights = write_tiny(tmp_path, dropout=0.1)
    return [
        "tune", "--method", "score", "--base", f"hubert_mini_local:ckpt={weights}", "--corpus", "an4",
        "--data", toy_an4, "--workers", 0, "--device", "cpu", "--set", f"train.steps={STEPS}",
        "--set", "train.save_every=3", "--set", "train.log_every=1", "--set", "data.batch_size=2",
        "--set", "train.optimizer.lr=0.01", "--set", "store=float32",
    ]  # fmt: skip


def test_a_checkpoint_that_loads_as_an_upstream(
    bench: Bench, arguments: list[object], tmp_path: Path
) -> None:
    out = tmp_path / "tuned"
    code, printed, err = bench(*arguments, "-o", out)
    assert code == 0, err
    assert f"{STEPS} updates" in printed
    assert "teacher_mode: eval (fixed)" in printed
    record = records.load(out)
    assert record is not None
    assert record.status == "done"
    assert record.cost["hours_processed"] > 0
    assert {"loss", "grad_norm", "spread", "lr"} <= record.last.keys()
    checkpoint = read_checkpoint(out / "checkpoint.safetensors")
    assert {n.split(".")[3] for n in checkpoint.tensors} == {"1", "2"}  # the top two of three
    assert checkpoint.about["steps"] == STEPS
    assert checkpoint.about["base"]["sha256"] == record.content["base_weights"]
    tuned = load_upstream("score_hubert_local", {"ckpt": str(out / "checkpoint.safetensors")})
    base = load_upstream("hubert_mini_local", {"ckpt": str(tmp_path / "tiny_hubert.safetensors")})
    before, after = base.state_dict(), tuned.state_dict()
    changed = {n.removeprefix("expert.") for n in before if not torch.equal(before[n], after[n])}
    assert changed == checkpoint.tensors.keys()
    assert all(torch.equal(after[f"expert.{n}"], t) for n, t in checkpoint.tensors.items())
    logged = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in logged] == list(range(1, STEPS + 1))
    code, printed, _ = bench(*arguments, "-o", out)
    assert code == 0
    assert "answered from the folder" in printed


def test_an_interrupted_run_ends_in_the_same_weights(
    bench: Bench, arguments: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bench(*arguments, "-o", tmp_path / "whole")[0] == 0
    calls, forward = iter(range(10**6)), TuneLearner.forward

    def stop(self: TuneLearner, *given: object) -> object:
        if next(calls) == 7:
            raise KeyboardInterrupt
        return forward(self, *given)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(TuneLearner, "forward", stop)
        assert bench(*arguments, "-o", tmp_path / "broken")[0] == 130
    assert records.load(tmp_path / "broken").status == "running"  # type: ignore[union-attr]
    assert bench(*arguments, "-o", tmp_path / "broken")[0] == 0
    whole, broken = (
        read_checkpoint(tmp_path / n / "checkpoint.safetensors") for n in ("whole", "broken")
    )
    assert all(torch.equal(t, broken.tensors[n]) for n, t in whole.tensors.items())
    events = records.load(tmp_path / "broken").events  # type: ignore[union-attr]
    assert {"kind": "resumed", "step": 6} in events
    assert bench(*arguments, "-o", tmp_path / "other", "--seed", 5)[0] == 0  # the control
    other = read_checkpoint(tmp_path / "other" / "checkpoint.safetensors")
    assert not all(torch.equal(t, other.tensors[n]) for n, t in whole.tensors.items())


@pytest.mark.slow
def test_kill_9(bench: Bench, arguments: list[object], tmp_path: Path) -> None:
    more = [a if a != f"train.steps={STEPS}" else "train.steps=60" for a in arguments]
    assert bench(*more, "-o", tmp_path / "whole")[0] == 0
    out = tmp_path / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ssft_bench", *map(str, more), "-o", str(out)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    log, until = out / "log.jsonl", time.monotonic() + 120
    while time.monotonic() < until and not (
        log.exists() and len(log.read_text().splitlines()) > 20
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "checkpoint.safetensors").exists()
    assert bench(*more, "-o", out)[0] == 0
    whole, killed = (
        read_checkpoint(tmp_path / n / "checkpoint.safetensors") for n in ("whole", "killed")
    )
    assert all(torch.equal(t, killed.tensors[n]) for n, t in whole.tensors.items())


def test_nan_stops_with_a_message(
    bench: Bench, arguments: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        TuneLearner,
        "forward",
        lambda self, *a: (sum(p.sum() for p in self.parameters()) * torch.nan, {}),
    )
    code, _, err = bench(*arguments, "-o", tmp_path / "nan")
    assert code == 1
    assert "not finite for 10 updates" in err
    assert "train.optimizer.lr" in err
    assert records.load(tmp_path / "nan").status == "failed"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("more", "code", "parts"),
    [
        (["--method", "scoer"], 2, ["score"]),
        (["--base", "fbank"], 2, ["fbank", "no transformer layers"]),
        (["--set", "method.options.top_layers=9"], 2, ["top_layers=9", "3 layers"]),
        (["--faithful", "nothing"], 2, ["teacher_mode"]),
        (["--data", "/no/where"], 3, ["/no/where"]),
        (["--set", "data.min_seconds=99"], 3, ["data.min_seconds"]),
        (["--method", "rewire", "--set", "method.options.tts=parrot"], 2, ["parrot", "festival"]),
    ],
)
def test_mistakes(
    bench: Bench,
    arguments: list[object],
    tmp_path: Path,
    more: list[str],
    code: int,
    parts: list[str],
) -> None:
    got, out, err = bench(*arguments, "-o", tmp_path / "out", *more)
    assert got == code, err
    assert "Traceback" not in out + err
    assert all(part in err for part in parts), err
    assert not (tmp_path / "out" / "last.pt").exists()


def test_a_folder_holds_one_run(bench: Bench, arguments: list[object], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert bench(*arguments, "-o", out, "--set", "train.steps=2")[0] == 0
    code, _, err = bench(*arguments, "-o", out)
    assert code == 2
    assert "--anew" in err
    assert bench(*arguments, "-o", out, "--anew", "--set", "train.steps=3")[0] == 0
    assert records.load(out).cost["updates"] == 3  # type: ignore[union-attr]


def test_a_collapse_is_told(
    bench: Bench, arguments: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(10**6))
    monkeypatch.setattr(
        "ssft_bench.upstreams.score.method.spread",
        lambda rows: rows.new_tensor(0.8 * 0.5 ** next(calls)),
    )
    code, _, err = bench(*arguments, "-o", tmp_path / "fell", "--set", "train.steps=25")
    assert code == 0, err
    assert err.count("ALARM: spread fell from") == 1
    record = records.load(tmp_path / "fell")
    assert record is not None
    assert [e["kind"] for e in record.events] == ["collapse"]


@pytest.mark.parametrize("method", ["spin", "laser", "rewire"])
def test_the_other_methods_run(
    bench: Bench, arguments: list[object], tmp_path: Path, method: str
) -> None:
    more = ["--method", method, "--set", "train.steps=3"]
    if method == "spin":
        more += ["--set", "data.pack=shuffled", "--set", "data.batch_seconds=null"]
        more += ["--set", "data.min_seconds=0"]
    if method == "rewire":
        more += ["--set", "method.options.positive=twin"]
    code, _, err = bench(*arguments, *more, "-o", tmp_path / method)
    assert code == 0, err
    record = records.load(tmp_path / method)
    assert record is not None
    # Of the toy corpus' tones, some have no pitch that Praat or we would know.
    assert record.method["remarks"].keys() == ({"pitch_not_changed"} if method == "spin" else set())
    checkpoint = read_checkpoint(tmp_path / method / "checkpoint.safetensors")
    layers = {n for n in checkpoint.tensors if ".encoder.layers." in n}
    assert (layers == set(checkpoint.tensors)) == (method != "rewire")
    assert bool(checkpoint.extra) == (method == "spin")
