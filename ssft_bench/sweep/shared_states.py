"""Where a group's hidden states come from: the store, memory, or one forward pass for several heads.

A group has one upstream on one corpus. Its states are computed once: whichever worker comes first holds the
group's lease while it fills the store, others wait and read. Where the store's quota is too small for the
group, cells of the same data train side by side on one forward pass instead; without a store they do what
fits in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ssft_bench.cell import Machine
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.feature_store import FeatureStore, upstream_key
from ssft_bench.feature_store.store import estimate_bytes
from ssft_bench.lease import lease
from ssft_bench.ranks import fabric_for
from ssft_bench.runner import Ready
from ssft_bench.sweep.plan import Plan, PlannedCell

Opened = tuple[PlannedCell, Ready]
PATIENCE = float("inf")
"""Seconds to wait for another worker that fills the store: as long as it lives."""


def machine(plan: Plan, group: str) -> Machine:
    """The machine that cells of a group run on."""
    layers = plan.group_layers(group) if group else None
    store = FeatureStore(Path(plan.store), plan.store_gib) if plan.store and group else None
    if store is not None:
        store.check_writable()
    return Machine(plan.device, plan.devices, store=store, group_layers=layers,
                   states={} if store is None else None)  # fmt: skip


def side_by_side(
    plan: Plan, found: Machine, opened: Sequence[Opened]
) -> tuple[list[Opened], list[list[Opened]]]:
    """Cells to run one by one, and batches of cells to train on one forward pass.

    Only frozen cells of the same data can share a pass; a batch has at least two.
    """
    frozen = [one for one in opened if one[1].spec.protocol == "frozen"]
    if len(frozen) < 2 or plan.devices > 1 or _fits(plan, found, frozen):
        return list(opened), []
    by_data: dict[tuple[str, int], list[Opened]] = {}
    for cell, made in frozen:
        by_data.setdefault((made.data.sha256, made.spec.seed), []).append((cell, made))
    batches = [batch for batch in by_data.values() if len(batch) > 1]
    together = {cell.signature for batch in batches for cell, _ in batch}
    return [one for one in opened if one[0].signature not in together], batches


def _fits(plan: Plan, found: Machine, opened: Sequence[Opened]) -> bool:
    """Whether the states of these cells can be kept: in the store, or in each run's memory."""
    if found.store is None:
        return all(_bytes(plan, [one]) <= one[1].spec.data.memory_gib * 2**30 for one in opened)
    need, made = _bytes(plan, opened), opened[0][1]
    key = upstream_key(
        made.upstream, made.spec.upstream.name, made.spec.upstream.options,
        made.content["upstream_weights"], _device(found),
    )  # fmt: skip
    return need <= found.store.quota and found.store.could_hold(need, key)


def _device(found: Machine) -> torch.device:
    return fabric_for(found.accelerator, 1, "32-true").device


def _bytes(plan: Plan, opened: Sequence[Opened]) -> int:
    """About the size of the states of these cells, each utterance once."""
    cell, made = opened[0]
    seconds: dict[str, float] = {}
    for _, one in opened:
        seconds |= one.data.seconds
    layers = plan.group_layers(cell.group) or cell.layers
    return estimate_bytes(
        made.upstream.spec, layers, sum(seconds.values()), len(seconds), plan.grid.states
    )


def fill(found: Machine, opened: Sequence[Opened]) -> None:
    """Compute what these cells need and the store lacks, once among all workers; nothing without a store."""
    shared = [one for one in opened if one[1].spec.protocol != "finetuned"]
    if found.store is None or not shared:
        return
    # In the store's folder, not the plan's: two sweeps may need the same states.
    with lease(found.store.root / "locks" / f"fill-{shared[0][0].group}", patience=PATIENCE):
        _fill(found, shared)


def _fill(found: Machine, opened: Sequence[Opened]) -> None:
    from ssft_bench.features import FrozenFeatures

    device = _device(found)
    _, first = opened[0]
    layers = found.group_layers or tuple(range(first.upstream.spec.num_layers))
    upstream = first.upstream.eval().requires_grad_(False).to(device)
    view = found.stored(first.spec, first.content["upstream_weights"], upstream, layers, device)
    features = FrozenFeatures(
        upstream, layers, device, 0.0, dtype=first.spec.data.states, view=view
    )
    rows: dict[str, Utterance] = {}
    for _, made in opened:
        everything = [u for split in made.data.splits.values() for u in split]
        everything += [u for search in made.data.searches.values() for u in search.queries]
        rows |= {u.id: u for u in everything}
    features.warm(list(rows.values()), "hidden states")
    features.close()
