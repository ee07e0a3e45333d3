"""Finished runs, made here: real ones on the embedded corpus, and runs of chosen predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ssft_bench import results, runner, spec
from ssft_bench.cell import Machine
from ssft_bench.comparison.sides import Run
from ssft_bench.metric import Prediction
from ssft_bench.regression.rescore import scored
from ssft_bench.results import ResultRecord

SEARCHED = ("data.max_utterances=20",)
SMALL = ("data.max_utterances=8", "train.steps=4", "train.eval_every=2")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four real runs of a few seconds: two seeds, trained and training-free."""
    out = tmp_path_factory.mktemp("finished") / "runs"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cells: list[dict[str, Any]] = [
        {"upstream": "fbank", "interface": "weighted_sum", "task": "pr", "seed": 1},
        {"upstream": "fbank", "interface": "weighted_sum", "task": "pr", "seed": 2},
        {"upstream": "fbank", "interface": "last", "task": "sa"},
        {"upstream": "fbank", "interface": "layer", "task": "qbe"},
    ]
    machine = Machine(states={})
    for cell in cells:
        sets = SEARCHED if cell["task"] == "qbe" else SMALL
        runner.run(spec.resolve(**cell, sets=sets), out, machine=machine)
    torch.set_num_threads(threads)
    return out


Bench = Callable[..., tuple[int, str, str]]
Derive = Callable[..., Run]


@pytest.fixture
def derive(runs: Path) -> Derive:
    """Write a finished run of given hypotheses, soundly scored: the record of a real run, other outcome.

    `derive(out, task, hypothesis, **changes of the specification)`; `hypothesis` maps a prediction to text.
    """

    def made(
        out: Path,
        task: str,
        hypothesis: Callable[[Prediction], str],
        rows: Sequence[Prediction] | None = None,
        **changes: Any,
    ) -> Run:
        folder, record = next((f, r) for f, r in results.find_all(runs) if r.spec.task.name == task)
        rows = results.load_predictions(folder) if rows is None else rows
        values = record.spec.model_dump(mode="json")
        for key, value in changes.items():
            *path, last = key.split("__")
            place = values
            for part in path:
                place = place[part]
            place[last] = value
        own = spec.RunSpec.model_validate(values)
        return write(out, record, own, [replace(p, hypothesis=hypothesis(p)) for p in rows])

    return made


def write(out: Path, record: ResultRecord, own: spec.RunSpec, rows: Sequence[Prediction]) -> Run:
    """A sound record of these predictions in its folder below `out`."""
    signature = spec.signature(own, record.content)
    folder = results.run_folder(out, own, signature)
    folder.mkdir(parents=True)
    kept = results.save_predictions(folder, rows)
    other = record.model_copy(update={"spec": own, "signature": signature, "predictions": kept})
    metrics = scored(other, results.load_predictions(folder))
    other = other.model_copy(
        update={"metrics": [*metrics, *(m for m in record.metrics if m.split == "dev")]}
    )
    results.save(folder, other)
    return folder, other
