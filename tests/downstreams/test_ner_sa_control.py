"""--control matched-head with the heads of ner and sa."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from ssft_bench import cost, registry
from ssft_bench.control import TOLERANCE, with_matched_head
from ssft_bench.errors import UsageError
from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface_in_run import interface_for
from ssft_bench.spec import RunSpec, resolve
from ssft_bench.task import Task

UPSTREAM = UpstreamSpec("toy", (256,) * 7, (320,) * 7)


def build(task: str, options: Mapping[str, Any]) -> Task:
    kind = registry.load("tasks", task)
    made: Task = kind(kind.Options.model_validate(options))
    return made


def parameters(spec: RunSpec) -> int:
    """Of interface and head."""
    task = build(spec.task.name, spec.task.options)
    with torch.device("meta"):
        interface = interface_for(spec.interface, UPSTREAM, task)
        head = task.head(interface.output_dim, interface.output_stride)
    return cost.parameters(interface)["total"] + cost.parameters(head)["total"]


def matched(task: str, *sets: str) -> tuple[RunSpec, RunSpec]:
    """A run with hconv, and its control."""
    common: dict[str, Any] = {"upstream": "hubert_mini", "task": task, "sets": sets}
    control = resolve(interface="hconv", control="matched-head", **common)
    found = with_matched_head(control, UPSTREAM, lambda options: build(task, options))
    return resolve(interface="hconv", **common), found


@pytest.mark.parametrize("task", ["ner", "sa"])
def test_the_head_grows_to_what_the_interface_costs(task: str) -> None:
    wanted, control = matched(task)
    with torch.device("meta"):
        own = interface_for(wanted.interface, UPSTREAM, build(task, wanted.task.options))
    assert control.interface.name == "weighted_sum"
    missed = abs(parameters(control) - parameters(wanted))
    assert missed <= TOLERANCE * cost.parameters(own)["total"]


def test_a_head_without_sizes_is_refused() -> None:
    with pytest.raises(UsageError, match="hidden_dim does not change this head's size"):
        matched("ner", "task.options.layers=0")
