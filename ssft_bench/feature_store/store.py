"""The feature store: its folder, its quota, and what is thrown away to keep it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from ssft_bench.digests import cache_folder
from ssft_bench.errors import UsageError
from ssft_bench.feature_store.data_file import DTYPES, HEADER
from ssft_bench.feature_store.volume import Volume
from ssft_bench.files import write_json

if TYPE_CHECKING:
    from ssft_bench.feature_store.view import StoreView
    from ssft_bench.hidden_states import UpstreamSpec

QUOTA_GIB = 100.0
"""Where nobody says how much: this, or half of the disk if that is less."""
QUOTA_ENVIRONMENT = "SSFT_BENCH_CACHE_GIB"
KEY_DIGITS = 32
"""Of an upstream's key, in names of folders."""


def default_folder() -> Path:
    """`features` in SSFT_BENCH_CACHE, else in the user's cache folder."""
    return cache_folder() / "features"


def default_quota_gib(folder: Path) -> float:
    """SSFT_BENCH_CACHE_GIB, else 100 or half of the disk. Raises UsageError for what is no size."""
    named = os.environ.get(QUOTA_ENVIRONMENT)
    if named:
        try:
            size = float(named)
        except ValueError:
            size = -1.0
        if not 0 <= size < float("inf"):
            raise UsageError(f"{QUOTA_ENVIRONMENT}={named}: give a number of GiB, as in 50")
        return size
    place = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    return min(QUOTA_GIB, shutil.disk_usage(place).total / 2 / 2**30)


class FeatureStore:
    """Hidden states on disk, at most `quota_gib` of them, shared by every process that has this folder."""

    def __init__(self, root: Path, quota_gib: float) -> None:
        """Touches no file. Writers check the quota by themselves: n of them at one moment can exceed it by
        n utterances."""
        self.root, self.quota = root, round(quota_gib * 2**30)
        self._volumes: dict[Path, Volume] = {}

    def check_writable(self) -> None:
        """Raise UsageError where nothing can be stored, before long work."""
        from ssft_bench.results import check_writable

        check_writable(self.root, "--cache")

    def view(
        self,
        upstream_key: str,
        dtype: str,
        layers: Sequence[int],
        *,
        corpus: str = "speech",
        about: Mapping[str, Any] | None = None,
    ) -> StoreView:
        """One upstream's states of these layers, as a run reads and writes them.

        `corpus` only decides which volume an utterance goes to (with its split), so that corpora are
        thrown away one by one. `about` is for people: what the key stands for.
        """
        from ssft_bench.feature_store.view import StoreView

        if dtype not in DTYPES:
            raise UsageError(f"data.states={dtype}: hidden states are kept as {', '.join(DTYPES)}")
        return StoreView(self, upstream_key, dtype, layers, corpus, about or {})

    def volume(self, upstream_key: str, dtype: str, name: str) -> Volume:
        """The volume of that name; one object for each in a process."""
        return self._at(self.root / upstream_key[:KEY_DIGITS] / dtype / name)

    def _at(self, folder: Path) -> Volume:
        if folder not in self._volumes:
            dtype = folder.parent.name
            self._volumes[folder] = Volume(folder, self.root / "locks", dtype)
        return self._volumes[folder]

    def volumes(self) -> Iterator[Volume]:
        """All that are on the disk, in the order of their paths."""
        for folder in sorted(self.root.glob("*/*/*/")):
            if folder.parent.name in DTYPES:
                yield self._at(folder)

    def describe(self, upstream_key: str, about: Mapping[str, Any]) -> None:
        """Write down for people what a key stands for."""
        path = self.root / upstream_key[:KEY_DIGITS] / "about.json"
        if not path.exists():
            with suppress(OSError):
                write_json(path, {**about, "key": upstream_key})

    # Quota

    @property
    def bytes(self) -> int:
        """On the disk."""
        return sum(volume.bytes for volume in self.volumes())

    def could_hold(self, size: int, upstream_key: str = "") -> bool:
        """Whether so many bytes would fit once everything that is not in use were gone.

        Of states of `upstream_key` that are there already, `size` is taken to be the whole.
        """
        own = self.root / upstream_key[:KEY_DIGITS] if upstream_key else None
        volumes = [
            (volume.bytes, volume.in_use and own not in volume.folder.parents)
            for volume in self.volumes()
        ]
        used = sum(taken for taken, in_use in volumes if in_use)
        idle = sum(taken for taken, in_use in volumes if not in_use)
        return used + size <= self.quota and size <= self._free() + idle

    def make_room(self, size: int) -> bool:
        """Whether so many bytes more fit the quota and the disk, after evicting what is needed.

        The least recently used volume goes first; none that a living process uses, and none at all where
        that would not be enough.
        """
        if self._lacking(size) <= 0:
            return True
        if not self.could_hold(size):
            return False
        with FileLock(self.root / "locks" / "evict", thread_local=False):
            for volume in sorted(self.volumes(), key=lambda v: v.last_used):
                if self._lacking(size) <= 0:
                    return True
                volume.remove()
        return self._lacking(size) <= 0

    def _lacking(self, size: int) -> int:
        return max(self.bytes + size - self.quota, size - self._free())

    def _free(self) -> int:
        """Bytes of the disk that may be taken: a twentieth, at most 1 GiB, is left to others."""
        place = next(p for p in (self.root, *self.root.absolute().parents) if p.exists())
        usage = shutil.disk_usage(place)
        return usage.free - min(2**30, usage.total // 20)


def estimate_bytes(
    upstream: UpstreamSpec, layers: Sequence[int], seconds: float, utterances: int, dtype: str
) -> int:
    """About what the hidden states of so much speech take in the store."""
    item = DTYPES[dtype].itemsize
    rate = sum(upstream.dims[n] / upstream.strides[n] for n in layers) * 16_000
    return round(seconds * rate * item) + utterances * len(layers) * (HEADER + 40)
