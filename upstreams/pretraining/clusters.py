"""Discrete targets of HuBERT: MFCCs or hidden states, and k-means over them.

Hsu et al. 2021, "HuBERT", section IV.B: 39-dimensional MFCCs (13 coefficients with first and second
differences) in the first iteration, a middle layer of the previous model in the next ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor

from ssft_bench.upstreams.pretraining.audio import SAMPLE_RATE, normalised
from ssft_bench.upstreams.pretraining.batches import frame_count


def mfcc39(samples: NDArray[np.int16]) -> Tensor:
    """MFCCs of the normalised wave with differences, at the upstream's frames: (frames, 39).

    Windows of 25 ms every 10 ms, every other one kept: window 2t + 1 lies in the middle of the 40 ms that
    frame t of the convolutional stack sees.
    """
    wave = torch.from_numpy(normalised(samples))[None] * 32768
    base = torchaudio.compliance.kaldi.mfcc(
        wave,
        sample_frequency=SAMPLE_RATE,
        num_ceps=13,
        num_mel_bins=23,
        use_energy=False,
        dither=0.0,
    )
    first = torchaudio.functional.compute_deltas(base.T)
    second = torchaudio.functional.compute_deltas(first)
    return torch.cat([base.T, first, second]).T[1::2][: frame_count(len(samples))]


def standardised(features: Sequence[Tensor]) -> list[Tensor]:
    """Every dimension to mean 0 and deviation 1 over all utterances together."""
    everything = torch.cat([f.float() for f in features])
    mean, deviation = everything.mean(0), everything.std(0).clamp(min=1e-4)
    return [(f.float() - mean) / deviation for f in features]


def smoothed_mfcc(
    features: Sequence[Tensor], kernel: Sequence[float], acceleration: float
) -> list[Tensor]:
    """Standardised MFCCs, second differences times `acceleration`, averaged over time by `kernel`.

    Single frames give clusters that flicker from frame to frame; averaged over 5 frames they change half
    as often and tell more about phones, which a model learns from in fewer updates.
    """
    weights = torch.tensor(kernel) / sum(kernel)
    out = []
    for feature in standardised(features):
        scaled = feature * torch.tensor([1.0] * 26 + [acceleration] * 13)
        side = len(kernel) // 2
        padded = torch.nn.functional.pad(scaled.T[None], (side, side), mode="replicate")[0]
        windows = padded.unfold(1, len(kernel), 1)
        out.append((windows * weights).sum(-1).T)
    return out


def assign(features: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest centre of each row of (rows, dim), and the squared distance to it."""
    labels, distances = [], []
    for part in torch.split(features, 65536):
        scores = torch.addmm(centres.pow(2).sum(1), part, centres.T, alpha=-2)
        best = scores.min(1)
        labels.append(best.indices)
        distances.append(best.values + part.pow(2).sum(1))
    return torch.cat(labels), torch.cat(distances)


def kmeans(features: Tensor, clusters: int, iterations: int, generator: torch.Generator) -> Tensor:
    """Lloyd's algorithm from rows drawn at random: centres, (clusters, dim).

    A centre that loses all its rows moves to a row drawn at random.
    """
    rows = torch.randperm(len(features), generator=generator)[:clusters]
    centres = features[rows].clone()
    for _ in range(iterations):
        labels, _ = assign(features, centres)
        sums = torch.zeros_like(centres).index_add_(0, labels, features)
        counts = torch.bincount(labels, minlength=clusters)
        centres = sums / counts.clamp(min=1)[:, None]
        empty = (counts == 0).nonzero().flatten()
        if len(empty):
            fresh = torch.randint(len(features), (len(empty),), generator=generator)
            centres[empty] = features[fresh]
    return centres


def cluster_targets(
    features: Sequence[Tensor], clusters: int, *, iterations: int, rows: int, seed: int
) -> tuple[list[NDArray[np.int16]], float]:
    """k-means numbers of every frame of every utterance, and the share of variance explained.

    Centres are fitted on at most `rows` frames.
    """
    generator = torch.Generator().manual_seed(seed)
    everything = torch.cat(list(features))
    chosen = torch.randperm(len(everything), generator=generator)[:rows]
    centres = kmeans(everything[chosen], clusters, iterations, generator)
    labels, distances = assign(everything, centres)
    spread = float((everything - everything.mean(0)).pow(2).sum(1).mean())
    parts = torch.split(labels.to(torch.int16), [len(f) for f in features])
    return [p.numpy() for p in parts], 1 - float(distances.mean()) / spread
