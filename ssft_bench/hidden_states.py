"""What an upstream gives and an interface takes: a list of layers, never stacked unless asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class UpstreamSpec:
    """Shape of an upstream's hidden states."""

    name: str
    """Name on the command line."""
    dims: tuple[int, ...]
    """Width of each layer."""
    strides: tuple[int, ...]
    """Samples at 16 kHz per frame, for each layer."""

    @property
    def num_layers(self) -> int:
        """Number of hidden states: transformer layers plus one for the s3prl HuBERT family."""
        return len(self.dims)


class HiddenStates:
    """Hidden states of a batch: `states[l]` is layer l's [B, T, D_l], `lengths` [B] the valid frames.

    The tensors are kept as they come; s3prl's are [T, B, D] memory seen as [B, T, D], and no copy is
    made of them. Frames at and after an utterance's length are padding and carry no meaning.
    """

    def __init__(
        self, states: Sequence[Tensor], lengths: Tensor, layers: Sequence[int] | None = None
    ) -> None:
        """`layers` are the upstream's indices of the states where only some of its layers are here.

        Raises ValueError when layers disagree in batch or frames, or a length does not fit.
        """
        if not states:
            raise ValueError("hidden states: no layer was given")
        batch, frames = states[0].shape[:2]
        for layer, state in enumerate(states):
            if state.dim() != 3:
                raise ValueError(
                    f"hidden states: layer {layer} has shape {tuple(state.shape)}, expected [B, T, D]"
                )
            if state.shape[:2] != (batch, frames):
                raise ValueError(
                    f"hidden states: layer {layer} is [B, T] = {tuple(state.shape[:2])}, "
                    f"but layer 0 is {(batch, frames)}"
                )
        if lengths.shape != (batch,):
            raise ValueError(
                f"hidden states: lengths has shape {tuple(lengths.shape)}, not [{batch}]"
            )
        if batch and (int(lengths.max()) > frames or int(lengths.min()) < 0):
            raise ValueError(f"hidden states: a length is outside 0..{frames}: {lengths.tolist()}")
        self.states = list(states)
        self.lengths = lengths
        self.layers = tuple(layers) if layers is not None else tuple(range(len(states)))
        if len(self.layers) != len(self.states):
            raise ValueError(f"hidden states: {len(states)} states, but layers {self.layers}")

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
        return HiddenStates([self.states[place[i]] for i in layers], self.lengths, layers)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> HiddenStates:
        """On another device or in another float type; the same tensors where nothing changes."""
        states = [state.to(device=device, dtype=dtype) for state in self.states]
        return HiddenStates(states, self.lengths.to(device), self.layers)

    def valid(self) -> Tensor:
        """Mask of real frames, bool [B, T]."""
        frames = torch.arange(self.states[0].shape[1], device=self.lengths.device)
        return frames < self.lengths.unsqueeze(1)

    @staticmethod
    def pad(items: Sequence[Sequence[Tensor]], layers: Sequence[int] | None = None) -> HiddenStates:
        """Batch of utterances, each a list of tensors [T, D_l], padded at the end with zeros."""
        lengths = torch.tensor([item[0].shape[0] for item in items])
        states = [
            torch.nn.utils.rnn.pad_sequence([item[place] for item in items], batch_first=True)
            for place in range(len(items[0]))
        ]
        return HiddenStates(states, lengths, layers)
