"""Trackers by their own packages: what they hold is what log.jsonl says, and they break nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ssft_bench import results
from ssft_bench.seeds import seed_for
from ssft_bench.tracking import Tracking, backends, choice, parse_tracker
from ssft_bench.tracking.backends import flat
from ssft_bench.training import Trainer
from ssft_bench.training_spec import TrainSpec
from tests.conftest import SMALL
from tests.tracking.wandb_file import history

Bench = Callable[..., tuple[int, str, str]]
Logged = dict[tuple[int, str], float]
NAMES = ("tensorboard", "wandb", "mlflow")
absent = [n for n in NAMES if not any(map(choice._installed, choice.PACKAGES[n]))]
needs_all = pytest.mark.skipif(bool(absent), reason=f"not installed: {', '.join(absent)}")


def of_log(path: Path) -> Logged:
    """log.jsonl by step and name."""
    rows = map(json.loads, path.read_text().splitlines())
    return {(int(r["step"]), k): v for r in rows for k, v in r.items() if k != "step"}


def of_tensorboard(folder: Path) -> Logged:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    seen.Reload()
    return {(e.step, k): e.value for k in seen.Tags()["scalars"] for e in seen.Scalars(k)}


def mlflow_client(folder: Path) -> tuple[Any, list[Any]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=folder.absolute().as_uri())
    return client, list(
        client.search_runs([client.get_experiment_by_name("ssft-bench").experiment_id])
    )


def of_mlflow(folder: Path) -> Logged:
    client, runs = mlflow_client(folder)
    return {
        (m.step, k): m.value
        for run in runs
        for k in run.data.metrics
        for m in client.get_metric_history(run.info.run_id, k)
    }


READ = {"tensorboard": of_tensorboard, "wandb": history, "mlflow": of_mlflow}


def same(found: Logged, logged: Logged) -> bool:
    """Whether two hold the same; TensorBoard keeps float32."""
    return found.keys() == logged.keys() and all(
        found[k] == pytest.approx(v, rel=1e-6) for k, v in logged.items()
    )


# Runs of the command line


@pytest.fixture
def cell(toy_an4: Path, toy_plugins: Path, tmp_path: Path) -> list[str]:
    return [
        "run", "--upstream", f"{toy_plugins}/spectrum.py:Spectrum", "--interface", "weighted_sum",
        "--task", "asr", "--corpus", "an4", "--data", str(toy_an4), *SMALL,
        "--set", "train.steps=20", "--set", "train.eval_every=10", "--set", "train.log_every=4",
        "--device", "cpu", "--json", "--out", str(tmp_path / "runs"),
    ]  # fmt: skip


def only(root: Path) -> Path:
    (folder,) = [f.parent for f in root.rglob("result.json")]
    return folder


@needs_all
@pytest.mark.parametrize("shared", [False, True])
def test_every_tracker_has_what_the_log_has(
    bench: Bench, cell: list[str], tmp_path: Path, shared: bool
) -> None:
    flags = [f"--tracker={n}:{tmp_path / 'all' / n}" if shared else f"--tracker={n}" for n in NAMES]
    code, _, error = bench(*cell, *flags)
    assert code == 0, error
    folder = only(tmp_path / "runs")
    logged = of_log(folder / "log.jsonl")
    assert len(logged) > 20
    assert {step for step, _ in logged} >= {4, 10, 20}
    record = results.load(folder)
    assert record is not None
    assert record.events == []
    for name in NAMES:
        place = tmp_path / "all" / name if shared else folder / name
        if name == "tensorboard" and shared:
            (place,) = {p.parent for p in place.rglob("events.*")}
            assert place.name == record.signature
        found = READ[name](place)
        assert same(found, logged), name
        spoilt = {**logged, (20, "loss"): logged[20, "loss"] + 0.01}
        assert not same(found, spoilt), "the control: another number is seen"
    client, (run,) = mlflow_client(tmp_path / "all/mlflow" if shared else folder / "mlflow")
    assert run.info.status == "FINISHED"
    assert run.data.tags["signature"] == record.signature
    assert run.data.params["train.optimizer.lr"] == "0.02"
    assert client is not None


@needs_all
def test_trackers_move_no_number(bench: Bench, cell: list[str], tmp_path: Path) -> None:
    assert bench(*cell)[0] == 0
    plain = only(tmp_path / "runs")
    tracked = [*cell[:-1], str(tmp_path / "tracked")]
    assert bench(*tracked, "--tracker", "wandb", "--tracker", "mlflow", "--tensorboard")[0] == 0
    other = only(tmp_path / "tracked")
    assert other.name == plain.name, "the signature"
    read = [(f / "predictions.jsonl").read_bytes() for f in (plain, other)]
    assert read[0] == read[1]
    assert (other / "tensorboard").is_dir()
    assert not (plain / "tensorboard").exists()


class Breaking:
    """Takes two lines, then raises; or at once, or at the end."""

    taken = 0

    def __init__(self, when: str) -> None:
        self.when = when
        if when == "open":
            raise RuntimeError("no\nsecond line")

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self.taken += 1
        if self.when == "log" and self.taken > 2:
            raise RuntimeError("no\nsecond line")

    def close(self) -> None:
        if self.when == "close":
            raise RuntimeError("no\nsecond line")


@pytest.mark.parametrize("when", ["open", "log", "close"])
def test_a_tracker_that_breaks_is_an_event(
    bench: Bench, cell: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr(choice, "_installed", lambda _: True)
    monkeypatch.setitem(backends.BACKENDS, "wandb", lambda _: Breaking(when))
    flags = (
        ["--tracker=wandb", "--tracker=tensorboard"]
        if "tensorboard" not in absent
        else ["--tracker=wandb"]
    )
    assert bench(*cell, *flags)[0] == 0
    folder = only(tmp_path / "runs")
    record = results.load(folder)
    assert record is not None
    assert record.status == "done"
    told = {"kind": "tracker_failed", "tracker": "wandb", "error": "RuntimeError: no"}
    assert record.events == [told]
    if "tensorboard" not in absent:
        assert same(of_tensorboard(folder / "tensorboard"), of_log(folder / "log.jsonl"))


def test_a_missing_package_is_told_before_any_work(
    bench: Bench, cell: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(choice.PACKAGES, "wandb", ("no-such-package-here",))
    code, out, error = bench(*cell, "--tracker", "wandb")
    assert (code, out) == (3, "")
    assert "ssft-bench[tracking]" in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--tracker", "wandbb"], "Did you mean wandb?"),
        (["--tracker", "mlflow:"], "name a folder"),
        (["--tensorboard", "--tracker", "tensorboard:x"], "asked for twice"),
        (["--tracker", "tensorboard:{file}/x"], "cannot write there"),
    ],
)
def test_what_is_refused(
    bench: Bench, cell: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    flags: list[str], words: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(choice, "_installed", lambda _: True)
    (tmp_path / "file").write_text("")
    code, out, error = bench(*cell, *(f.format(file=tmp_path / "file") for f in flags))
    assert (code, out) == (2, "")
    assert words in error
    assert not (tmp_path / "runs").exists()


# The training loop


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 1)

    def forward(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        return (self.net(batch).squeeze(-1) - batch.sum(-1)).pow(2).mean(), {}


def batches(first: int, rank: int, world: int) -> Iterator[Tensor]:
    index = first
    while True:
        yield torch.randn(6, 4, generator=torch.Generator().manual_seed(seed_for(7, index)))
        index += 1


class Stop(Exception):
    pass


def train(folder: Path, tracking: Tracking, stop_at: int | None = None) -> Trainer:
    spec = TrainSpec.model_validate(
        {"steps": 20, "optimizer": {"lr": 0.01}, "eval_every": 10, "save_every": 5, "log_every": 2}
    )

    trainer = Trainer(
        Line(), batches, spec, folder, seed=5, fabric=Fabric(accelerator="cpu", devices=1),
        evaluate=lambda: {"mse": 1.0}, select="mse", tracking=tracking,
    )  # fmt: skip
    update = trainer._update

    def stopping(stream: Iterator[object]) -> dict[str, float]:
        if trainer.outcome.step == stop_at:
            raise Stop
        return update(stream)

    trainer._update = stopping  # type: ignore[method-assign]
    trainer.run()
    return trainer


@needs_all
def test_a_resumed_run_goes_on(tmp_path: Path) -> None:
    """Stopped at step 13, on from 10: what was logged in between is logged again, and nothing is lost."""
    tracking = Tracking(tuple(map(parse_tracker, NAMES)), "u/i/t", "5e1f", {"a": {"b": 1}, "c": {}})
    folder = tmp_path / "run"
    with pytest.raises(Stop):
        train(folder, tracking, stop_at=13)
    assert mlflow_client(folder / "mlflow")[1][0].info.status == "FINISHED", "closed all the same"
    train(folder, tracking)
    logged = of_log(folder / "log.jsonl")
    for name in NAMES:
        found = READ[name](folder / name)
        untimed = {k: v for k, v in found.items() if k[1] != "seconds"}
        assert same(untimed, {k: v for k, v in logged.items() if k[1] != "seconds"}), name
    _, runs = mlflow_client(folder / "mlflow")
    assert [(r.info.status, r.data.params) for r in runs] == [("FINISHED", {"a.b": "1", "c": "{}"})]
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 2


@needs_all
def test_an_other_run_of_a_shared_folder_is_another(tmp_path: Path) -> None:
    shared = (parse_tracker(f"mlflow:{tmp_path / 'ml'}"),)
    for number in (1, 2):
        train(tmp_path / str(number), Tracking(shared, "u/i/t", str(number)))
    _, runs = mlflow_client(tmp_path / "ml")
    assert sorted(r.data.tags["signature"] for r in runs) == ["1", "2"]


def test_events_of_a_resumed_run_are_not_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(backends.BACKENDS, "wandb", lambda _: Breaking("open"))
    tracking = Tracking((parse_tracker("wandb"),))
    with pytest.raises(Stop):
        train(tmp_path, tracking, stop_at=13)
    events = train(tmp_path, tracking).outcome.events
    assert [e["kind"] for e in events] == ["tracker_failed", "resumed"]


def test_flat() -> None:
    assert dict(flat({"a": {"b": {"c": 1}, "d": []}, "e": None})) == {
        "a.b.c": 1,
        "a.d": [],
        "e": None,
    }


def test_nothing_is_imported_that_was_not_asked_for(tmp_path: Path) -> None:
    assert find_spec("ssft_bench.tracking.backends") is not None
    train(tmp_path, Tracking())
    assert not (tmp_path / "tensorboard").exists()


def test_the_home_folder_may_be_written_short() -> None:
    assert parse_tracker("mlflow:~/runs").folder == Path.home() / "runs"
