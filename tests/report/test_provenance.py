"""The command on the page makes the run again."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssft_bench import results, spec
from ssft_bench.errors import UsageError
from ssft_bench.report.collect import collect
from ssft_bench.report.provenance import Commands, table
from ssft_bench.report.tuned import Tunings
from tests.conftest import SMALL
from tests.report.runs import finish, texts

Bench = Callable[..., tuple[int, str, str]]


def read_back(command: str) -> spec.RunSpec:
    """The specification of a command line, read flag by flag."""
    words = shlex.split(command)
    assert words[:2] == ["ssft-bench", "run"]
    found: dict[str, Any] = {"sets": []}
    for flag, value in zip(words[2::2], words[3::2], strict=True):
        if flag == "--set":
            found["sets"].append(value)
        else:
            found[flag.removeprefix("--").replace("-", "_")] = value
    if "lr_grid" in found:
        found["lr_grid"] = spec.rates(found["lr_grid"])
    return spec.resolve(**found | {"seed": int(found["seed"])})


@pytest.mark.parametrize(
    "asked",
    [
        {"upstream": "hubert_mini", "interface": "hconv:kernel=3", "task": "asr"},
        {"upstream": "fbank", "interface": "layer", "task": "qbe", "seed": 4},
        {"upstream": "hubert_mini+fbank", "interface": "chconv", "task": "pr", "suite": "pocket",
         "data": "/a b"},
        {"upstream": "hubert_mini", "interface": "last", "task": "ner", "protocol": "finetuned",
         "trainable": "top:2", "sets": ["finetune.frozen_steps=0"]},
        {"upstream": "hubert_mini", "interface": "mean", "task": "sa", "lr_grid": [1e-4, 3e-3],
         "sets": ["train.steps=7", "train.clip=null", "data.max_utterances=5"]},
    ],
)  # fmt: skip
def test_command_gives_the_specification(
    asked: dict[str, Any], tmp_path: Path, rng: np.random.Generator
) -> None:
    wanted = spec.resolve(**asked)
    finish(tmp_path, texts(rng, 8, 0.4), spec=wanted)
    record = next(record for _, record in results.find_all(tmp_path))
    command = Commands().of(record)
    assert command.remark == ""
    assert read_back(command.text) == wanted
    wrong = command.text.replace(f"--seed {wanted.seed}", f"--seed {wanted.seed + 1}")
    assert read_back(wrong) != wanted  # this test can fail


def test_a_recipe_that_changed_since_is_set_by_hand(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = spec.resolve(upstream="fbank", interface="last", task="pr")
    finish(tmp_path, texts(rng, 8, 0.4), upstream="fbank", task="pr", interface="last")
    record = next(record for _, record in results.find_all(tmp_path))
    recipe = spec.task_recipe

    def changed(*arguments: Any) -> Any:
        found = recipe(*arguments)
        return {**found, "train": {**found["train"], "steps": 5}}

    monkeypatch.setattr(spec, "task_recipe", changed)
    command = Commands().of(record)
    assert f"--set train.steps={wanted.training.steps}" in command.text
    assert command.remark == ""


def test_what_cannot_be_resolved_says_so(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(tmp_path, texts(rng, 8, 0.4))
    record = next(record for _, record in results.find_all(tmp_path))

    def fail(**_: Any) -> None:
        raise UsageError("no such upstream here")

    monkeypatch.setattr(spec, "resolve", fail)
    command = Commands().of(record)
    assert command.text.startswith("ssft-bench run --upstream hubert_mini")
    assert command.remark == "not resolved here: no such upstream here"


def test_seeds_are_resolved_once_and_kept_apart(tmp_path: Path, rng: np.random.Generator) -> None:
    for seed in (1, 2):
        finish(tmp_path, texts(rng, 8, 0.4), seed=seed)
    commands = Commands()
    texts_ = [commands.of(record).text for _, record in results.find_all(tmp_path)]
    assert sorted(text.partition("--seed ")[2] for text in texts_) == ["1", "2"]


def test_the_table_holds_whole_records(runs: Path) -> None:
    collection = collect(runs)
    tunings = Tunings()
    found = table(collection.runs, {run.number: tunings.of(run) for run in collection.runs})
    assert len(found["runs"]) == len(collection.runs)
    for run, row in zip(collection.runs, found["runs"], strict=True):
        record = {key: found["shared"][place] for key, place in row["record"].items()}
        wanted = run.record.model_dump(mode="json")
        assert record == {key: value for key, value in wanted.items() if key != "learning_curve"}
        assert row["path"] == f"{run.path}/result.json"
        assert (runs / row["path"]).is_file()
    assert len(found["shared"]) < sum(len(row["record"]) for row in found["runs"])


def test_a_real_run_is_answered_from_the_store_by_its_command(
    bench: Bench, toy_an4: Path, toy_plugins: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    code, _, err = bench(
        "run", "--upstream", f"{toy_plugins}/spectrum.py:Spectrum", "--interface", "hconv",
        "--task", "pr", "--corpus", "an4", "--data", toy_an4, "--out", out, *SMALL,
        "--set", "train.steps=20", "--control", "matched-head",
    )  # fmt: skip
    assert code == 0, err
    (run,) = collect(out).runs
    command = Commands().of(run.record)
    assert command.remark == ""
    code, printed, err = bench(*shlex.split(command.text)[1:], "--out", out)
    assert code == 0, err
    assert "answered from the stored result" in printed
    assert run.record.cost["tuning"] == []
