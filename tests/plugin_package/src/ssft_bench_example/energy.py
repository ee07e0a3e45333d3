"""An upstream that learns nothing."""

from __future__ import annotations

from typing import Any

import torch
from s3prl.upstream.interfaces import UpstreamBase
from torch import Tensor
from torch.nn.functional import avg_pool1d, pad

STRIDE = 320


class Energy(UpstreamBase):  # type: ignore[misc]
    """Log energy of the eight parts of a 20 ms frame, its change, and its average over five frames."""

    def __init__(self, floor: float = 1e-6, **kwargs: Any) -> None:
        """`floor` is added to the energy before the logarithm."""
        super().__init__(**kwargs)
        self.floor = floor

    def get_downsample_rates(self, key: str) -> int:
        """Samples per frame."""
        return STRIDE

    def forward(self, wavs: list[Tensor]) -> dict[str, list[Tensor]]:
        """Three hidden states [B, T, 8]; T is the longest waveform's frames, rounded up."""
        longest = -(-max(len(wav) for wav in wavs) // STRIDE) * STRIDE
        padded = torch.stack([pad(wav, (0, longest - len(wav))) for wav in wavs])
        parts = padded.unflatten(1, (-1, 8, STRIDE // 8))
        energy = (parts.square().mean(-1) + self.floor).log()
        change = torch.diff(energy, dim=1, prepend=energy[:, :1])
        average = avg_pool1d(energy.transpose(1, 2), 5, 1, 2).transpose(1, 2)
        return {"hidden_states": [energy, change, average]}
