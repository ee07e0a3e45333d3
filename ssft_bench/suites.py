"""A suite picks corpora, base weights and recipe numbers; the code that runs is the same."""

from __future__ import annotations

SUITES: dict[str, str] = {
    "mini": "embedded synthetic speech; no network, minutes on two CPU cores (the default)",
    "pocket": "each task on small recorded corpora that are free to use; --data says where they lie",
    "full": "each task on its official corpus with its published recipe; --data says where they lie",
}
"""Name -> one line."""

SMALL_MODELS = ("mini", "pocket")
"""Suites for small machines, in which the name of an SSFT upstream means the mini model of the package."""
