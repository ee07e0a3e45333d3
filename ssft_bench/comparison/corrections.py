"""p-values of many comparisons, made honest together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

Correction = Literal["holm", "bh", "none"]


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the chance of any false finding (Holm, Scand. J. Statistics 6, 1979)."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    return _put_back(order, np.maximum.accumulate(values[order] * factors))


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Adjusted p-values that keep the share of false findings (Benjamini & Hochberg, JRSS B 57, 1995)."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")[::-1]
    factors = len(values) / np.arange(len(values), 0, -1)
    return _put_back(order, np.minimum.accumulate(values[order] * factors))


def corrected(p: Sequence[float], how: Correction) -> list[float]:
    """p-values by the named correction, in their order."""
    if how == "holm":
        return holm(p)
    return benjamini_hochberg(p) if how == "bh" else [float(one) for one in p]


def _put_back(order: np.ndarray, adjusted: np.ndarray) -> list[float]:
    found = np.empty(len(adjusted))
    found[order] = np.minimum(adjusted, 1.0)
    return [float(one) for one in found]
