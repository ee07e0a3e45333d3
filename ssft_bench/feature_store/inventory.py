"""What the commands of the feature store look up, and how they say it."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from ssft_bench.errors import UsageError
from ssft_bench.feature_store.store import FeatureStore, default_quota_gib
from ssft_bench.feature_store.volume import Volume

GIB = 2**30


def show(folder: Path) -> dict[str, Any]:
    """Every volume, the sum and the quota."""
    store = FeatureStore(folder, default_quota_gib(folder))
    volumes = [{**_about(volume), **volume.contents()} for volume in store.volumes()]
    total = sum(v["bytes"] for v in volumes)
    return {
        "folder": str(folder),
        "quota_gib": store.quota / GIB,
        "bytes": total,
        "volumes": volumes,
    }


def show_text(found: dict[str, Any]) -> str:
    """A table, and a line with the sum."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("upstream", overflow="fold")
    for column in ("states", "speech", "layers", "utterances", "MiB", "last used"):
        number = column in ("utterances", "MiB")
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for v in found["volumes"]:
        table.add_row(
            v["upstream"], v["states"], v["split"], ranges(v["layers"]), f"{v['utterances']:,}",
            f"{v['bytes'] / 2**20:,.1f}",
            "now" if v["in_use"] else (v["last_used"] or "").replace("T", " ")[:16],
        )  # fmt: skip
    out = io.StringIO()
    console = Console(file=out, width=Console().width)
    if found["volumes"]:
        console.print(table)
    console.print(
        f"{found['bytes'] / GIB:.3f} GiB in {found['folder']} (quota {found['quota_gib']:g} GiB)",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    return out.getvalue().rstrip("\n")


def prune(folder: Path, gib: float | None, upstream: str | None) -> dict[str, Any]:
    """Remove volumes until at most `gib` are left, or all of an upstream; tell which and which not."""
    store = FeatureStore(folder, default_quota_gib(folder) if gib is None else gib)
    volumes = sorted(store.volumes(), key=lambda v: v.last_used)
    if upstream is not None:
        named = {_about(v)["upstream"] for v in volumes}
        if upstream not in named:
            there = ", ".join(sorted(named)) or "nothing"
            raise UsageError(
                f"--upstream {upstream}: {folder} has no states of it; it has: {there}"
            )
        volumes = [v for v in volumes if _about(v)["upstream"] == upstream]
    removed: list[dict[str, Any]] = []
    in_use: list[dict[str, Any]] = []
    for volume in volumes:
        if upstream is None and store.bytes <= store.quota:
            break
        about = _about(volume)
        (removed if volume.remove() or not about["bytes"] else in_use).append(about)
    return {"folder": str(folder), "removed": removed, "in_use": in_use, "bytes": store.bytes}


def prune_text(found: dict[str, Any]) -> str:
    """A line for each volume, and the sum."""
    lines = [
        f"{what}: {v['upstream']} {v['states']} {v['split']}, {v['bytes'] / 2**20:,.1f} MiB"
        for what, key in (("removed", "removed"), ("kept, a process uses it", "in_use"))
        for v in found[key]
    ]
    return "\n".join([*lines, f"{found['bytes'] / GIB:.3f} GiB are left in {found['folder']}"])


def verify(folder: Path, repair: bool) -> dict[str, Any]:
    """Check every section of every volume; `repair` rewrites those that are not whole."""
    store = FeatureStore(folder, default_quota_gib(folder))
    rows = []
    for volume in store.volumes():
        volume.use()
        try:
            counts = volume.mend() if repair else volume.examine()
        finally:
            volume.release()
        broken = bool(counts["damaged"] or counts["broken_lines"] or counts["unreadable"])
        status = ("mended" if repair else "damaged") if broken else "whole"
        rows.append({**_about(volume), **counts, "status": status})
    worst = next((s for s in ("damaged", "mended") if any(r["status"] == s for r in rows)), "whole")
    return {"folder": str(folder), "status": worst, "volumes": rows}


def verify_text(found: dict[str, Any]) -> str:
    """A line for each volume."""
    lines = []
    for row in found["volumes"]:
        parts = [f"{row['sections']:,} sections", f"{row['damaged']} damaged"]
        parts += [f"{row['broken_lines']} broken index lines"] if row["broken_lines"] else []
        parts += ["data file unreadable"] if row["unreadable"] else []
        parts += [f"{row['lost_bytes']:,} bytes unused"] if row["lost_bytes"] else []
        lines.append(
            f"{row['status']}: {row['upstream']} {row['states']} {row['split']}: {', '.join(parts)}"
        )
    return "\n".join(lines) or f"nothing is stored in {found['folder']}"


def _about(volume: Volume) -> dict[str, Any]:
    key, states, split = volume.folder.parts[-3:]
    about: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        about = json.loads((volume.folder.parent.parent / "about.json").read_text("utf-8"))
    used = volume.last_used
    when = datetime.fromtimestamp(used, UTC).isoformat(timespec="seconds") if used else None
    return {
        "upstream": str(about.get("upstream", key)), "key": key, "states": states, "split": split,
        "bytes": volume.bytes, "last_used": when, "in_use": volume.in_use,
    }  # fmt: skip


def ranges(numbers: Sequence[int]) -> str:
    """`0-3, 7` for 0, 1, 2, 3, 7."""
    parts: list[list[int]] = []
    for n in numbers:
        if parts and n == parts[-1][-1] + 1:
            parts[-1].append(n)
        else:
            parts.append([n])
    return ", ".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)
