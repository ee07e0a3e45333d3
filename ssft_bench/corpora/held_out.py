"""Fixed splits for corpora that have none: by a hash of each recording's name.

A recording's split depends on nothing but its name, so it is the same whichever others are there, in
whatever order and audio format.
"""

from __future__ import annotations

import hashlib
from pathlib import Path


def split_of(name: str) -> str:
    """train, dev or test: test is `is_held_out`; of the rest, one in five is dev."""
    if is_held_out(name):
        return "test"
    return "dev" if _bits(name, 4) % 5 == 0 else "train"


def is_held_out(name: str) -> bool:
    """The fixed fifth that is test: SHA-256 of the name, first 4 bytes, mod 5 = 0. The mini models'
    pretraining leaves it out."""
    return _bits(name, 0) % 5 == 0


def held_out(path: Path) -> bool:
    """`is_held_out` of a file named `<parent folder>/<stem>`."""
    return is_held_out(f"{path.parent.name}/{path.stem}")


def rank(name: str) -> bytes:
    """Sorts names in an order that is fixed and has nothing to do with what they are."""
    return hashlib.sha256(name.encode()).digest()[8:]


def _bits(name: str, first: int) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[first : first + 4], "big")
