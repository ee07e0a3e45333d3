"""Seeds made of a run's seed and of what they are for, the same on every machine."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def seed_for(seed: int, *parts: int | str) -> int:
    """A 63-bit seed that depends on every part; the same on every machine."""
    text = ":".join(map(str, (seed, *parts))).encode()
    return (zlib.crc32(text) << 31 | zlib.crc32(text[::-1]) >> 1) & (2**63 - 1)


def seed_everything_for(seed: int, *parts: int | str) -> torch.Generator:
    """Seed torch's global generators (dropout draws from them) and return an explicit CPU generator.

    numpy's global generator is seeded too: fairseq's mask sampler inside s3prl draws from it.
    """
    value = seed_for(seed, *parts)
    torch.manual_seed(value)
    np.random.seed(value % 2**32)
    return torch.Generator().manual_seed(value)
