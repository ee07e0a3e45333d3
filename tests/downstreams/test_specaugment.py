"""SpecAugment: ranges, counts, determinism, and the warp against s3prl's."""

from __future__ import annotations

import secrets
from itertools import groupby
from typing import Any

import pytest
import torch
from s3prl.downstream.specaug import MaskAlongAxis, TimeWarp

from ssft_bench.downstreams.asr.task import ASR, ASROptions
from ssft_bench.downstreams.specaugment import SpecAugment, draw_masks

SEEDS = [1, secrets.randbelow(2**31)]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def runs(mask: torch.Tensor) -> list[int]:
    """Lengths of the runs of True."""
    return [len(list(group)) for key, group in groupby(mask.tolist()) if key]


@pytest.mark.parametrize("seed", SEEDS)
def test_width_and_count_of_masks(seed: int) -> None:
    augment = SpecAugment(warp_window=0)
    frames = torch.tensor([400, 120, 60, 30])
    for draw in range(20):
        out = augment(torch.ones(4, 400, 256), frames, rng(seed + draw))
        for row, n in zip(out, frames.tolist(), strict=True):
            in_freq, in_time = (row[:n] == 0).all(0), (row[:n] == 0).all(1)
            if not in_time.all():
                assert len(runs(in_freq)) <= 4
                assert in_freq.sum() <= 4 * 49
            assert len(runs(in_time)) <= 2
            assert in_time.sum() <= 2 * 39


@pytest.mark.parametrize("seed", SEEDS)
def test_every_width_and_place_happens(seed: int) -> None:
    mask = draw_masks(torch.full((5000,), 20), 25, 1, 6, rng(seed))
    widths = mask.sum(1)
    assert sorted(set(widths.tolist())) == [0, 1, 2, 3, 4, 5]
    assert widths.float().mean().item() == pytest.approx(2.5, abs=0.15)
    assert mask[:, :19].any(0).all()
    assert not mask[:, 20:].any()


@pytest.mark.parametrize("seed", SEEDS)
def test_one_mask_covers_as_much_as_s3prls(seed: int) -> None:
    """Share of masked entries per dimension, over many draws of either."""
    torch.manual_seed(seed)
    theirs = MaskAlongAxis(mask_width_range=(0, 8), num_mask=1, dim="freq")
    covered = sum((theirs(torch.ones(1, 2, 30))[0][0, 0] == 0).float() for _ in range(3000)) / 3000
    ours = draw_masks(torch.full((3000,), 30), 30, 1, 8, rng(seed)).float().mean(0)
    torch.testing.assert_close(ours, covered, atol=0.04, rtol=0)


@pytest.mark.parametrize("seed", SEEDS)
def test_warp_equals_s3prls_for_the_same_draws(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[torch.Tensor] = []
    real = torch.randint

    def record(*args: Any, **kwargs: Any) -> torch.Tensor:
        drawn.append(real(*args, **kwargs))
        return drawn[-1]

    x, lengths = torch.randn(3, 40, 6, generator=rng(seed)), torch.tensor([40, 23, 10])
    x[1, 23:], x[2, 10:] = 0, 0
    warp = SpecAugment(freq_masks=0, time_masks=0)
    monkeypatch.setattr(torch, "randint", record)
    ours = warp(x, lengths, rng(seed))
    replay = [d for d in drawn if d.shape == (1,)]
    assert len(replay) == 4  # two draws for each utterance that is long enough
    # The second draw is one less than where the frame goes: sometimes it stays where it is.
    stays = int(replay[0]) == int(replay[1]) + 1
    monkeypatch.setattr(torch, "randint", lambda *args, **kwargs: replay.pop(0))
    theirs, _ = TimeWarp(window=5)(x.clone(), lengths)
    torch.testing.assert_close(ours, theirs)
    assert torch.equal(ours[2], x[2])
    assert stays == torch.equal(ours[0], x[0])


def test_deterministic_by_its_generator_alone() -> None:
    augment, x, lengths = SpecAugment(), torch.randn(2, 60, 80), torch.tensor([60, 44])
    torch.manual_seed(1)
    first = augment(x, lengths, rng(5))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert torch.equal(augment(x, lengths, rng(5)), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(augment(x, lengths, rng(6)), first)


def test_input_is_not_changed_and_gradients_flow() -> None:
    x, lengths = torch.randn(2, 60, 80), torch.tensor([60, 44])
    x[1, 44:] = 0
    copy = x.clone()
    out = SpecAugment()(x, lengths, rng())
    assert torch.equal(x, copy)
    assert out.data_ptr() != x.data_ptr()
    assert (out[1, 44:] == 0).all()
    x.requires_grad_()
    SpecAugment()(x, lengths, rng()).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_an_utterance_does_not_depend_on_its_neighbours_padding() -> None:
    x, lengths = torch.ones(2, 50, 8), torch.tensor([50, 30])
    short = SpecAugment(freq_width=2)(x, lengths, rng(3))
    padded = torch.cat([x, torch.zeros(2, 70, 8)], dim=1)
    long = SpecAugment(freq_width=2)(padded, lengths, rng(3))
    assert torch.equal(long[:, :50], short)


def test_tiny_inputs_pass() -> None:
    out = SpecAugment()(torch.ones(2, 3, 2), torch.tensor([3, 1]), rng())
    assert out.shape == (2, 3, 2)


def test_task_switches_it_off() -> None:
    x, lengths = torch.randn(1, 30, 8), torch.tensor([30])
    off = ASR(ASROptions(specaugment=None))
    assert torch.equal(off.augment(x, lengths, rng()), x)
    on = ASR(ASROptions(specaugment=SpecAugment(freq_width=4)))
    assert not torch.equal(on.augment(x, lengths, rng()), x)
