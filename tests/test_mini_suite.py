"""Suite mini: every upstream and every fitting interface run on all five tasks, a few updates each."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from ssft_bench import registry, results, spec
from ssft_bench.cell import Machine
from ssft_bench.errors import UsageError
from ssft_bench.runner import run

TASKS = ("asr", "pr", "qbe", "ner", "sa")
FEW = ("data.max_utterances=6", "data.batch_size=3")
SOME = ("data.max_utterances=40",)
"""Enough for a query to occur somewhere."""
SHORT = ("train.steps=2", "train.eval_every=0", "train.schedule.warmup=0")
SEED = secrets.randbelow(2**31)

Run = Callable[[str, str, str], results.ResultRecord]


def upstreams() -> list[str]:
    """Names that suite mini can use: ours, with weights in the package; fbank for comparison."""
    names = [p.name for p in registry.plugins("upstreams") if p.origin == "built-in"]
    own = [n for n in names if not n.endswith("_local") and not n.startswith("context_")]
    return [*own, "fbank"]


def interfaces() -> list[str]:
    return [p.name for p in registry.plugins("interfaces") if p.origin == "built-in"]


@pytest.fixture
def cell(tmp_path: Path, one_thread: None) -> Run:
    """Run one cell with a few utterances and updates."""

    def call(upstream: str, interface: str, task: str) -> results.ResultRecord:
        free = registry.load("tasks", task).protocols[0] == "training-free"
        sets = SOME if free else (*FEW, *SHORT)
        resolved = spec.resolve(upstream=upstream, interface=interface, task=task, sets=sets)
        return run(resolved, tmp_path, machine=Machine("cpu")).record

    return call


def check(cell: Run, upstream: str, interface: str, task: str) -> None:
    """A finished record with a primary metric, or a refusal that names the way out."""
    free = registry.load("tasks", task).protocols[0] == "training-free"
    if free and interface not in ("last", "layer", "mean"):  # it learns, or pools time
        with pytest.raises(UsageError, match=r"--interface-from|frame"):
            cell(upstream, interface, task)
        return
    record = cell(upstream, interface, task)
    assert record.status == "done"
    metric = record.primary()
    assert metric is not None
    assert metric.ci95 is not None


def drawn(names: list[str]) -> list[object]:
    """Three of chance run always, the others with the slow tests."""
    chosen = random.Random(SEED).sample(names, 3)
    return [n if n in chosen else pytest.param(n, marks=pytest.mark.slow) for n in names]


@pytest.mark.parametrize("upstream", drawn(upstreams()))
def test_each_upstream_on_a_task_of_chance(cell: Run, upstream: str) -> None:
    draw = random.Random(f"{SEED} {upstream}")
    check(cell, upstream, draw.choice(["last", "mean"]), draw.choice(TASKS))


@pytest.mark.parametrize("interface", drawn(interfaces()))
def test_each_interface_on_a_task_of_chance(cell: Run, interface: str) -> None:
    draw = random.Random(f"{SEED} {interface}")
    check(cell, "hubert_mini_random", interface, draw.choice(TASKS))


@pytest.mark.parametrize("task", TASKS)
def test_each_task(cell: Run, task: str) -> None:
    check(cell, "hubert_mini", "last", task)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("upstream", upstreams())
def test_everything_with_everything(cell: Run, upstream: str, task: str) -> None:
    for interface in interfaces():
        check(cell, upstream, interface, task)
