"""An offline run's file read back: LevelDB's log format around wandb's own protocol buffers."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEADER, BLOCK = 7, 32768
FULL, FIRST, _MIDDLE, LAST = 1, 2, 3, 4


def records(path: Path) -> Iterator[Any]:
    """wandb's records in their order."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = path.read_bytes()
    assert data[:4] == b":W&B"
    place, parts = HEADER, b""
    while place + HEADER <= len(data):
        left = BLOCK - place % BLOCK
        if left < HEADER:
            place += left
            continue
        _, size, kind = struct.unpack("<IHB", data[place : place + HEADER])
        body = data[place + HEADER : place + HEADER + size]
        place += HEADER + size
        parts = body if kind in (FULL, FIRST) else parts + body
        if kind in (FULL, LAST):
            yield Record.FromString(parts)


def history(folder: Path) -> dict[tuple[int, str], float]:
    """What was logged, by step and name; of all offline runs in a folder."""
    found: dict[tuple[int, str], float] = {}
    for path in sorted(folder.glob("**/offline-run-*/run-*.wandb")):
        for record in records(path):
            if record.WhichOneof("record_type") != "history":
                continue
            items = {
                ".".join(item.nested_key) or item.key: json.loads(item.value_json)
                for item in record.history.item
            }
            step = int(items.pop("_step", record.history.step.num))
            found |= {(step, k): v for k, v in items.items() if not k.startswith("_")}
    return found
