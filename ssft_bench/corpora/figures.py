"""Sizes that a corpus should have, and how far each of them can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Quantity = Literal[
    "utterances", "hours", "speakers", "queries", "documents", "recordings", "entities", "negative",
    "neutral", "positive",
]  # fmt: skip
"""What `ssft-bench data check` counts: rows, labels, and hours of speech; recordings are utterances and
queries together."""


@dataclass(frozen=True)
class Figure:
    """One number over one or several splits together."""

    quantity: Quantity
    splits: tuple[str, ...]
    """Splits whose sum it is; speakers are counted once."""
    value: float
    source: str
    """Who says so."""
    status: Literal["verified", "derived", "unverified"] = "verified"
    """verified: read at the source; derived: counted on official files; unverified: recalled only, so
    it is shown and not compared."""

    @property
    def tolerance(self) -> float:
        """Hours are published with one decimal; everything else is a count."""
        return 0.051 if self.quantity == "hours" else 0.0
