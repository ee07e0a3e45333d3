"""How long a plan takes: hidden states count once where they are shared, cells by runs like them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssft_bench.sweep.cost_model import CORE
from ssft_bench.sweep.estimate import Estimate
from ssft_bench.sweep.grid import load_grid
from ssft_bench.sweep.plan import Plan, make_plan, with_shares
from ssft_bench.sweep.state import CellState
from tests.sweep.toy import write_grid


@pytest.fixture
def plan(tmp_path: Path, toy_an4: Path, toy_plugins: Path) -> Plan:
    """Two upstreams x two interfaces; a spectrum multiplies nothing that is counted, so say that it does."""
    grid = load_grid(write_grid(tmp_path / "toy.yaml", toy_an4, toy_plugins), {})
    made = make_plan(grid, tmp_path / "runs", store=str(tmp_path), store_gib=1.0)
    macs = {group: 1e9 * n for n, group in enumerate({cell.group for cell in made.cells}, 1)}
    cells = tuple(
        cell.model_copy(
            update={"work": cell.work.model_copy(update={"upstream_macs": macs[cell.group]})}
        )
        for cell in made.cells
    )
    return with_shares(made.model_copy(update={"cells": cells}), 1, 2)


def heads(plan: Plan) -> dict[str, float]:
    """Seconds of each cell beside its hidden states, by the model's formula."""
    parts = {cell.signature: CORE.seconds(cell.work) for cell in plan.cells}
    return {name: own["training"] + own["scoring"] for name, own in parts.items()}


def states(plan: Plan) -> dict[str, float]:
    """Seconds to compute the hidden states of each upstream."""
    found = {cell.group: CORE.seconds(cell.work)["hidden_states"] for cell in plan.cells}
    assert len(set(found.values())) == 2
    return found


def missing(plan: Plan) -> list[CellState]:
    return [CellState(cell, "missing") for cell in plan.cells]


@pytest.mark.parametrize("jobs", [1, 2])
def test_with_a_store_states_count_once_for_each_upstream(plan: Plan, jobs: int) -> None:
    left = Estimate(plan, [], jobs).left(missing(plan))
    expected = sum(heads(plan).values()) + sum(states(plan).values())
    assert left == pytest.approx(expected / jobs)


def test_without_a_store_they_count_for_each_share(plan: Plan) -> None:
    plan = plan.model_copy(update={"store": None})
    assert len(plan.shares) == 4
    left = Estimate(plan, []).left(missing(plan))
    expected = sum(heads(plan).values()) + 2 * sum(states(plan).values())
    assert left == pytest.approx(expected)


def test_a_group_with_a_finished_cell_has_them(plan: Plan) -> None:
    found = missing(plan)
    done = found[0] = CellState(plan.cells[0], "done")
    own = heads(plan)
    expected = sum(own.values()) - own[done.cell.signature]
    expected += sum(states(plan).values()) - states(plan)[done.cell.group]
    assert Estimate(plan, []).left(found) == pytest.approx(expected)


def test_what_has_begun_counts_for_the_rest_and_what_failed_not_at_all(plan: Plan) -> None:
    found = [CellState(cell, "failed") for cell in plan.cells]
    assert Estimate(plan, []).left(found) == 0
    cell = plan.cells[1]
    found[1] = CellState(cell, "running", progress=0.75)
    expected = heads(plan)[cell.signature] / 4 + states(plan)[cell.group]
    assert Estimate(plan, []).left(found) == pytest.approx(expected)
