"""How many attention heads fit a width."""

from __future__ import annotations


def dividing_heads(dim: int, most: int) -> int:
    """The largest number of heads, at most `most`, that divides `dim`."""
    return next(heads for heads in range(min(most, dim), 0, -1) if dim % heads == 0)
