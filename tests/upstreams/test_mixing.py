"""Utterance mixing adds what it says, where it says, as loud as it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ssft_bench.upstreams.pretraining.recipe import Mixing
from ssft_bench.upstreams.wavlm_mini.mixing import coloured_noise, mixed, scale


def fresh() -> tuple[int, torch.Generator]:
    seed = int(np.random.default_rng().integers(2**31))
    return seed, torch.Generator().manual_seed(seed)


def added(before: Tensor, after: Tensor) -> tuple[int, int]:
    """First and last changed sample; everything in between has changed too."""
    changed = (after != before).nonzero().flatten()
    assert len(changed), "nothing was added"
    first, last = int(changed[0]), int(changed[-1])
    assert len(changed) == last - first + 1
    return first, last


def decibels(waves: Tensor, row: int, part: Tensor) -> float | None:
    """Energy of the row over that of the scaled row that `part` was cut from; None when there is none."""
    for other in range(len(waves)):
        for start in range(waves.shape[1] - len(part) + 1):
            source = waves[other, start : start + len(part)]
            factor = float(part @ source) / float(source @ source)
            if other != row and torch.allclose(part, factor * source, rtol=0, atol=1e-10):
                assert factor > 0
                energy = float((factor * waves[other]).pow(2).mean())
                return 10 * math.log10(float(waves[row].pow(2).mean()) / energy)
    return None


def test_added_speech_is_a_part_of_another_row() -> None:
    seed, generator = fresh()
    waves = torch.randn(12, 160, generator=generator, dtype=torch.float64)
    waves *= torch.logspace(-1, 1, 12, dtype=torch.float64)[:, None]
    before = waves.clone()
    out = mixed(waves, Mixing(probability=1, noise=0, longest=0.5), generator)
    assert out.shape == waves.shape
    assert torch.equal(waves, before), "the batch itself must stay"
    for row in range(12):
        first, last = added(waves[row], out[row])
        assert last - first + 1 <= 80, seed
        if last - first < 4:  # too short a part to recognise
            continue
        found = decibels(waves, row, (out - waves)[row, first : last + 1])
        assert found is not None, (seed, row)
        assert -5 <= found <= 5, (seed, row)
    # Negative control: the search does not find what was never there.
    assert decibels(waves, 0, torch.randn(8, dtype=torch.float64)) is None


def test_no_mixing_changes_nothing() -> None:
    _, generator = fresh()
    waves = torch.randn(6, 400)
    assert torch.equal(mixed(waves, Mixing(probability=0), generator), waves)


def test_how_often() -> None:
    seed, generator = fresh()
    waves = torch.randn(2000, 60)
    out = mixed(waves, Mixing(probability=0.3), generator)
    share = float((out != waves).any(1).float().mean())
    assert abs(share - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 2000), seed
    # Rows above zero: what is added of them is above zero, too, and noise has both signs.
    above = 1 + 0.1 * torch.rand(2000, 60)
    part = mixed(above, Mixing(probability=1, noise=0.4, longest=1.0), generator) - above
    noisy = float((part < -1e-3).any(1).float().mean())
    assert 0.3 < noisy < 0.4 + 5 * math.sqrt(0.4 * 0.6 / 2000), seed  # short noise may miss a sign


def test_silence() -> None:
    _, generator = fresh()
    waves = torch.zeros(200, 60)
    waves[::2] = torch.randn(100, 60)
    out = mixed(waves, Mixing(probability=1, noise=0.5), generator)
    assert out.isfinite().all()
    assert not out[1::2].any()  # no energy, nothing to set another against


def test_a_batch_of_one_gets_noise_only() -> None:
    _, generator = fresh()
    waves = torch.randn(1, 300, dtype=torch.float64)
    out = mixed(waves, Mixing(probability=1, noise=0), generator)
    first, last = added(waves[0], out[0])
    part = (out - waves)[0, first : last + 1]
    sources = [waves[0, s : s + len(part)] for s in range(300 - len(part) + 1)]
    if len(part) > 4:
        alike = [float(torch.corrcoef(torch.stack([part, s]))[0, 1]) for s in sources]
        assert max(alike) < 0.9999


@pytest.mark.parametrize("ratio", [-5.0, 0.0, 13.0])
def test_energy_ratio(ratio: float) -> None:
    primary, secondary = 3 * torch.randn(500), 0.2 * torch.randn(500)
    factor = scale(primary, secondary, ratio)
    energies = [sum(float(x) ** 2 for x in w) for w in (primary, factor * secondary)]
    assert 10 * math.log10(energies[0] / energies[1]) == pytest.approx(ratio, abs=1e-3)
    assert scale(primary, torch.zeros(500), ratio) == 0


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_the_colour_of_noise(exponent: float) -> None:
    seed, generator = fresh()
    power = np.zeros(512)
    for _ in range(60):
        noise = coloured_noise(1024, exponent, generator).double().numpy()
        assert noise.shape == (1024,)
        assert abs(noise.mean()) < 1e-5
        power += np.abs(np.fft.fft(noise)[1:513]) ** 2
    slope = np.polyfit(np.log(np.arange(1, 500)), np.log(power[:499]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.1), seed
