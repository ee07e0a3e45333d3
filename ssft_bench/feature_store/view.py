"""What a run sees of the feature store: one upstream, one type, the layers it asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.feature_store.address import Addresses
from ssft_bench.feature_store.volume import Volume

if TYPE_CHECKING:
    from ssft_bench.feature_store.store import FeatureStore


class StoreView:
    """Hidden states by utterance. What it has opened is not evicted until `close`.

    The store is a convenience: whatever goes wrong in it (disk full, damage, no rights) leaves an
    event in `events` and a run that computes. `open` says whether it still takes states.
    """

    def __init__(
        self,
        store: FeatureStore,
        upstream_key: str,
        dtype: str,
        layers: Sequence[int],
        corpus: str,
        about: Mapping[str, Any],
    ) -> None:
        self.store, self.key, self.dtype = store, upstream_key, dtype
        self.layers, self.corpus, self.about = tuple(layers), corpus, about
        self.addresses = Addresses()
        self.open = True
        self._events: list[dict[str, Any]] = []
        self._used: dict[str, tuple[Volume, int]] = {}

    @property
    def events(self) -> list[dict[str, Any]]:
        """What went wrong or was mended since this view began."""
        own = [event for volume, first in self._used.values() for event in volume.events[first:]]
        return self._events + own

    def get(self, utterance: Utterance, layers: Sequence[int] | None = None) -> list[Tensor] | None:
        """States of an utterance, [T_l, D_l] of the view's type, mapped from the disk; None where there
        are none or not all of these layers (the view's own by default)."""
        asked = self.layers if layers is None else layers
        volume = self._volume(utterance)
        if volume is None:
            return None
        address = self.addresses.of(utterance)
        try:
            if volume.sections(address, asked) is None:
                volume.refresh()
            return volume.read(address, asked)
        except OSError as error:
            self._give_up("cannot be read", error)
            return None

    def put(self, utterance: Utterance, states: Sequence[Tensor]) -> bool:
        """Keep the states of the view's layers, each [T_l, D_l], rounded to the view's type; layers that
        are there already are left alone. False where they could not be kept."""
        volume = self._volume(utterance) if self.open else None
        if volume is None:
            return False
        by_layer = dict(zip(self.layers, states, strict=True))
        try:
            kept = volume.append(self.addresses.of(utterance), by_layer, self.store.make_room)
        except OSError as error:
            self._give_up("cannot be written", error)
            return False
        if kept:
            self.store.describe(self.key, self.about)
        else:
            self._give_up("quota or disk is full")
        return kept

    def missing(
        self, utterances: Iterable[Utterance], layers: Sequence[int] | None = None
    ) -> list[Utterance]:
        """Those that are not there with all of these layers (the view's own by default)."""
        asked = self.layers if layers is None else layers
        rows = list(utterances)
        self.addresses.learn(rows)
        with suppress(OSError):
            for name in {self._name(row) for row in rows} & self._used.keys():
                self._used[name][0].refresh()
        found = []
        for row in rows:
            volume = self._volume(row)
            if volume is None or volume.sections(self.addresses.of(row), asked) is None:
                found.append(row)
        return found

    def close(self) -> None:
        """Let go of what was opened; states that were read stay valid. It can be used again."""
        self._events = self.events
        for volume, _ in self._used.values():
            volume.release()
        self._used.clear()

    def _name(self, utterance: Utterance) -> str:
        return f"{self.corpus}-{utterance.split}"

    def _volume(self, utterance: Utterance) -> Volume | None:
        """The volume that an utterance belongs to, in use; None where the store cannot be used at all."""
        name = self._name(utterance)
        if name not in self._used:
            if not self.open:
                return None
            volume = self.store.volume(self.key, self.dtype, name)
            first = len(volume.events)
            try:
                volume.use()
            except OSError as error:
                self._give_up("cannot be used", error)
                return None
            self._used[name] = (volume, first)
        return self._used[name][0]

    def _give_up(self, why: str, error: OSError | None = None) -> None:
        """Store no more; what is there is still read."""
        if not self.open:
            return
        self.open = False
        reason = f": {error.strerror or error}" if error else ""
        self._events.append(
            {
                "kind": "feature_store",
                "what": f"{why}{reason}; computing without it",
                "folder": str(self.store.root),
            }
        )
