"""Whole runs of protocol finetuned on a little of the embedded corpus, and what other protocols say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ssft_bench.corpora.mini_corpus import Mini
from ssft_bench.downstreams.pr.task import PR, PROptions
from ssft_bench.finetuning.batches import Waves
from ssft_bench.finetuning.learner import FineTunedDownstream
from ssft_bench.finetuning.spec import FineTuneSpec
from ssft_bench.interfaces.last import Last
from ssft_bench.upstream import load_upstream

Bench = Callable[..., tuple[int, str, str]]
FEW = (
    "--set", "data.max_utterances=12", "--set", "data.batch_size=4", "--set", "train.steps=4",
    "--set", "train.eval_every=4", "--set", "train.log_every=1",
)  # fmt: skip


def run(
    bench: Bench, folder: Path, tiny_file: Path, options: str, *more: object
) -> dict[str, object]:
    upstream = f"context_hubert:base=hubert_mini_local:ckpt={tiny_file},context_dim=8,{options}"
    code, _, err = bench(
        "run", "--upstream", upstream, "--interface", "last", "--task", "pr", "--protocol",
        "finetuned", "--out", folder, *FEW, *more,
    )  # fmt: skip
    assert code == 0, err
    (path,) = folder.rglob("result.json")
    record = json.loads(path.read_text())
    return {**record, "folder": path.parent, "err": err}


@pytest.mark.parametrize("mode", ["none", "module_only", "aware", "inject"])
def test_a_run_of_each_mode(bench: Bench, tmp_path: Path, tiny_file: Path, mode: str) -> None:
    record = run(bench, tmp_path / "out", tiny_file, f"mode={mode},alpha=0.5")
    told = record["finetuning"]["upstream"]  # type: ignore[index]
    width = {"none": 16, "inject": 16 + 24}.get(mode, 24)
    assert record["interface_state"]["output_dim"] == width  # type: ignore[index]
    assert told["options"]["mode"] == mode
    assert told["coverage"]["train"]["utterances"] == 12
    lines = (record["folder"] / "log.jsonl").read_text().splitlines()  # type: ignore[operator]
    rows = [json.loads(line) for line in lines]
    steps = [row for row in rows if "loss" in row]
    assert ("context_std" in steps[0]) == (mode != "none")
    for row in steps:
        extra = 0.5 * row["context_distance"] if mode == "aware" else 0
        assert row["loss"] == pytest.approx(row["task_loss"] + extra, rel=1e-5)
    if mode == "aware":
        assert all(row["context_distance"] > 0 for row in steps)
    if mode == "inject":
        near = told["coverage"]
        wanted = sum(round(12 * near["test"][k]) for k in ("-1", "+1"))
        assert told["injected"]["found"] >= wanted
    if mode != "none":
        assert "utterances with a neighbour: train" in record["err"]  # type: ignore[operator]


def test_the_module_learns_while_the_transformer_is_frozen(tmp_path: Path, tiny_file: Path) -> None:
    """As the learner of protocol finetuned has it: gradients of update 0, and of the first one after."""
    rows = Mini().utterances("train")[:4]
    options = {"base": f"hubert_mini_local:ckpt={tiny_file}", "context_dim": 8}
    upstream = load_upstream("context_hubert", options)
    task = PR(PROptions())
    head = task.head(upstream.spec.dims[-1])
    spec = FineTuneSpec(frozen_steps=1)
    learner = FineTunedDownstream(upstream, Last(upstream.spec), head, task, spec, seed=1).train()
    upstream.expert.begin({"train": rows}, 1, tmp_path)
    batch = Waves(1.0).batch(rows, [task.encode(row) for row in rows])
    learning = []
    for step in range(2):
        learner.begin_update(step)
        learner.zero_grad()
        loss, logs = learner(batch, torch.Generator().manual_seed(0))
        loss.backward()
        assert logs["context_distance"] > 0
        named = upstream.expert.named_parameters()
        learning.append({n for n, p in named if p.grad is not None and p.grad.any()})
    new = {f"context.{n}" for n in ("output.weight", "output.bias", "score.weight")}
    assert new <= learning[0] <= {*new, "context.score.bias"}  # a softmax does not see that bias
    assert new <= learning[1]
    assert any("encoder.layers" in name for name in learning[1])


def test_other_protocols_are_refused_before_any_work(bench: Bench, tmp_path: Path) -> None:
    arguments = ("run", "--interface", "last", "--task", "pr", "--out", tmp_path / "out", *FEW)
    code, _, err = bench(*arguments, "--upstream", "context_hubert")
    assert code == 2
    assert "--protocol frozen: the context module of context_hubert has learned nothing" in err
    assert not list((tmp_path / "out").rglob("result.json"))


def test_without_a_module_it_is_the_base(bench: Bench, tmp_path: Path) -> None:
    """mode=none in the frozen protocol gives the base's predictions."""
    found = []
    for upstream in ("context_hubert:mode=none", "hubert_mini"):
        folder = tmp_path / upstream.partition(":")[0]
        code, _, err = bench(
            "run",
            "--interface",
            "last",
            "--task",
            "pr",
            "--upstream",
            upstream,
            "--out",
            folder,
            *FEW,
        )
        assert code == 0, err
        (path,) = folder.rglob("predictions.jsonl")
        found.append(path.read_text())
    assert found[0] == found[1]
