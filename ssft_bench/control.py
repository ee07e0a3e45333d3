"""Fairness controls: the same run with what an interface costs spent elsewhere.

`matched-head` is the control of "Interface Design for Self-Supervised Speech Models" (arXiv:2406.12209,
table 3; `weighted_sum_large_ds` among the published numbers): a weighted sum whose downstream has as
many parameters more as the interface has. How the head grows is ours: by the task's `size_options`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ssft_bench import cost
from ssft_bench.errors import UsageError
from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface import Interface
from ssft_bench.interface_in_run import interface_for
from ssft_bench.spec import RunSpec
from ssft_bench.task import BaseTask, Task

TOLERANCE = 0.01
"""Largest difference in parameters, as a share of the interface's (specification of the control)."""

BuildTask = Callable[[Mapping[str, Any]], BaseTask]


def with_matched_head(spec: RunSpec, upstream: UpstreamSpec, build_task: BuildTask) -> RunSpec:
    """The specification with the head enlarged, for a spec whose `control` is matched-head.

    Interface and head together then have the parameters of the named interface with the usual head, to
    within 1% of that interface's. Raises UsageError where there is nothing to match or no size fits.
    """
    control = spec.control
    assert control is not None
    task = build_task(spec.task.options)
    if not isinstance(task, Task):
        raise UsageError(f"--control matched-head: task {task.name} has no head")
    with torch.device("meta"):
        named = interface_for(control.interface, upstream, task)
        plain = interface_for(spec.interface, upstream, task)
    wanted = cost.parameters(named)["total"]

    def count(options: Mapping[str, Any], interface: Interface) -> int:
        with torch.device("meta"):
            own = build_task(options)
            assert isinstance(own, Task)
            head = own.head(interface.output_dim, interface.output_stride)
        return cost.parameters(head)["total"] + cost.parameters(interface)["total"]

    target, base = count(spec.task.options, named), count(spec.task.options, plain)
    if wanted <= cost.parameters(plain)["total"] or target <= base:
        raise UsageError(
            f"--control matched-head: interface {control.interface.label} has {wanted:,} parameters, "
            f"{target:,} with its head; weighted_sum with that head has {base:,}: there is nothing to "
            "match"
        )
    if not task.size_options:
        raise UsageError(f"--control matched-head: task {spec.task.name} names no size_options")
    options = enlarged(spec.task.options, task.size_options, target, lambda o: count(o, plain))
    missed = abs(count(options, plain) - target)
    if missed > TOLERANCE * wanted:
        raise UsageError(
            f"--control matched-head: the nearest head is {missed:,} parameters off the "
            f"{wanted:,} of {control.interface.label}; give other sizes with --set task.options..."
        )
    return spec.model_copy(
        update={
            "task": spec.task.model_copy(update={"options": options}),
            "control": control.model_copy(update={"parameters": wanted}),
        }
    )


def enlarged(
    options: Mapping[str, Any],
    names: tuple[str, ...],
    target: int,
    count: Callable[[Mapping[str, Any]], int],
) -> dict[str, Any]:
    """`options` with the sizes `names` raised until `count` of them is as near `target` as can be.

    The first size takes the greater part; where there is a second one it closes the gap.
    """
    first, *rest = names
    start = dict(options)
    best = _nearest(start, first, target, count)
    candidates = [best]
    if rest:
        # A few steps back leave the finer size a gap to close.
        for back in range(9):
            lower = max(int(start[first]), int(best[first]) - back)
            candidates.append(_nearest({**start, first: lower}, rest[0], target, count))
    return min(candidates, key=lambda o: abs(count(o) - target))


def _nearest(
    options: Mapping[str, Any], name: str, target: int, count: Callable[[Mapping[str, Any]], int]
) -> dict[str, Any]:
    """`options` with `name` at least as large as it is, so that the count is nearest the target."""
    low = int(options[name] or 1)  # null: as wide as the features
    high = low
    while (now := count({**options, name: high})) < target:
        high *= 2
        if count({**options, name: high}) == now:
            raise UsageError(
                f"--control matched-head: task.options.{name} does not change this head's size"
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count({**options, name: middle}) < target else (low, middle)
    both = [{**options, name: size} for size in (low, high)]
    return min(both, key=lambda o: abs(count(o) - target))
