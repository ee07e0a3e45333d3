"""Losses stay in fp32 when the encoder runs in bf16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ssft_bench.tuning.learner import TuneLearner
from ssft_bench.upstreams.rewire.method import nt_xent
from tests.upstreams import test_laser, test_score, test_spin
from tests.upstreams.tiny import view_batch


def test_nt_xent_keeps_the_third_digit_of_a_cosine() -> None:
    rng = np.random.default_rng()
    close = torch.from_numpy(1 + 0.05 * rng.standard_normal((8, 32)).astype(np.float32))
    exact = nt_xent(close[:4].double(), close[4:].double(), 0.04)
    with torch.autocast("cpu", torch.bfloat16):
        got = nt_xent(close[:4], close[4:], 0.04)
        unit = torch.nn.functional.normalize(close, dim=-1)
        coarse = unit @ unit.T  # the control: what autocast would have done
    assert got.item() == pytest.approx(exact.item(), rel=1e-4)
    assert (coarse.float() - unit @ unit.T).abs().max() > 1e-4


@pytest.mark.parametrize("build", [test_score.build, test_laser.build, test_spin.build])
def test_the_heads_are_exact_under_autocast(tmp_path: Path, build: object) -> None:
    """With an encoder kept in fp32, autocast changes nothing of the loss."""
    learner: TuneLearner = build(tmp_path)[0]  # type: ignore[operator]
    learner.eval()
    batch = view_batch(2, np.random.default_rng(), equal=True)
    exact, _ = learner(batch, torch.Generator())
    forwards = [up for up in (learner.student, learner._teacher[0]) if up is not None]
    for upstream in forwards:
        upstream.forward = torch.autocast("cpu", enabled=False)(upstream.forward)
    with torch.autocast("cpu", torch.bfloat16):
        got, _ = learner(batch, torch.Generator())
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(exact.item(), rel=1e-5)
