"""Hidden states of frozen upstreams on disk, addressed by content and shared by processes.

    <root>/<upstream key>/about.json                      what the key stands for, for people
    <root>/<upstream key>/<dtype>/<corpus>-<split>/data   hidden states, one section per utterance and layer
    <root>/<upstream key>/<dtype>/<corpus>-<split>/index  a line per append: where its sections lie
    <root>/locks/                                         one lock for writers, one for users, per volume

An address is made of bytes alone (`address`), so a changed recording, weight or line of code is another
address, and nothing ever has to be declared stale. A layer is a section of its own inside one data
file: a reader maps only the layers it asks for, and a later cell appends only those that are not there.
One file for all layers keeps those of an utterance beside each other, and makes one append of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssft_bench.feature_store.address import Addresses, upstream_key
    from ssft_bench.feature_store.store import (
        FeatureStore,
        default_folder,
        default_quota_gib,
        estimate_bytes,
    )
    from ssft_bench.feature_store.view import StoreView

_HOMES = {
    "Addresses": "address",
    "upstream_key": "address",
    "FeatureStore": "store",
    "default_folder": "store",
    "default_quota_gib": "store",
    "estimate_bytes": "store",
    "StoreView": "view",
}
__all__ = [
    "Addresses",
    "FeatureStore",
    "StoreView",
    "default_folder",
    "default_quota_gib",
    "estimate_bytes",
    "upstream_key",
]


def __getattr__(name: str) -> Any:
    """Imported when asked for: the commands in this folder must not import torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
