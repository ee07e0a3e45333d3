"""SpecAugment on upstream features: time warping, frequency masks, time masks.

Park et al., "SpecAugment" (Interspeech 2019), with the ranges of SUPERB's ASR (s3prl
`downstream/asr/config.yaml` and `downstream/specaug.py`).
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional


class SpecAugment(BaseModel):
    """What is drawn per utterance, and the drawing; the defaults are SUPERB's.

    Ranges are s3prl's: a mask's width comes from [0, width), the upper bound excluded.
    One difference: s3prl places time masks anywhere in the padded batch; here they lie within the
    utterance's own frames, so what an utterance gets does not depend on its neighbours.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    warp_window: int = Field(default=5, ge=0)
    """Largest shift of the warped point, frames; 0 switches warping off."""
    freq_masks: int = Field(default=4, ge=0)
    """Masks over feature dimensions."""
    freq_width: int = Field(default=50, ge=1)
    """Their width stays below this many dimensions."""
    time_masks: int = Field(default=2, ge=0)
    """Masks over frames."""
    time_width: int = Field(default=40, ge=1)
    """Their width stays below this many frames."""

    def __call__(self, features: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
        """Augmented copy of `features` [B,T,D], masked with 0; zeros past `lengths` [B] stay.

        Gradients flow to `features`. Every draw comes from `generator`, a CPU generator.
        """
        frames = lengths.cpu()
        if self.warp_window:
            ends = frames.tolist()
            warped = [self._warp(x, n, generator) for x, n in zip(features, ends, strict=True)]
            features = torch.stack(warped)
        _, longest, dims = features.shape
        sizes = torch.full_like(frames, dims)
        in_freq = draw_masks(sizes, dims, self.freq_masks, self.freq_width, generator)
        in_time = draw_masks(frames, longest, self.time_masks, self.time_width, generator)
        mask = in_freq[:, None, :] | in_time[:, :, None]
        return features.masked_fill(mask.to(features.device), 0.0)

    def _warp(self, x: Tensor, frames: int, generator: torch.Generator) -> Tensor:
        """Move one frame of `x` [T,D] by up to the window, stretching what lies on both sides."""
        window = self.warp_window
        if frames <= 2 * window:
            return x
        center = _draw(window, frames - window, generator)
        target = _draw(center - window, center + window, generator) + 1
        left = _stretch(x[:center], target)
        right = _stretch(x[center:frames], frames - target)
        return torch.cat([left, right, x[frames:]])


def draw_masks(
    sizes: Tensor, longest: int, count: int, width: int, generator: torch.Generator
) -> Tensor:
    """Union of `count` random spans per row, bool [B,longest]; each lies within `sizes` [B]."""
    shape = (len(sizes), count)
    widths = torch.randint(0, width, shape, generator=generator)
    widths = torch.minimum(widths, sizes[:, None])
    room = (sizes[:, None] - widths).clamp(min=1)
    starts = (torch.rand(shape, generator=generator) * room).long()
    at = torch.arange(longest)
    inside = (at >= starts[..., None]) & (at < (starts + widths)[..., None])
    return inside.any(dim=1)


def _draw(low: int, high: int, generator: torch.Generator) -> int:
    """Uniform integer in [low, high)."""
    return int(torch.randint(low, high, (1,), generator=generator))


def _stretch(x: Tensor, frames: int) -> Tensor:
    """`x` [T,D] resampled to [frames,D], bicubic along time as in s3prl."""
    size = (frames, x.shape[1])
    return functional.interpolate(x[None, None], size, mode="bicubic", align_corners=False)[0, 0]
