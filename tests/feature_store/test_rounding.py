"""What keeping hidden states in bf16 does to scores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ssft_bench.results import ResultRecord
from ssft_bench.training import Outcome, load_parameters
from ssft_bench.trials import Trials
from tests.feature_store.conftest import Cells

pytestmark = pytest.mark.usefixtures("one_thread")


def _compare(plain: ResultRecord, rounded: ResultRecord) -> None:
    one, other = plain.primary(), rounded.primary()
    assert one is not None
    assert other is not None
    assert one.ci95 is not None
    print(
        f"{one.name}: float32 {one.value:.2f} [{one.ci95[0]:.2f}, {one.ci95[1]:.2f}], "
        f"bfloat16 {other.value:.2f}, difference {other.value - one.value:+.2f}"
    )
    assert one.ci95[0] <= other.value <= one.ci95[1]


def test_one_state_is_off_by_at_most_half_a_unit() -> None:
    """bf16 has 8 bits of precision: the relative error is at most 2 ** -9 (plus what fp32 has)."""
    x = torch.randn(100_000, generator=torch.Generator().manual_seed(torch.seed() % 2**40))
    error = ((x.bfloat16().float() - x) / x).abs().max()
    assert 2**-10 < float(error) <= 2**-8 / (1 + 2**-8)


def test_of_a_trained_toy_head(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same parameters score the same on rounded states.

    Trained anew on rounded states, so small a run ends elsewhere, and so it does with fp32 states that are
    off by a millionth: 60 utterances of tones are no measure of training. The slow test has one.
    """
    longer = ("train.steps=300", "train.eval_every=50", "data.max_utterances=null")
    spec = cells.spec("weighted_sum", "pr", *longer, seed=2)
    plain = cells.run(spec)
    primary = plain.primary()
    assert primary is not None
    assert primary.value < 40
    folder = cells.folders[id(plain)]

    def trained(self: Trials, trainer: object, better: str) -> Iterator[tuple[int, Any]]:
        load_parameters(self.learner, folder / "best.safetensors")
        best = plain.selection
        return Outcome(best["step"], best["value"])
        yield

    monkeypatch.setattr(Trials, "turns", trained)
    again = cells.run(spec)
    assert again.metrics == plain.metrics
    data = spec.data.model_copy(update={"states": "bfloat16"})
    _compare(plain, cells.run(spec.model_copy(update={"data": data})))


@pytest.mark.slow
def test_of_mini_pr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ssft_bench import runner
    from ssft_bench.cell import Machine
    from ssft_bench.feature_store import FeatureStore
    from ssft_bench.spec import resolve

    monkeypatch.setenv("SSFT_BENCH_CACHE", str(tmp_path / "cache"))
    records = []
    for states in ("float32", "bfloat16"):
        spec = resolve(
            upstream="hubert_mini", interface="weighted_sum", task="pr",
            sets=(f"data.states={states}",),
        )  # fmt: skip
        machine = Machine("cpu", store=FeatureStore(tmp_path / "store", 4.0))
        records.append(runner.run(spec, tmp_path / "runs", machine=machine).record)
    _compare(*records)
