"""Hidden states of a run's utterances, and the batches a downstream trains on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ssft_bench.audio import read_utterance
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.hidden_states import HiddenStates
from ssft_bench.progress import Progress
from ssft_bench.training import seed_for
from ssft_bench.upstream import SAMPLE_RATE, Upstream


class Batch:
    """A micro-batch: hidden states and what belongs to each utterance.

    No dataclass: Fabric would walk through its fields and copy every one at each step.
    """

    def __init__(
        self, hidden: HiddenStates, utterances: Sequence[Utterance], targets: Sequence[Tensor]
    ) -> None:
        self.hidden, self.utterances, self.targets = hidden, list(utterances), list(targets)


class FrozenFeatures:
    """Hidden states of a frozen upstream, one utterance at a time, kept in memory while they fit.

    One at a time, because the first block of Base models normalises over time: in a padded batch an
    utterance's features depend on its neighbours (specs of s3prl's HuBERT; so does SUPERB's training).
    Layers that no interface of the run uses are not kept.
    """

    def __init__(
        self,
        upstream: Upstream,
        layers: Sequence[int],
        device: torch.device,
        memory_gib: float,
        kept: dict[str, list[Tensor]] | None = None,
    ) -> None:
        """`kept` are states by utterance that an earlier run of the same upstream and layers left."""
        self.upstream, self.layers, self.device = upstream, tuple(layers), device
        self._kept: dict[str, list[Tensor]] = {} if kept is None else kept
        taken = sum(s.numel() * s.element_size() for own in self._kept.values() for s in own)
        self.room = memory_gib * 2**30 - taken
        self.seconds_of_audio = 0.0

    def warm(self, utterances: Sequence[Utterance], label: str) -> None:
        """Compute and keep as many utterances as there is room for, with a progress bar."""
        with Progress(label, len(utterances), unit="utt") as bar:
            for utterance in utterances:
                if self.room <= 0:
                    break
                self.states(utterance)
                bar.advance()

    def states(self, utterance: Utterance) -> list[Tensor]:
        """Used layers' states, each [T_l, D_l] on the CPU."""
        kept = self._kept.get(utterance.id)
        if kept is not None:
            return kept
        states = self._compute(utterance)
        if self.room > 0:
            self._kept[utterance.id] = states
            self.room -= sum(s.numel() * s.element_size() for s in states)
        return states

    def _compute(self, utterance: Utterance) -> list[Tensor]:
        samples = torch.from_numpy(read_utterance(utterance))
        self.seconds_of_audio += len(samples) / SAMPLE_RATE
        with torch.inference_mode():
            hidden = self.upstream([samples.to(self.device)])
        used = hidden.select(self.layers)
        # A clone leaves inference mode and gives up the padded, shared memory of the upstream.
        return [
            state[0, : int(own[0])].float().cpu().clone()
            for state, own in zip(used.states, used.layer_lengths, strict=True)
        ]

    def batch(self, utterances: Sequence[Utterance], targets: Sequence[Tensor]) -> Batch:
        """Padded batch on the run's device, with the layers that are kept."""
        hidden = HiddenStates.pad([self.states(u) for u in utterances], self.layers)
        return Batch(hidden.to(self.device), utterances, targets)


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
                yield self.features.batch(
                    [self.utterances[i] for i in mine], [self.targets[i] for i in mine]
                )
            epoch, skip = epoch + 1, 0
