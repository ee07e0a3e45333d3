"""The training loop: resume to the same numbers, accumulation, NaN guard, schedules."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ssft_bench.errors import CheckFailed
from ssft_bench.seeds import seed_for
from ssft_bench.training import Trainer
from ssft_bench.training_spec import Optimizer, Schedule, TrainSpec


class Regression(nn.Module):
    """A learner with dropout and noise, so that every random draw matters."""

    def __init__(self, poison: range = range(0)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.poison, self.calls = poison, 0

    def forward(
        self, batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        x, y = batch
        noise = torch.randn(x.shape, generator=generator)
        loss = (self.net(x + 0.1 * noise).squeeze(-1) - y).pow(2).mean()
        if self.calls in self.poison:
            loss = loss * math.nan
        self.calls += 1
        return loss, {}


def batches(first: int, rank: int, world: int) -> Iterator[tuple[Tensor, Tensor]]:
    index = first
    while True:
        generator = torch.Generator().manual_seed(seed_for(7, "batch", index))
        x = torch.randn(6, 4, generator=generator)
        yield x, x.sum(-1)
        index += 1


def trainer(folder: Path, learner: nn.Module | None = None, **changes: object) -> Trainer:
    spec = TrainSpec.model_validate(
        {"steps": 40, "optimizer": {"lr": 0.01}, "eval_every": 10, "save_every": 5, "log_every": 4}
        | changes
    )
    learner = learner or Regression()

    def evaluate() -> dict[str, float]:
        x = torch.randn(32, 4, generator=torch.Generator().manual_seed(3))
        return {"mse": float((learner.net(x).squeeze(-1) - x.sum(-1)).pow(2).mean())}  # type: ignore[operator]

    return Trainer(
        learner, batches, spec, folder, seed=5, fabric=Fabric(accelerator="cpu", devices=1),
        evaluate=evaluate, select="mse",
    )  # fmt: skip


def parameters(t: Trainer) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in t.module.parameters()])


class Stop(Exception):
    pass


@pytest.mark.parametrize("stop_at", [1, 7, 23, 39])
def test_a_stopped_run_ends_in_the_same_parameters(tmp_path: Path, stop_at: int) -> None:
    whole = trainer(tmp_path / "whole")
    outcome = whole.run()

    broken = trainer(tmp_path / "broken")
    update = broken._update

    def stopping(stream: Iterator[object]) -> dict[str, float]:
        if broken.outcome.step == stop_at:
            raise Stop
        return update(stream)

    broken._update = stopping  # type: ignore[method-assign]
    with pytest.raises(Stop):
        broken.run()
    again = trainer(tmp_path / "broken")
    assert again.outcome.step == stop_at // 5 * 5
    resumed = again.run()
    assert torch.equal(parameters(whole), parameters(again))
    assert resumed.best_value == outcome.best_value
    assert resumed.curve == outcome.curve
    steps = [json.loads(line)["step"] for line in (tmp_path / "broken/log.jsonl").open()]
    assert steps == [json.loads(line)["step"] for line in (tmp_path / "whole/log.jsonl").open()]


def test_a_lost_optimiser_state_would_be_noticed(tmp_path: Path) -> None:
    """Negative control: without Adam's moments the parameters differ."""
    whole = trainer(tmp_path / "whole")
    whole.run()
    first = trainer(tmp_path / "cut", steps=20)
    first.run()
    path = tmp_path / "cut/last.pt"
    state = torch.load(path, weights_only=True)
    state["optimizer"]["state"] = {}
    torch.save(state, path)
    again = trainer(tmp_path / "cut")
    again.run()
    assert not torch.equal(parameters(whole), parameters(again))


