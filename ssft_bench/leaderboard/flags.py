"""What a reader has to know before two rows of a table are compared: other recipes, events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ssft_bench.leaderboard.entries import Entry
from ssft_bench.results import ResultRecord

COMPARED = ("upstream", "interface", "control", "seed", "interface_from")
"""Parts of a specification that a table compares, or that its label tells."""
NO_PROTOCOL = (
    "suite", "spec_version", "data.root", "data.memory_gib", "train.log_every", "train.save_every",
    "lm.path", "lm.lexicon", "finetune.log_every",
)  # fmt: skip
"""Keys that say nothing about how a score came about."""
SHOWN = 4
"""Differences that are spelt out."""


def recipe(record: ResultRecord) -> dict[str, Any]:
    """Every number of a run that another run of its table should share, by its key with dots."""
    values = record.spec.model_dump(mode="json", exclude=set(COMPARED))
    if record.spec.control is not None:  # its head is another one by design
        values["task"].pop("options")
    flat = dict(_flat(values, ""))
    for key in NO_PROTOCOL:
        flat.pop(key, None)
    return flat


def _flat(values: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found += _flat(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found


def circumstances(record: ResultRecord) -> dict[str, Any]:
    """What beside the recipe moves numbers."""
    packages = record.env.get("packages", {})
    return {
        "recordings": record.content.get("corpus"),
        "task_source": record.content.get("task_source"),
        "torch": packages.get("torch"),
        "cuda": record.env.get("cuda"),
    }


def differing(group: Sequence[Entry]) -> list[list[str]]:
    """For each row of a table, the settings in which it is not like most of them: `train.steps=300`.

    Where two settings are equally frequent, the one that comes first in the order of their text counts
    as usual.
    """
    told = [{**recipe(e.record), **circumstances(e.record)} for e in group]
    usual = {
        key: _usual([row.get(key) for row in told if key in row]) for row in told for key in row
    }
    found = []
    for row in told:
        others = [key for key, value in row.items() if repr(value) != usual[key]]
        found.append([_setting(key, row[key]) for key in others])
    return found


def _usual(values: Sequence[Any]) -> str:
    counted = Counter(map(repr, values))
    return min(counted, key=lambda text: (-counted[text], text))


def _setting(key: str, value: Any) -> str:
    if key in ("recordings", "task_source"):
        return f"other {key.replace('_', ' ')}"
    return f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"


def event_kinds(records: Sequence[ResultRecord]) -> list[str]:
    """`kind` or `kind x3` of what happened in the runs."""
    counted = Counter(str(e.get("kind", "event")) for r in records for e in r.events)
    return [kind if n == 1 else f"{kind} x{n}" for kind, n in sorted(counted.items())]


def flags(group: Sequence[Entry]) -> list[str]:
    """One text for each row of a table; empty where there is nothing to say."""
    texts = []
    for entry, other in zip(group, differing(group), strict=True):
        shown = other[:SHOWN] + ([f"and {len(other) - SHOWN} more"] if len(other) > SHOWN else [])
        texts.append("; ".join([*shown, *(f"event: {k}" for k in event_kinds(entry.records))]))
    return texts
