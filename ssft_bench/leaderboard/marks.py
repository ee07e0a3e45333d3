"""Is a row's distance from the best one, or from a base upstream, more than chance?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ssft_bench.comparison import PairedResult, paired_seeds
from ssft_bench.comparison.corrections import holm
from ssft_bench.errors import BenchError
from ssft_bench.leaderboard.entries import SEED, Entry, metric_of

LEVEL = 0.05
"""Corrected p-values below this are marked."""
BETTER, WORSE = "*", "†"


@dataclass(frozen=True)
class Mark:
    """A row against its reference."""

    versus: str
    """Label of the reference; empty where there is none."""
    is_reference: bool = False
    found: PairedResult | None = None
    """None where nothing was tested."""
    p_corrected: float | None = None
    symbol: str = ""
    """`*` significantly better than the reference, `†` significantly worse, after Holm's correction."""
    why_not: str = ""
    """Why nothing was tested."""


def marks(group: Sequence[Entry], base: str | None) -> list[Mark]:
    """A mark for each row of one table, in its order.

    Without `base` the reference is the best row. `base` is an upstream: each row's reference is then that
    upstream's row by the same interface and, where there is one, the same seed; or `upstream/interface`,
    one reference for all.
    """
    references = [_reference(entry, group, base) for entry in group]
    found: list[Mark] = []
    for entry, reference in zip(group, references, strict=True):
        if reference is None:
            found.append(Mark("", why_not=f"no row of {base} to compare with"))
        elif reference is entry:
            found.append(Mark(label(entry), is_reference=True))
        else:
            found.append(_tested(entry, reference))
    tested = [i for i, mark in enumerate(found) if mark.found is not None]
    corrected = holm([_p(found[i]) for i in tested])
    for i, p in zip(tested, corrected, strict=True):
        found[i] = _symbol(found[i], p, group[i].primary.higher_is_better)
    return found


def label(entry: Entry) -> str:
    """`upstream/interface`."""
    return f"{entry.record.spec.upstream.label}/{entry.record.spec.interface_label}"


def best(group: Sequence[Entry]) -> Entry:
    """The best row; of equal ones the first."""
    sign = -1 if group[0].primary.higher_is_better else 1
    return min(group, key=lambda entry: sign * entry.value)


def _reference(entry: Entry, group: Sequence[Entry], base: str | None) -> Entry | None:
    if base is None:
        return best(group)
    upstream, slash, interface = base.partition("/")
    wanted = interface if slash else entry.record.spec.interface_label
    found = [
        e for e in group
        if e.record.spec.upstream.label == upstream and e.record.spec.interface_label == wanted
    ]  # fmt: skip
    if slash:
        return found[0] if found else None
    seed = entry.record.spec.seed
    same = [e for e in found if e.record.spec.seed == seed]
    return next(iter(same or found), None)


def _tested(entry: Entry, reference: Entry) -> Mark:
    if entry.record.content.get("corpus") != reference.record.content.get("corpus"):
        return Mark(label(reference), why_not="other recordings")
    try:
        found = paired_seeds(
            metric_of(entry.record),
            entry.side.predictions(False),
            reference.side.predictions(False),
            seed=SEED,
        )
    except BenchError as error:
        return Mark(label(reference), why_not=str(error))
    return Mark(label(reference), found=found)


def _p(mark: Mark) -> float:
    assert mark.found is not None
    return mark.found.p


def _symbol(mark: Mark, p: float, higher_is_better: bool) -> Mark:
    assert mark.found is not None
    symbol = ""
    if p < LEVEL and mark.found.difference:
        symbol = BETTER if (mark.found.difference > 0) == higher_is_better else WORSE
    return Mark(mark.versus, False, mark.found, p, symbol)