def test_kill_9_in_the_middle(tmp_path: Path) -> None:
    """A real process, killed without notice, torn log line included."""
    code = (
        "import sys, time; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "import test_training as t\n"
        "run = t.trainer(Path(sys.argv[1])); update = run._update\n"
        "run._update = lambda stream: (time.sleep(0.03), update(stream))[1]\n"
        "run.run()"
    )
    folder = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(Path(__file__).parent)]
    )
    deadline = time.monotonic() + 60
    while not (folder / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"step": 39, "lo')
    again, whole = trainer(folder), trainer(tmp_path / "whole")
    assert 0 < again.outcome.step < 40
    again.run()
    whole.run()
    assert torch.equal(parameters(whole), parameters(again))
    assert {"kind": "resumed"}.items() <= again.outcome.events[-1].items()


def test_accumulation_equals_one_large_batch(tmp_path: Path) -> None:
    """Two micro-batches of 6 give the gradient of one batch of 12 (no dropout, plain SGD)."""

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(4, 1)
            nn.init.zeros_(self.net.weight)

        def forward(
            self, batch: tuple[Tensor, Tensor], generator: torch.Generator
        ) -> tuple[Tensor, dict]:
            x, y = batch
            return (self.net(x).squeeze(-1) - y).pow(2).mean(), {}

    learner = Plain()
    start = [p.detach().clone() for p in learner.parameters()]
    sgd = {"name": "sgd", "lr": 0.1}
    trainer(tmp_path, learner, steps=1, accumulate=2, optimizer=sgd, clip=None).run()
    stream = batches(0, 0, 1)
    pairs = [next(stream), next(stream)]
    x, y = (torch.cat([p[i] for p in pairs]) for i in (0, 1))
    reference = Plain()
    with torch.no_grad():
        for p, s in zip(reference.parameters(), start, strict=True):
            p.copy_(s)
    ((reference.net(x).squeeze(-1) - y).pow(2).mean()).backward()
    for p, r in zip(learner.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(p, r - 0.1 * r.grad)


def test_bad_steps_are_skipped_and_reported(tmp_path: Path) -> None:
    run = trainer(tmp_path, Regression(poison=range(3, 6)))
    outcome = run.run()
    assert [e["step"] for e in outcome.events if e["kind"] == "nan_step"] == [3, 4, 5]
    assert torch.isfinite(parameters(run)).all()


def test_divergence_stops_with_a_message(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"not finite for 4 updates.*lr"):
        trainer(tmp_path, Regression(poison=range(10, 99)), max_bad_steps=4).run()


def test_gradients_are_clipped(tmp_path: Path) -> None:
    learner = Regression()
    before = torch.cat([p.detach().reshape(-1).clone() for p in learner.parameters()])
    run = trainer(tmp_path, learner, steps=1, clip=1e-3, optimizer={"name": "sgd", "lr": 1.0})
    run.run()
    assert float((parameters(run) - before).norm()) == pytest.approx(1e-3, rel=1e-3)


def test_best_step_is_kept(tmp_path: Path) -> None:
    run = trainer(tmp_path, optimizer={"lr": 0.5})  # too high: the last step is not the best
    outcome = run.run()
    values = {row["step"]: row["dev_mse"] for row in outcome.curve}
    assert outcome.best_value == min(values.values()) == values[outcome.best_step]
    run.load_best()
    assert run.evaluate is not None
    run.module.eval()
    assert run.evaluate()["mse"] == outcome.best_value


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "tri_stage"])
def test_schedules(name: str) -> None:
    s = Schedule(name=name, warmup=0.1, hold=0.3, final_scale=0.05)  # type: ignore[arg-type]
    values = [s.factor(step, 100) for step in range(101)]
    assert values[0] == pytest.approx(1 / 11)
    assert max(values) == 1.0
    assert values[:10] == sorted(values[:10])
    if name != "constant":
        assert values[-1] == pytest.approx(0.05)
    if name == "tri_stage":  # fairseq: hold, then exponential decay
        assert values[39] == 1.0
        assert values[70] == pytest.approx(math.sqrt(0.05))
    assert Optimizer().lr == 1e-4
