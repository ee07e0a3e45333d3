"""Hidden states of a run's utterances, and the batches a downstream trains on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ssft_bench.audio import read_utterance
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.hidden_states import HiddenStates
from ssft_bench.interface import no_autocast
from ssft_bench.progress import Progress
from ssft_bench.ranks import weight
from ssft_bench.seeds import seed_for
from ssft_bench.standardizing import Standardizer
from ssft_bench.upstream import SAMPLE_RATE, Upstream

if TYPE_CHECKING:
    from ssft_bench.feature_store import StoreView


class Batch:
    """A micro-batch: hidden states and what belongs to each utterance.

    No dataclass: Fabric would walk through its fields and copy every one at each step.
    """

    weight = 1.0
    """What its loss counts beside those of other ranks, see `ranks.weight`."""

    def __init__(
        self, hidden: HiddenStates, utterances: Sequence[Utterance], targets: Sequence[Tensor]
    ) -> None:
        self.hidden, self.utterances, self.targets = hidden, list(utterances), list(targets)


class SharedStates:
    """States of the micro-batch that several runs are at, so that one forward pass serves them all; and
    of as many utterances as there is room for."""

    def __init__(self, layers: Sequence[int], memory_gib: float) -> None:
        """`layers` are those that any of the runs uses; micro-batches come on top of `memory_gib`."""
        self.layers = tuple(layers)
        self.room = memory_gib * 2**30
        self._passing: dict[str, dict[int, Tensor]] = {}
        self._kept: dict[str, dict[int, Tensor]] = {}
        self.passes = 0
        """Utterances that went through the upstream."""

    def move_on(self) -> None:
        """Forget what only this micro-batch needed: every run is past it."""
        self._passing.clear()

    def get(self, utterance: Utterance, layers: Sequence[int]) -> list[Tensor] | None:
        """States of these layers, where a run has computed them."""
        found = self._kept.get(utterance.id) or self._passing.get(utterance.id)
        return None if found is None else [found[layer] for layer in layers]

    def add(self, utterance: Utterance, states: Mapping[int, Tensor], stored: bool) -> None:
        """What a run has computed for an utterance, by layer; what is in the store passes by."""
        self.passes += 1
        size = sum(s.numel() * s.element_size() for s in states.values())
        if not stored and size <= self.room:
            self.room -= size
            self._kept[utterance.id] = dict(states)
        else:
            self._passing[utterance.id] = dict(states)


class FrozenFeatures:
    """Hidden states of a frozen upstream, one utterance at a time; from the store where there is one,
    else kept in memory while they fit.

    One at a time, because the first block of Base models normalises over time: in a padded batch an
    utterance's features depend on its neighbours (specs of s3prl's HuBERT; so does SUPERB's training).
    Layers that no interface of the run uses are not kept. Rounding to `dtype` comes first, so that a
    state is the same number wherever it came from.
    """

    def __init__(
        self,
        upstream: Upstream,
        layers: Sequence[int],
        device: torch.device,
        memory_gib: float,
        kept: dict[str, list[Tensor]] | None = None,
        *,
        dtype: str = "float32",
        view: StoreView | None = None,
    ) -> None:
        """`kept` are states by utterance that an earlier run of the same upstream, layers and dtype left.

        `view` is that of the store; its layers, which must contain `layers`, are computed together.
        """
        self.upstream, self.layers, self.device = upstream, tuple(layers), device
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.view = view
        self.shared: SharedStates | None = None
        self.standardizer: Standardizer | None = None
        self._kept: dict[str, list[Tensor]] = {} if kept is None else kept
        taken = sum(s.numel() * s.element_size() for own in self._kept.values() for s in own)
        self.room = memory_gib * 2**30 - taken
        self.seconds_of_audio = 0.0
        self._origins: dict[str, str] = {}

    @property
    def keeps(self) -> bool:
        """Whether states that are computed now are kept anywhere."""
        in_memory = self.room > 0 and self.shared is None
        return in_memory or (self.view is not None and self.view.open)

    def warm(self, utterances: Sequence[Utterance], label: str) -> None:
        """Compute and keep as many utterances as there is room for, with a progress bar."""
        rows = utterances if self.view is None else self.view.missing(utterances, self.layers)
        with Progress(label, len(rows), unit="utt") as bar:
            for utterance in rows:
                if not self.keeps:
                    break
                self.states(utterance)
                bar.advance()

    def standardize(self, utterances: Sequence[Utterance], label: str) -> Standardizer:
        """From now on every state is standardised with the means and deviations of these utterances.

        States are kept as the upstream gave them: runs share them whether they standardise or not.
        """
        with Progress(label, len(utterances), unit="utt") as bar:

            def each() -> Iterator[list[Tensor]]:
                for utterance in utterances:
                    yield self._rounded(utterance)
                    bar.advance()

            self.standardizer = Standardizer.of(each())
        return self.standardizer

    def states(self, utterance: Utterance) -> list[Tensor]:
        """Used layers' states, each float32 [T_l, D_l] on the CPU; not to be changed in place."""
        states = self._rounded(utterance)
        if self.standardizer is not None:
            return self.standardizer(states)
        return [state.float() for state in states]

    def _rounded(self, utterance: Utterance) -> list[Tensor]:
        """The same in `dtype`; notes where they came from."""
        states, origin = self._find(utterance)
        self._origins.setdefault(utterance.id, origin)
        return states

    def _find(self, utterance: Utterance) -> tuple[list[Tensor], str]:
        """States in `dtype`, and where they came from."""
        found = self._kept.get(utterance.id)
        if found is None and self.shared is not None:
            found = self.shared.get(utterance, self.layers)
        if found is not None:
            return found, "memory"
        if self.view is not None:
            found = self.view.get(utterance, self.layers)
            if found is not None:
                return found, "store"
        computed = self._compute(utterance, self._together)
        states = [computed[layer] for layer in self.layers]
        stored = False
        if self.view is not None and self.view.open:
            stored = self.view.put(utterance, [computed[layer] for layer in self.view.layers])
        if self.shared is not None:
            self.shared.add(utterance, computed, stored)
        elif not stored and self.room > 0:
            self._kept[utterance.id] = states
            self.room -= sum(s.numel() * s.element_size() for s in states)
        return states, "computed"

    @property
    def _together(self) -> tuple[int, ...]:
        """Layers that one forward pass is to leave behind."""
        wanted = {*self.layers}
        if self.view is not None and self.view.open:
            wanted |= {*self.view.layers}
        if self.shared is not None:
            wanted |= {*self.shared.layers}
        return tuple(sorted(wanted))

    def _compute(self, utterance: Utterance, layers: Sequence[int]) -> dict[int, Tensor]:
        samples = torch.from_numpy(read_utterance(utterance))
        self.seconds_of_audio += len(samples) / SAMPLE_RATE
        # No autocast: scoring runs under it, and states must not depend on who asks first.
        with torch.inference_mode(), no_autocast(self.device):
            hidden = self.upstream([samples.to(self.device)])
        used = hidden.select(layers)
        # A clone leaves inference mode and gives up the padded, shared memory of the upstream.
        with torch.inference_mode(False):
            return {
                layer: state[0, : int(own[0])].clone().float().cpu().to(self.dtype)
                for layer, state, own in zip(layers, used.states, used.layer_lengths, strict=True)
            }

    def origin(self) -> dict[str, Any]:
        """Where most utterances' states came from, and how many from where: for the record."""
        counts = dict.fromkeys(("computed", "store", "memory"), 0)
        for name in self._origins.values():
            counts[name] += 1
        return {"states_from": max(counts, key=counts.__getitem__), "utterances_from": counts}

    def close(self) -> list[dict[str, Any]]:
        """Let go of the store; returns what went wrong with it, as events for the record."""
        if self.view is None:
            return []
        self.view.close()
        return self.view.events

    def batch(self, utterances: Sequence[Utterance], targets: Sequence[Tensor]) -> Batch:
        """Padded batch on the run's device, float32, with the layers that are kept."""
        # Rounded states are batched as they are, which moves half the bytes.
        states = self._rounded if self.standardizer is None else self.states
        hidden = HiddenStates.pad([states(u) for u in utterances], self.layers)
        return Batch(hidden.to(self.device, torch.float32), utterances, targets)


