"""Layers of other frame rates and other numbers of layers, brought to one by linear interpolation."""

from __future__ import annotations

import torch
from torch import Tensor


def resample(state: Tensor, lengths: Tensor, ratio: float, wanted: Tensor, frames: int) -> Tensor:
    """`state` [B, T, D] with `lengths` [B] real frames, at another frame rate: [B, frames, D].

    `ratio` is the state's stride over the new one; an utterance gets `wanted` [B] real frames. A new
    frame lies between the centres of the two old ones around its own centre; beyond the first and
    the last real frame that frame is held, so padding never enters. The same tensor comes back where
    nothing changes.
    """
    same = lengths is wanted or torch.equal(lengths, wanted)
    if ratio == 1 and state.shape[1] == frames and same:
        return state
    if not state.shape[1]:
        return state.new_zeros(state.shape[0], frames, state.shape[2])
    last = (lengths.to(state.device) - 1).clamp_min(0).unsqueeze(1)
    centres = (torch.arange(frames, device=state.device, dtype=torch.float64) + 0.5) / ratio - 0.5
    place = torch.minimum(centres.clamp_min(0).unsqueeze(0), last.double())
    low = place.floor().long()
    high = torch.minimum(low + 1, last)
    share = (place - low).to(torch.promote_types(state.dtype, torch.float32)).unsqueeze(-1)
    rows = torch.arange(state.shape[0], device=state.device).unsqueeze(1)
    mixed = torch.lerp(state[rows, low].to(share.dtype), state[rows, high].to(share.dtype), share)
    silent = (lengths.to(state.device) == 0).view(-1, 1, 1)  # no real frame to hold
    return mixed.masked_fill(silent, 0.0).to(state.dtype)


def layer_positions(layers: int, count: int) -> list[list[tuple[int, float]]]:
    """Where `count` positions lie among `layers`: for each, (layer, share) of one or two neighbours.

    The first and last positions are the first and last layer, the others evenly between them.
    """
    places: list[list[tuple[int, float]]] = []
    for position in range(count):
        at = position * (layers - 1) / (count - 1) if count > 1 else float(layers - 1)
        low = min(int(at), layers - 1)
        share = at - low
        near = [(low, 1 - share), (low + 1, share)]
        places.append([(layer, part) for layer, part in near if part > 1e-12])
    return places
