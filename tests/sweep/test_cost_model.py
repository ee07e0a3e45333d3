"""The cost model: by hand for one cell, and recovered from records that it made."""

from __future__ import annotations

import numpy as np
import pytest

from ssft_bench.results import ResultRecord
from ssft_bench.spec import resolve
from ssft_bench.sweep.cost_model import Rates, Workload, fitted


def test_seconds_by_hand() -> None:
    rates = Rates(upstream=10.0, top=5.0, update=0.5, utterance=0.1)
    work = Workload(
        upstream_macs=2.0, top_macs=1.0, hours=1.0, dev_hours=0.1, dev_utterances=20, updates=10,
        evaluations=3, update_seconds=4.0,
    )  # fmt: skip
    found = rates.seconds(work)
    dev = 360 * 1 / 5 + 20 * 0.1  # 74
    assert found["hidden_states"] == pytest.approx(3600 * 2 / 10)
    assert found["training"] == pytest.approx(10 * (0.5 + 3 * 4 / 5) + 3 * dev)
    assert found["scoring"] == pytest.approx(2 * dev)
    learning = rates.seconds(work.model_copy(update={"learns_all": True}))
    assert learning["hidden_states"] == 0
    assert learning["training"] == pytest.approx(10 * (0.5 + 3 * 4 * 0.4) + 3 * (360 * 0.4 + 2))


def record(rates: Rates, rng: np.random.Generator, noise: float) -> ResultRecord:
    """A finished run of random size on a machine with these rates."""
    steps, every = int(rng.integers(50, 2000)), int(rng.integers(20, 50))
    batch = int(rng.integers(2, 32))
    spec = resolve(
        upstream="fbank", interface="weighted_sum", task="pr",
        sets=[f"train.steps={steps}", f"train.eval_every={every}", f"data.batch_size={batch}"],
    )  # fmt: skip
    hours = {"train": float(rng.uniform(0.5, 2)), "dev": float(rng.uniform(0.05, 0.2)), "test": 0.1}
    counts = {"train": int(rng.integers(100, 900)), "dev": int(rng.integers(20, 200)), "test": 30}
    macs = {
        "upstream": float(rng.uniform(1e8, 1e9)),
        "interface_and_head": float(rng.uniform(1e6, 1e9)),
    }
    average = 3600 * hours["train"] / counts["train"]
    work = Workload(
        upstream_macs=macs["upstream"], top_macs=macs["interface_and_head"], hours=sum(hours.values()),
        dev_hours=hours["dev"], dev_utterances=counts["dev"], updates=steps,
        evaluations=-(-steps // every), update_seconds=batch * average,
    )  # fmt: skip
    seconds = {k: v * float(rng.normal(1, noise)) for k, v in rates.seconds(work).items()}
    return ResultRecord(
        status="done", signature="x", spec=spec, data={"hours": hours, "utterances": counts},
        cost={"seconds": seconds, "macs_per_second_of_audio": macs,
              "speech_hours_encoded": work.hours},
    )  # fmt: skip


def test_rates_are_recovered_from_runs_and_predict_another() -> None:
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    rng = np.random.default_rng(seed)
    rates = Rates(
        upstream=float(rng.uniform(1e9, 1e11)), top=float(rng.uniform(1e9, 1e11)),
        update=float(rng.uniform(0.005, 0.1)), utterance=float(rng.uniform(0.001, 0.01)),
    )  # fmt: skip
    exact = fitted([record(rates, rng, 0.0) for _ in range(8)])
    for name in ("upstream", "top", "update", "utterance"):
        assert getattr(exact, name) == pytest.approx(getattr(rates, name), rel=1e-3), (seed, name)
    noisy = fitted([record(rates, rng, 0.05) for _ in range(30)])
    held_back = record(rates, rng, 0.0)
    again = fitted([held_back], noisy)
    assert again.upstream == pytest.approx(rates.upstream, rel=1e-3), seed
    assert noisy.upstream == pytest.approx(rates.upstream, rel=0.1), seed


def test_too_few_runs_leave_what_they_cannot_tell() -> None:
    rng = np.random.default_rng(0)
    start = Rates(upstream=1.0, top=2.0, update=3.0, utterance=4.0)
    found = fitted([record(Rates(1e9, 1e9, 0.01, 0.01), rng, 0.0)], start)
    assert found.upstream == pytest.approx(1e9)
    assert (found.top, found.update, found.utterance) == (2.0, 3.0, 4.0)
    assert fitted([], start) == start
