"""The auxiliary loss: a segment's context vector is to be like its neighbours'."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Distance = Literal["cosine", "l1", "l2"]
Missing = Literal["skip", "zeros"]


def distances(a: Tensor, b: Tensor, kind: Distance) -> Tensor:
    """Distance of each row of `a` [n, d] from that of `b`, fp32 [n].

    cosine: 1 - cosine, 0 to 2 (1 when a vector is zero); l1, l2: mean over the d numbers of the
    absolute and of the squared difference.
    """
    a, b = a.float(), b.float()
    if kind == "cosine":
        return 1 - (F.normalize(a, dim=-1) * F.normalize(b, dim=-1)).sum(-1)
    difference = a - b
    return (difference.abs() if kind == "l1" else difference.square()).mean(-1)


def neighbour_loss(
    own: Tensor,
    around: Sequence[Sequence[Tensor | None]],
    *,
    kind: Distance = "cosine",
    stop_grad: bool = True,
    missing: Missing = "skip",
) -> Tensor:
    """Mean over the segments with neighbours of the mean distance to those, scalar fp32.

    `own` [B, d] are the batch's context vectors; `around` has for each segment its neighbours' vectors
    [d], None where there is none. Segments without any count neither above nor below the line; a batch
    without any gives 0. `missing="zeros"` puts a zero vector in place of a missing one.
    """
    places: list[int] = []
    vectors: list[Tensor] = []
    for place, row in enumerate(around):
        present = [own.new_zeros(own.shape[1]) if v is None else v for v in row]
        if missing == "skip":
            present = [v for v in row if v is not None]
        places += [place] * len(present)
        vectors += present
    if not vectors:
        return torch.zeros((), device=own.device)
    others = torch.stack(vectors)
    if stop_grad:
        others = others.detach()
    index = torch.tensor(places, device=own.device)
    count = torch.bincount(index, minlength=len(own))
    each = distances(own[index], others, kind) / count[index]
    return each.sum() / (count > 0).sum()
