"""Which utterances changed: predictions of now beside stored ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from ssft_bench.metric import Metric, Prediction

WIDTH = 100
"""Longest text that is shown of a hypothesis."""


@dataclass(frozen=True)
class Change:
    """An utterance that is recognised otherwise."""

    id: str
    reference: str
    old: str | None
    """None: it was not there."""
    new: str | None
    """None: it is not there any more."""
    worse: bool | None
    """Whether its own count of the metric rose to the worse; None where a metric has none of its own."""


def changes(metric: Metric, old: Sequence[Prediction], new: Sequence[Prediction]) -> list[Change]:
    """What differs, worst first, then by id. A changed reference is a change too."""
    before, after = ({p.id: p for p in run} for run in (old, new))
    found = []
    for name in sorted(before.keys() | after.keys()):
        one, other = before.get(name), after.get(name)
        if _text(one) == _text(other):
            continue
        shown = other or one
        assert shown is not None
        found.append(
            Change(
                name,
                shown.reference,
                None if one is None else one.hypothesis,
                None if other is None else other.hypothesis,
                _worse(metric, one, other),
            )
        )
    return sorted(found, key=lambda c: (not c.worse, c.id))


def _text(one: Prediction | None) -> tuple[str, str] | None:
    return None if one is None else (one.reference, one.hypothesis)


def _worse(metric: Metric, old: Prediction | None, new: Prediction | None) -> bool | None:
    if old is None or new is None or metric.table is not None:
        return None
    before, after = metric.value([old]), metric.value([new])
    return after < before if metric.higher_is_better else after > before


def lines(found: Sequence[Change], limit: int) -> list[str]:
    """A line for each of the first `limit` changes, and one for how many more there are."""
    told = []
    for c in found[:limit]:
        old, new = _where_they_differ(c.old, c.new)
        told.append(f"{c.id}: reference {shorten(c.reference)} | was {old} | is {new}")
    more = len(found) - limit
    return [*told, f"... and {more} more"] if more > 0 else told


def _where_they_differ(old: str | None, new: str | None) -> tuple[str, str]:
    """Both, shortened; long ones that begin alike are shown from just before the first difference."""
    if old is None or new is None or max(len(old), len(new)) <= WIDTH:
        return shorten(old), shorten(new)
    alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
    start = max(0, alike - WIDTH // 4)
    if start == 0:
        return shorten(old), shorten(new)
    return shorten(f"…{old[start:]}"), shorten(f"…{new[start:]}")


def shorten(text: str | None) -> str:
    """One line of at most WIDTH letters, quoted."""
    if text is None:
        return "absent"
    flat = " / ".join(text.splitlines())
    return repr(flat if len(flat) <= WIDTH else f"{flat[: WIDTH - 1]}…")
