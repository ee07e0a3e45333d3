"""Results -> one table: a row for each run, or for the seeds of a cell together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ssft_bench.errors import MissingError
from ssft_bench.leaderboard import COLUMNS
from ssft_bench.leaderboard.entries import (
    Entry,
    Seeds,
    entries,
    finished,
    metric_of,
    pooled_interval,
)
from ssft_bench.leaderboard.flags import flags
from ssft_bench.leaderboard.marks import Mark, marks

ORDER = (
    "suite", "corpus", "task", "protocol", "metric", "_signed", "upstream", "interface", "seed",
    "signature",
)  # fmt: skip


def build(
    runs: Path | Sequence[Path],
    *,
    seeds: Seeds = "each",
    base: str | None = None,
    significance: bool = True,
) -> pd.DataFrame:
    """See `ssft_bench.leaderboard.build`."""
    folders = [runs] if isinstance(runs, Path) else list(runs)
    found = entries(finished(folders), seeds)
    if not found:
        named = ", ".join(map(str, folders))
        raise MissingError(
            f"--runs {named}: no finished run there; start one with 'ssft-bench run'"
        )
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in found:
        groups.setdefault(entry.section, []).append(entry)
    rows = [row for group in groups.values() for row in _rows(group, base, significance)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    if seeds == "mean":  # one type, to be sorted by
        table["seed"] = table["seed"].map(str)
    signed = table["value"].where(~table["higher_is_better"].astype(bool), -table["value"])
    ordered = table.assign(_signed=signed).sort_values(list(ORDER), kind="stable")
    return ordered.drop(columns="_signed").reset_index(drop=True)


def _rows(group: Sequence[Entry], base: str | None, significance: bool) -> list[dict[str, Any]]:
    told = flags(group)
    marked = marks(group, base) if significance else [Mark("")] * len(group)
    sign = -1 if group[0].primary.higher_is_better else 1
    better = sorted({round(sign * entry.value, 4) for entry in group})
    return [
        {
            **_row(entry),
            **_mark(mark),
            "place": better.index(round(sign * entry.value, 4)) + 1,
            "flags": flag,
        }
        for entry, flag, mark in zip(group, told, marked, strict=True)
    ]


def _row(entry: Entry) -> dict[str, Any]:
    record, metric, several = entry.record, entry.primary, len(entry.records) > 1
    spec, cost = record.spec, record.cost
    macs = cost["macs_per_second_of_audio"]
    ci, method = metric.ci95, metric.ci_method
    if several:
        pooled = pooled_interval(metric_of(record), entry.side)
        ci, method = pooled.ci95, pooled.method
    layers = {r.selection["layer"] for r in entry.records if "layer" in r.selection}
    return {
        "suite": spec.suite,
        "corpus": spec.data.corpus,
        "synthetic": record.data["synthetic"],
        "stands_in": record.data.get("stands_in"),
        "task": spec.task.name,
        "metric": metric.name,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "upstream": spec.upstream.label,
        "interface": spec.interface_label,
        "protocol": spec.protocol,
        "seed": " ".join(str(s) for s in entry.side.seeds) if several else spec.seed,
        "value": round(entry.value, 4),
        "ci_low": round(ci[0], 4) if ci else None,
        "ci_high": round(ci[1], 4) if ci else None,
        "utterances": metric.n,
        "ci_method": method,
        "interface_parameters": cost["parameters"]["interface"]["trainable"],
        "head_parameters": cost["parameters"]["head"]["trainable"],
        "upstream_parameters": cost["parameters"]["upstream"]["total"],
        "macs_per_second": sum(macs.values()),
        "steps": spec.train.steps if spec.train else 0,
        "lr": record.selection.get("lr", spec.train.optimizer.lr if spec.train else None),
        "best_step": record.selection.get("step"),
        "events": sum(len(r.events) for r in entry.records),
        "signature": " ".join(r.signature for r in entry.records),
        "layer": " ".join(str(layer) for layer in sorted(layers)) or None,
        "seeds": len(entry.records),
        "sd": round(float(np.std(entry.values, ddof=1)), 4) if several else None,
        "seconds": round(sum(sum(r.cost["seconds"].values()) for r in entry.records), 1),
        "hours_encoded": round(sum(r.cost["speech_hours_encoded"] for r in entry.records), 4),
        "peak_memory_mib": max(r.cost["peak_memory_mib"] for r in entry.records),
    }


def _mark(mark: Mark) -> dict[str, Any]:
    found = mark.found
    low, high = found.ci95 if found and found.ci95 else (None, None)
    return {
        "versus": mark.versus or None,
        "difference": None if found is None else _rounded(found.difference),
        "difference_low": _rounded(low),
        "difference_high": _rounded(high),
        "p": None if found is None else _rounded(found.p),
        "p_corrected": _rounded(mark.p_corrected),
        "clusters": None if found is None else found.clusters,
        "mark": "reference" if mark.is_reference else mark.symbol or mark.why_not or None,
    }


def _rounded(value: float | None) -> float | None:
    """To 4 digits; -0.0 is 0.0: both must be the same bytes."""
    return None if value is None else round(value, 4) + 0.0
