"""A plan: signatures are those of `run`, nonsense is left out with its reason, shares hold each cell once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssft_bench import results
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.sweep.grid import Grid, load_grid
from ssft_bench.sweep.plan import Plan, PlannedCell, load_plan, make_plan, with_shares, write_plan
from tests.sweep.toy import RECIPE, write_grid

Bench = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSFT_BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def grid(tmp_path: Path, toy_an4: Path, toy_plugins: Path) -> Grid:
    return load_grid(write_grid(tmp_path / "toy.yaml", toy_an4, toy_plugins, states="float32"), {})


def test_signatures_and_folders_are_those_of_run(
    grid: Grid, bench: Bench, tmp_path: Path, toy_an4: Path, toy_plugins: Path
) -> None:
    plan = make_plan(grid, tmp_path / "runs")
    cell = next(c for c in plan.cells if c.interface == "last" and "gain" in c.upstream)
    sets = [part for text in RECIPE for part in ("--set", text)]
    code, _, err = bench(
        "run", "--upstream", f"{toy_plugins}/spectrum.py:Spectrum:gain=2.0", "--interface", "last",
        "--task", "pr", "--corpus", "an4", "--data", toy_an4, "--out", tmp_path / "runs", *sets,
    )  # fmt: skip
    assert code == 0, err
    ((folder, record),) = results.find_all(tmp_path / "runs")
    assert record.signature == cell.signature
    assert folder == plan.place(cell)


@pytest.mark.parametrize(("flags", "quota"), [([], 0.5), (["--cache-gib", 2], 2.0)])
def test_the_quota_is_that_of_the_flag_else_of_the_environment(
    bench: Bench, tmp_path: Path, toy_an4: Path, toy_plugins: Path, monkeypatch: pytest.MonkeyPatch,
    flags: list[object], quota: float,
) -> None:  # fmt: skip
    monkeypatch.setenv("SSFT_BENCH_CACHE_GIB", "0.5")
    file = write_grid(tmp_path / "toy.yaml", toy_an4, toy_plugins)
    code, _, err = bench("plan", file, "--out", tmp_path / "runs", *flags)
    assert code == 0, err
    (folder,) = (tmp_path / "runs" / "sweeps").iterdir()
    assert load_plan(folder).store_gib == quota


def test_bf16_states_are_another_cell(grid: Grid, tmp_path: Path) -> None:
    plain = make_plan(grid, tmp_path)
    rounded = make_plan(grid.model_copy(update={"states": "bfloat16"}), tmp_path)
    assert {c.signature for c in plain.cells}.isdisjoint(c.signature for c in rounded.cells)


def test_nonsense_is_left_out_and_says_why(grid: Grid, tmp_path: Path) -> None:
    (tmp_path / "pooled.py").write_text(
        "from ssft_bench.interface import Interface\n\n\n"
        "class Wide(Interface):\n    def __init__(self, spec, depth=1):\n"
        "        super().__init__(spec)\n        if depth > spec.num_layers:\n"
        "            raise ValueError(f'depth={depth}: the upstream has {spec.num_layers} layers')\n\n"
        "    def combine(self, states):\n        return states[0]\n"
    )
    wide = f"{tmp_path}/pooled.py:Wide"
    changed = grid.model_copy(update={"interfaces": (wide, f"{wide}:depth=9")})
    plan = make_plan(changed, tmp_path / "runs")
    assert len(plan.cells) == 2
    assert len(plan.left_out) == 2
    assert all("depth=9" in cell.reason and not cell.missing for cell in plan.left_out)


def test_a_grid_of_nothing_but_nonsense_or_gaps_is_an_error(grid: Grid, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no cell can be run"):
        make_plan(grid.model_copy(update={"set": ("train.no_such=1",)}), tmp_path)
    with pytest.raises(MissingError, match="no cell can be run"):
        make_plan(grid.model_copy(update={"data": str(tmp_path / "nowhere")}), tmp_path)
    with pytest.raises(UsageError, match="nothing is left"):
        make_plan(Grid.model_validate({**grid.model_dump(), "exclude": [{"task": "*"}]}), tmp_path)


@pytest.mark.parametrize("axis", ["upstreams", "interfaces", "tasks"])
def test_a_name_nobody_knows_stops_at_once(grid: Grid, tmp_path: Path, axis: str) -> None:
    with pytest.raises(UsageError, match="weighted_sumo"):
        make_plan(grid.model_copy(update={axis: ("weighted_sumo",)}), tmp_path)


def test_cells_of_an_upstream_share_states_and_layers_are_those_in_use(
    grid: Grid, tmp_path: Path
) -> None:
    plan = make_plan(grid, tmp_path)
    groups = {c.upstream: c.group for c in plan.cells}
    assert len(set(groups.values())) == 2
    for group in groups.values():
        assert plan.group_layers(group) == (0, 1)
    only_last = make_plan(grid.model_copy(update={"interfaces": ("last",)}), tmp_path)
    assert all(only_last.group_layers(c.group) == (1,) for c in only_last.cells)
    tuned = make_plan(grid.model_copy(update={"protocol": "finetuned"}), tmp_path)
    assert all(c.group == "" for c in tuned.cells)


def planned(number: int, group: str) -> PlannedCell:
    work: dict[str, Any] = {"upstream_macs": 1, "top_macs": 1, "hours": 1}
    return PlannedCell.model_validate({
        "request": {}, "upstream": "u", "interface": "i", "task": "t", "seed": number,
        "signature": f"s{number}", "folder": f"f{number}", "group": group, "corpus": "c",
        "protocol": "frozen", "work": work,
    })  # fmt: skip


def test_shares_hold_every_cell_once_and_groups_take_turns() -> None:
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    rng = np.random.default_rng(seed)
    for _ in range(50):
        groups = [str(rng.choice(["a", "b", "c", ""])) for _ in range(rng.integers(1, 40))]
        cells = tuple(planned(n, g) for n, g in enumerate(groups))
        grid = Grid(upstreams=("u",), interfaces=("i",), tasks=("t",))
        plan = Plan(grid=grid, cells=cells, left_out=(), shares=(), out="x")
        per_share = int(rng.integers(1, 6)) if rng.random() < 0.5 else None
        slots = int(rng.integers(1, 5)) if rng.random() < 0.7 else None
        shares = with_shares(plan, per_share, slots).shares
        assert Counter(n for share in shares for n in share) == dict.fromkeys(
            range(len(cells)), 1
        ), seed
        for share in shares:
            assert len({cells[n].group or n for n in share}) == 1, seed
            assert len(share) <= (per_share or len(cells)), seed
        real = {g for g in groups if g}
        first = [cells[share[0]].group or f"alone{share[0]}" for share in shares]
        turns = len(real) + groups.count("")
        assert len(set(first[:turns])) == turns, (
            seed
        )  # every group has begun before one comes twice


def test_a_plan_is_written_once_and_read_back(grid: Grid, tmp_path: Path) -> None:
    plan = with_shares(make_plan(grid, tmp_path), 1, 2)
    folder = write_plan(plan, plan.folder(tmp_path))
    stamp = (folder / "plan.json").stat().st_mtime_ns
    again = with_shares(make_plan(grid, tmp_path), 1, 2)
    assert write_plan(again, again.folder(tmp_path)) == folder
    assert (folder / "plan.json").stat().st_mtime_ns == stamp
    assert load_plan(folder) == plan
    values = json.loads((folder / "plan.json").read_text())
    values["plan_version"] = "other"
    (folder / "plan.json").write_text(json.dumps(values))
    with pytest.raises(UsageError, match="not a plan of this version"):
        load_plan(folder)
    with pytest.raises(UsageError, match=r"no plan\.json"):
        load_plan(tmp_path / "elsewhere")
