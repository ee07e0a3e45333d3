"""Relative gains: quoted ones, those that follow from absolute numbers, and whether the two agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from ssft_bench.published.rows import RELATIVE, PublishedRow

OFFICIAL = "superbbenchmark"
"""Start of the sources that are SUPERB's own board: whose base row counts where a source has none."""
NO_COST = "cost"


def relative_gain(base: float, value: float, *, higher_is_better: bool) -> float:
    """Percent by which `value` is better than `base`; negative where it is worse."""
    change = (value - base) / base * 100
    return change if higher_is_better else -change


@dataclass(frozen=True)
class Gain:
    """A published gain of one model over another, in the same cell."""

    source: str
    upstream: str
    """Base model of both."""
    method: str
    interface: str
    base_method: str
    base_interface: str
    task: str
    split: str
    metric: str
    """Of the absolute numbers."""
    protocol: str
    relative: float
    """Percent, positive where it is better."""
    quoted: bool
    """As the source says it; else computed from its absolute numbers."""
    status: str


def quoted_metric(row: PublishedRow) -> str:
    """The metric that a quoted gain is of: `wer` of `wer_relative_reduction`."""
    for end in RELATIVE:
        if row.metric.endswith(end):
            return row.metric.removesuffix(end)
    return row.metric


def gains(rows: Sequence[PublishedRow], *, of: Literal["methods", "interfaces"]) -> list[Gain]:
    """Published gains, quoted and computed, in the order of the rows.

    of methods: over the same model without one, by the same interface; of interfaces: over the weighted
    sum. Computed within one source and table alone: numbers of two papers are two settings.
    """
    found = [_quoted(row) for row in rows if row.relative] if of == "methods" else []
    absolute = [
        r for r in rows if not r.relative and r.task != NO_COST and r.unit in ("%", "fraction")
    ]
    bases: dict[tuple[str, ...], PublishedRow] = {}
    for row in absolute:
        if row.method == "none" and (of == "methods" or row.interface == "weighted_sum"):
            bases.setdefault(_cell(row, of), row)
    for row in absolute:
        base = bases.get(_cell(row, of))
        is_base = row.method == "none" if of == "methods" else row.interface == "weighted_sum"
        if base is not None and not is_base and base.value:
            found.append(_computed(row, base))
    return found


def _cell(row: PublishedRow, of: str) -> tuple[str, ...]:
    fixed = row.interface if of == "methods" else row.method
    return (
        row.source, row.table, row.upstream, fixed, row.protocol, row.task, row.split, row.metric,
    )  # fmt: skip


def _quoted(row: PublishedRow) -> Gain:
    return Gain(
        row.source, row.upstream, row.method, row.interface, "none", row.interface, row.task,
        row.split, quoted_metric(row), row.protocol, row.value, True, row.status,
    )  # fmt: skip


def _computed(row: PublishedRow, base: PublishedRow) -> Gain:
    gain = relative_gain(base.value, row.value, higher_is_better=row.higher_is_better)
    return Gain(
        row.source, row.upstream, row.method, row.interface, base.method, base.interface, row.task,
        row.split, row.metric, row.protocol, gain, False, row.status,
    )  # fmt: skip


@dataclass(frozen=True)
class ClaimCheck:
    """A quoted gain, recomputed."""

    row: PublishedRow
    verdict: Literal["agrees", "attainable", "mismatch", "no base"]
    """agrees: recomputed from an absolute number that was not derived from the claim; attainable: some
    value with the published decimals gives it; mismatch: none does; no base: nothing to compute from."""
    text: str
    """One line."""


def check_claims(rows: Sequence[PublishedRow]) -> list[ClaimCheck]:
    """Every quoted gain against absolute numbers: its source's own base, or SUPERB's official one."""
    return [_check(row, rows) for row in rows if row.relative]


def _check(row: PublishedRow, rows: Sequence[PublishedRow]) -> ClaimCheck:
    metric = quoted_metric(row)
    same = [
        r for r in rows
        if (r.upstream, r.task, r.split, r.metric) == (row.upstream, row.task, row.split, metric)
    ]  # fmt: skip
    base = _base(row, same)
    said = f"{row.source}: {row.method} on {row.upstream}, {row.task}: {row.text} % quoted"
    if base is None:
        return ClaimCheck(row, "no base", f"{said}; there is no absolute number of the base")
    said += f", base {base.text}"
    told = (
        ""
        if base.interface == row.interface
        else f" ({base.interface}; the claim is of {row.interface})"
    )
    own = [r for r in same if r.method == row.method and r.status != "derived"]
    if own:
        gain = _gain(base, Decimal(own[0].text))
        text = f"{said}{told}, value {own[0].text}: {gain:.2f} %"
        return ClaimCheck(row, "agrees" if _rounds_to(gain, row) else "mismatch", text)
    near = _nearest(base, row)
    hits = [str(value) for value, gain in near if _rounds_to(gain, row)]
    if hits:
        return ClaimCheck(row, "attainable", f"{said}{told}: follows from {' or '.join(hits)}")
    shown = ", ".join(f"{value} gives {gain:.2f}" for value, gain in near)
    return ClaimCheck(row, "mismatch", f"{said}{told}: no such value gives it ({shown})")


def _base(row: PublishedRow, same: Iterable[PublishedRow]) -> PublishedRow | None:
    """The source's own base row, else the official one; that of another interface as a last resort."""
    bases = [r for r in same if r.method == "none"]
    own = [r for r in bases if r.source == row.source]
    official = [r for r in bases if r.source.startswith(OFFICIAL)]
    candidates = own or official
    exact = [r for r in candidates if r.interface == row.interface]
    return next(iter(exact or candidates), None)


def _nearest(base: PublishedRow, row: PublishedRow) -> list[tuple[Decimal, Decimal]]:
    """The values with the base's decimals next to what the claim asks for, and the gain of each."""
    step = Decimal(1).scaleb(-max(base.decimals, 4 if base.unit == "fraction" else 2))
    sign = 1 if base.higher_is_better else -1
    wanted = Decimal(base.text) * (1 + sign * Decimal(row.text) / 100)
    below = wanted // step * step
    return [(value, _gain(base, value)) for value in (below, below + step)]


def _gain(base: PublishedRow, value: Decimal) -> Decimal:
    """`relative_gain` in decimals: 1.09 % of 6.42 must not fail for a binary fraction."""
    change = (value - Decimal(base.text)) / Decimal(base.text) * 100
    return change if base.higher_is_better else -change


def _rounds_to(gain: Decimal, row: PublishedRow) -> bool:
    """Whether it is the quoted number; half a unit of its last digit may have gone either way."""
    half = Decimal(1).scaleb(-row.decimals) / 2
    return abs(gain - Decimal(row.text)) <= half
