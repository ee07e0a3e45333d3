"""`data.order=published`: the batches that SUPERB's code makes, in a new order in each pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ssft_bench import registry, results
from ssft_bench.features import TrainBatches
from ssft_bench.recipes import task_recipe
from tests.conftest import SMALL

Bench = Callable[..., tuple[int, str, str]]


def test_fixed_batches_stay_together_and_change_places() -> None:
    fixed = [[3, 1], [0], [2, 4, 5], [6]]
    batches = TrainBatches(
        [], [], [], None, batch_size=2, batch_seconds=None, seed=5, fixed=fixed,  # type: ignore[arg-type]
    )  # fmt: skip
    passes = [batches.indices(epoch) for epoch in range(20)]
    assert all(sorted(found) == sorted(fixed) for found in passes)
    assert len({str(found) for found in passes}) > 5
    assert passes[3] == batches.indices(3)


def test_a_run_trains_on_them(
    bench: Bench, toy_an4: Path, toy_plugins: Path, tmp_path: Path
) -> None:
    command = [
        "run", "--upstream", f"{toy_plugins}/spectrum.py:Spectrum", "--interface", "last", "--task", "pr",
        "--corpus", "an4", "--data", str(toy_an4), "--out", str(tmp_path / "runs"), *SMALL,
        "--set", "train.steps=20",
    ]  # fmt: skip
    assert bench(*command)[0] == 0
    code, _, err = bench(*command, "--set", "data.order=published")
    assert code == 0, err
    first, second = (record for _, record in results.find_all(tmp_path / "runs"))
    assert first.signature != second.signature


def test_superbs_recipes_ask_for_them_and_slues_do_not() -> None:
    asr, pr = (registry.load("tasks", name) for name in ("asr", "pr"))
    assert task_recipe(asr, "full", None, "frozen")["data"]["order"] == "published"
    assert task_recipe(pr, "full", None, "frozen")["data"]["order"] == "published"
    for corpus, protocol in (("slue_voxpopuli", "frozen"), ("slue_voxceleb", "finetuned")):
        assert task_recipe(asr, "full", corpus, protocol)["data"]["order"] == "length"
