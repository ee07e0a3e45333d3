"""A sweep file becomes cells: axes multiplied, tasks and suites with their own, exclusions, mistakes."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from ssft_bench.errors import UsageError
from ssft_bench.sweep.grid import comma_separated, load_grid, packaged_sweeps

FILE = """
upstreams: [fbank, hubert_mini]
interfaces: [weighted_sum, hconv, last]
tasks: [asr, pr, qbe]
seeds: [1, 2]
set: [train.clip=2]
per_task:
  qbe: {interfaces: [last, layer], seeds: [1]}
  asr: {set: [train.steps=10], lr_grid: [0.1, 0.01]}
exclude:
  - {upstream: fbank, interface: hconv}
  - {task: pr, seed: 2, interface: "w*"}
suites:
  pocket: {upstreams: [fbank], seeds: [3], set: [data.batch_size=2]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "table.yaml"
    path.write_text(FILE)
    return path


def names(cells: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    return {(c["upstream"], c["interface"], c["task"], c["seed"]) for c in cells}


def test_cells_are_the_product_without_what_is_excluded(file: Path) -> None:
    grid = load_grid(file, {})
    expected = set()
    for task, upstream in product(("asr", "pr", "qbe"), ("fbank", "hubert_mini")):
        for interface in ("last", "layer") if task == "qbe" else ("weighted_sum", "hconv", "last"):
            for seed in (1,) if task == "qbe" else (1, 2):
                if (upstream, interface) == ("fbank", "hconv"):
                    continue
                if task == "pr" and seed == 2 and interface == "weighted_sum":
                    continue
                expected.add((upstream, interface, task, seed))
    cells = grid.cells()
    assert names(cells) == expected
    assert len(cells) == len(expected)
    asr = next(c for c in cells if c["task"] == "asr")
    assert asr["sets"] == ["train.clip=2", "train.steps=10"]
    assert asr["lr_grid"] == [0.1, 0.01]
    assert next(c for c in cells if c["task"] == "pr")["lr_grid"] == []
    assert grid.name == "table"


def test_a_suite_changes_what_it_names_and_nothing_else(file: Path) -> None:
    grid = load_grid(file, {"suite": "pocket"})
    cells = grid.cells()
    assert {c["upstream"] for c in cells} == {"fbank"}
    assert {c["suite"] for c in cells} == {"pocket"}
    assert {c["seed"] for c in cells if c["task"] == "asr"} == {3}
    assert {c["seed"] for c in cells if c["task"] == "qbe"} == {1}  # the task's own stays
    asr = next(c for c in cells if c["task"] == "asr")
    assert asr["sets"] == ["train.clip=2", "data.batch_size=2", "train.steps=10"]


def test_variants_are_one_more_axis(file: Path) -> None:
    plain = load_grid(file, {})
    grid = plain.model_copy(update={"variants": {"all": (), "few": ("data.train_share=0.1",)}})
    cells = grid.cells()
    assert len(cells) == 2 * len(plain.cells())
    few = [c for c in cells if c["variant"] == "few"]
    assert len(few) == len(plain.cells())
    assert all(c["sets"][-1] == "data.train_share=0.1" for c in few)
    assert not any("data.train_share=0.1" in c["sets"] for c in cells if c["variant"] == "all")


def test_flags_go_over_the_file(file: Path) -> None:
    grid = load_grid(
        file, {"seeds": (7,), "tasks": ("asr",), "set": ("train.clip=3",), "suite": None}
    )
    assert {c["seed"] for c in grid.cells()} == {7}
    assert {c["task"] for c in grid.cells()} == {"asr"}
    assert grid.set == ("train.clip=2", "train.clip=3")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("upstreams: [a]\ninterfaces: [b]\ntaks: [pr]", "unknown key taks"),
        ("upstreams: []\ninterfaces: [b]\ntasks: [pr]", "upstreams"),
        ("upstreams: [a]\ninterfaces: [b]\ntasks: [pr]\nseeds: [one]", "seeds.0"),
        (
            "upstreams: [a]\ninterfaces: [b]\ntasks: [pr]\nexclude: [{upstram: a}]",
            "exclude.0.upstram",
        ),
        ("upstreams: [a", "cannot be read as YAML"),
        ("- a", "expected keys"),
    ],
)
def test_mistakes_in_a_file_name_it_and_the_key(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"wrong\.yaml") as caught:
        load_grid(path, {})
    assert told in str(caught.value)


def test_without_a_file_all_three_axes_are_needed() -> None:
    with pytest.raises(UsageError, match="--tasks"):
        load_grid(None, {"upstreams": ("fbank",), "interfaces": ("last",), "tasks": ()})
    grid = load_grid(None, {"upstreams": ("fbank",), "interfaces": ("last",), "tasks": ("pr",)})
    assert len(grid.cells()) == 1


def test_options_stay_with_their_name() -> None:
    text = "hconv:layers=2,width=3,last, layer:index=1 ,path/f.py:Mine:a=1,b=2"
    assert comma_separated(text) == (
        "hconv:layers=2,width=3", "last", "layer:index=1", "path/f.py:Mine:a=1,b=2",
    )  # fmt: skip


def test_every_packaged_sweep_loads_for_every_suite() -> None:
    found = packaged_sweeps()
    assert {"interface_design", "score", "rewire", "context", "superb_content"} <= set(found)
    for path in found.values():
        for suite in ("full", "pocket", "mini"):
            grid = load_grid(path, {"suite": suite})
            assert grid.cells()
            assert grid.suite == suite
