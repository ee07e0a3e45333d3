"""What an upstream gives and an interface takes: a list of layers, never stacked unless asked."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ssft_bench.mixing import real_frames


@dataclass(frozen=True)
class UpstreamSpec:
    """Shape of an upstream's hidden states."""

    name: str
    """Name on the command line."""
    dims: tuple[int, ...]
    """Width of each layer."""
    strides: tuple[int, ...]
    """Samples at 16 kHz per frame, for each layer."""
    parts: tuple[int, ...] = ()
    """Layers of each upstream where several run side by side (`a+b`); empty for one."""

    @property
    def num_layers(self) -> int:
        """Number of hidden states: transformer layers plus one for the s3prl HuBERT family."""
        return len(self.dims)


class HiddenStates:
    """Hidden states of a batch: `states[l]` is layer l's [B, T, D_l], `lengths` [B] the valid frames.

    The tensors are kept as they come; s3prl's are [T, B, D] memory seen as [B, T, D], and no copy is
    made of them. Frames at and after an utterance's length are padding and carry no meaning. Layers
    may differ in frames (T_l); `layer_lengths` has the valid ones of each, `lengths` the last one's.
    """

    def __init__(
        self,
        states: Sequence[Tensor],
        lengths: Tensor | Sequence[Tensor],
        layers: Sequence[int] | None = None,
    ) -> None:
        """`lengths` is [B] for all layers, or one [B] for each; `layers` are the upstream's indices of
        the states where only some of its layers are here.

        Raises ValueError when layers disagree in batch, or a length does not fit.
        """
        if not states:
            raise ValueError("hidden states: no layer was given")
        each = [lengths] * len(states) if isinstance(lengths, Tensor) else list(lengths)
        self.states = list(states)
        self.layers = tuple(layers) if layers is not None else tuple(range(len(states)))
        if not len(self.layers) == len(each) == len(self.states):
            raise ValueError(
                f"hidden states: {len(states)} states, but layers {self.layers} and {len(each)} lengths"
            )
        for layer, state in zip(self.layers, self.states, strict=True):
            if state.dim() != 3:
                raise ValueError(
                    f"hidden states: layer {layer} has shape {tuple(state.shape)}, expected [B, T, D]"
                )
        if isinstance(lengths, Tensor):
            _same_frames(self.states, self.layers)
        for place, own in enumerate(each):
            if place == 0 or own is not each[place - 1]:
                _check_lengths(own, self.states[place])
        self.layer_lengths = each
        self.lengths = each[-1]

    def __len__(self) -> int:
        return len(self.states)

    def stack(self) -> Tensor:
        """All layers in one new tensor [L, B, T, D]: costs a copy of everything; layers must be alike."""
        return torch.stack(self.states)

    def select(self, layers: Sequence[int]) -> HiddenStates:
        """Only these layers (the upstream's indices), in this order, sharing memory.

        Raises ValueError for a layer that is not here.
        """
        place = {layer: i for i, layer in enumerate(self.layers)}
        absent = [layer for layer in layers if layer not in place]
        if absent:
            raise ValueError(f"hidden states: no layer {absent}; here are {list(self.layers)}")
        chosen = [place[layer] for layer in layers]
        part = copy.copy(self)  # what was checked once need not be checked again
        part.states, part.layers = [self.states[i] for i in chosen], tuple(layers)
        part.layer_lengths = [self.layer_lengths[i] for i in chosen]
        part.lengths = part.layer_lengths[-1]
        return part

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> HiddenStates:
        """On another device or in another float type; the same tensors where nothing changes."""
        states = [state.to(device=device, dtype=dtype) for state in self.states]
        moved = {id(own): own.to(device) for own in self.layer_lengths}
        return HiddenStates(states, [moved[id(own)] for own in self.layer_lengths], self.layers)

    def valid(self) -> Tensor:
        """Mask of the last layer's real frames, bool [B, T]."""
        return real_frames(self.lengths, self.states[-1].shape[1])

    @staticmethod
    def pad(items: Sequence[Sequence[Tensor]], layers: Sequence[int] | None = None) -> HiddenStates:
        """Batch of utterances, each a list of tensors [T_l, D_l], padded at the end with zeros."""
        counts = [tuple(state.shape[0] for state in item) for item in items]
        by_counts = {c: torch.tensor(c) for c in zip(*counts, strict=True)}
        lengths = [by_counts[c] for c in zip(*counts, strict=True)]
        states = [
            torch.nn.utils.rnn.pad_sequence([item[place] for item in items], batch_first=True)
            for place in range(len(items[0]))
        ]
        return HiddenStates(states, lengths, layers)


def _same_frames(states: Sequence[Tensor], layers: Sequence[int]) -> None:
    """One tensor of lengths holds for layers of the same [B, T] only."""
    shape = states[0].shape[:2]
    for layer, state in zip(layers, states, strict=True):
        if state.shape[:2] != shape:
            raise ValueError(
                f"hidden states: layer {layer} is [B, T] = {tuple(state.shape[:2])}, but layer "
                f"{layers[0]} is {tuple(shape)}; give lengths for each layer"
            )


def _check_lengths(lengths: Tensor, state: Tensor) -> None:
    batch, frames = state.shape[:2]
    if lengths.shape != (batch,):
        raise ValueError(f"hidden states: lengths has shape {tuple(lengths.shape)}, not [{batch}]")
    if batch and (int(lengths.max()) > frames or int(lengths.min()) < 0):
        raise ValueError(f"hidden states: a length is outside 0..{frames}: {lengths.tolist()}")
