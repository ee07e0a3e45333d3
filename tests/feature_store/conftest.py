"""Fixtures: a short run on the toy corpus, with or without a store."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ssft_bench import runner
from ssft_bench.cell import Machine
from ssft_bench.feature_store import FeatureStore
from ssft_bench.files import sha256_file
from ssft_bench.results import ResultRecord
from ssft_bench.spec import RunSpec, resolve

COMPARED = ("metrics", "learning_curve", "selection", "predictions", "interface_state", "signature")


@dataclass
class Cells:
    """Makes and runs cells of the toy upstream on the toy corpus."""

    plugins: Path
    corpus: Path
    tmp_path: Path
    runs: int = 0
    kept: list[ResultRecord] = field(default_factory=list)
    folders: dict[int, Path] = field(default_factory=dict)

    def spec(
        self, interface: str = "weighted_sum", task: str = "pr", *sets: str, **more: Any
    ) -> RunSpec:
        """Resolved specification of a short training."""
        short = ("train.steps=12", "train.eval_every=5", "train.save_every=4",
                 "train.optimizer.lr=0.02", "train.log_every=1", "data.batch_size=8",
                 "data.max_utterances=24", "data.standardize=false")  # fmt: skip
        values = {
            "upstream": f"{self.plugins}/spectrum.py:Spectrum", "interface": interface, "task": task,
            "corpus": "an4", "data": str(self.corpus), "sets": (*short, *sets), **more,
        }  # fmt: skip
        return resolve(**values)

    def run(self, spec: RunSpec, store: FeatureStore | None = None, **machine: Any) -> ResultRecord:
        """The record of a run in a folder of its own."""
        self.runs += 1
        out = self.tmp_path / f"out{self.runs}"
        answer = runner.run(spec, out, machine=Machine("cpu", store=store, **machine))
        return self.known(answer.record, answer.folder)

    def known(self, record: ResultRecord, folder: Path) -> ResultRecord:
        """The record, with its folder remembered for `scores`."""
        self.folders[id(record)] = folder
        self.kept.append(record)  # an id is one object's only while it lives
        return record

    def scores(self, record: ResultRecord) -> dict[str, Any]:
        """What must be the same, bit for bit, wherever hidden states came from."""
        values = record.model_dump(mode="json")
        found = {key: values[key] for key in COMPARED}
        found["interface_state"].get("fit", {}).pop("seconds", None)
        folder = self.folders[id(record)]
        best = folder / "best.safetensors"
        found["parameters"] = sha256_file(best) if best.exists() else None
        if best.exists():
            rows = [json.loads(line) for line in (folder / "log.jsonl").open()]
            found["losses"] = [row["loss"] for row in rows if "loss" in row]
        return found


@pytest.fixture
def cells(
    toy_plugins: Path, toy_an4: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Cells:
    monkeypatch.setenv("SSFT_BENCH_CACHE", str(tmp_path / "cache"))
    return Cells(toy_plugins, toy_an4, tmp_path)


Store = Callable[..., FeatureStore]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store in a folder of the test, anew at each call as another process would have it."""

    def make(quota_gib: float = 1.0) -> FeatureStore:
        return FeatureStore(tmp_path / "store", quota_gib)

    return make
