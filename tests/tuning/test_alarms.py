"""Alarms ring on collapse, once, and not on health."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssft_bench.tuning.alarms import CollapseAlarm, perplexity, spread


def test_spread() -> None:
    rng = np.random.default_rng()
    v = rng.standard_normal((50, 6))
    unit = v / np.linalg.norm(v, axis=1, keepdims=True)
    assert spread(torch.from_numpy(v)).item() == pytest.approx(unit.var(0).sum(), rel=1e-5)
    assert spread(torch.ones(9, 3)).item() == pytest.approx(0, abs=1e-6)
    assert spread(torch.eye(1000)).item() == pytest.approx(0.999, abs=1e-3)


def test_perplexity() -> None:
    assert perplexity(torch.arange(8).repeat(3), 8).item() == pytest.approx(8)
    assert perplexity(torch.zeros(9, dtype=torch.long), 8).item() == pytest.approx(1)
    assert perplexity(torch.tensor([0, 0, 0, 1]), 2).item() == pytest.approx(
        np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25))
    )


def test_an_alarm_rings_once_and_survives_a_resume() -> None:
    alarm = CollapseAlarm()
    for _ in range(20):
        assert alarm.watch({"spread": 0.8, "loss": 3.0}) == []
    resumed = CollapseAlarm()
    resumed.load_state_dict(alarm.state_dict())
    events = [e for step in range(60) for e in resumed.watch({"spread": 0.01 * (step < 999)})]
    assert [e["number"] for e in events] == ["spread"]
    assert events[0]["start"] == pytest.approx(0.8)
    healthy = CollapseAlarm()
    assert not [e for v in (0.8, 0.5, 0.3, 0.6) * 20 for e in healthy.watch({"spread": v})]