def bucket(
    lengths: Sequence[float],
    *,
    batch_size: int,
    batch_seconds: float | None,
    generator: torch.Generator | None,
) -> list[list[int]]:
    """Indices in batches of similar length (seconds): at most `batch_size` items, and at most
    `batch_seconds` with padding counted. With a generator, batches are shuffled and neighbours in
    length change from pass to pass; without one the order is by length.
    """
    keys = torch.tensor(lengths, dtype=torch.float64)
    if generator is not None:
        keys = keys * (
            0.9 + 0.2 * torch.rand(len(lengths), generator=generator, dtype=torch.float64)
        )
    batches: list[list[int]] = []
    current: list[int] = []
    longest = 0.0
    for index in torch.argsort(keys, descending=True, stable=True).tolist():
        grown = max(longest, lengths[index])
        full = len(current) >= batch_size
        if current and (full or (batch_seconds and grown * (len(current) + 1) > batch_seconds)):
            batches.append(current)
            current, grown = [], lengths[index]
        current.append(index)
        longest = grown
    batches.append(current)
    if generator is not None:
        order = torch.randperm(len(batches), generator=generator).tolist()
        batches = [batches[i] for i in order]
    return batches


class TrainBatches:
    """Endless, addressable training batches: the `Batches` of the training loop.

    A pass over the data is shuffled by (seed, pass) alone, so micro-batch i is the same after a resume.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        targets: Sequence[Tensor],
        seconds: Sequence[float],
        features: FrozenFeatures,
        *,
        batch_size: int,
        batch_seconds: float | None,
        seed: int,
        fixed: Sequence[Sequence[int]] | None = None,
    ) -> None:
        """`fixed` batches of indices are only shuffled from pass to pass; else those of `bucket`."""
        self.fixed = fixed
        self.utterances, self.targets, self.seconds = utterances, targets, seconds
        self.features, self.seed = features, seed
        self.batch_size, self.batch_seconds = batch_size, batch_seconds

    def indices(self, epoch: int) -> list[list[int]]:
        """Batches of pass `epoch`, as indices of utterances."""
        generator = torch.Generator().manual_seed(seed_for(self.seed, "pass", epoch))
        if self.fixed is not None:
            shuffled = torch.randperm(len(self.fixed), generator=generator).tolist()
            return [list(self.fixed[i]) for i in shuffled]
        return bucket(
            self.seconds,
            batch_size=self.batch_size,
            batch_seconds=self.batch_seconds,
            generator=generator,
        )

    def __call__(self, first: int, rank: int, world: int) -> Iterator[Batch]:
        """Micro-batches from number `first` on; rank r of w takes every w-th utterance of each."""
        epoch, skip = 0, first
        while True:
            batches = self.indices(epoch)
            if skip >= len(batches):
                skip -= len(batches)
                epoch += 1
                continue
            for indices in batches[skip:]:
                mine = indices[rank::world] or indices[:1]
                batch = self.features.batch(
                    [self.utterances[i] for i in mine], [self.targets[i] for i in mine]
                )
                batch.weight = weight(len(indices), rank, world)
                yield batch
            epoch, skip = epoch + 1, 0
