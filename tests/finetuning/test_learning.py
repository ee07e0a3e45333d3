"""Does it learn: the upstream with the head against the head alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ssft_bench.downstreams.asr.task import ASR, ASROptions
from ssft_bench.finetuning.learner import FineTunedDownstream
from ssft_bench.finetuning.spec import FineTuneSpec
from ssft_bench.interfaces.last import Last
from tests.finetuning.models import build, fresh
from tests.finetuning.test_learner import STILL, batch, loss_of

pytestmark = pytest.mark.usefixtures("one_thread")


class Pooled(nn.Module):
    """A linear layer on the mean over time."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 4)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.linear(features.mean(1, keepdim=True)), torch.ones_like(lengths)


class WhichOfFour(ASR):
    """Tells which of four groups a recording was put into; noise has no other difference."""

    def loss(self, logits: Tensor, lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:
        return nn.functional.cross_entropy(logits[:, 0], torch.cat(list(targets)))

    def augment(self, features: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
        return features


@pytest.mark.parametrize("trainable", ["all", "top:1", "lora:r=4", "adapter:8"])
def test_it_learns_more_than_a_head(trainable: str, tmp_path: Path) -> None:
    """In the same few updates, from the same start, the loss falls lower when the upstream learns too."""
    seed = fresh()
    given = batch(seed, (3200,) * 16)
    given.targets = [torch.tensor([i % 4]) for i in range(16)]
    found: dict[bool, list[float]] = {}
    for frozen in (True, False):
        upstream = build("hubert-base", tmp_path, seed)
        torch.manual_seed(seed)
        spec = FineTuneSpec.model_validate(
            {**STILL, "trainable": trainable, "frozen_steps": 1000 * frozen}
        )
        last = Last(upstream.spec)
        made = FineTunedDownstream(
            upstream, last, Pooled(32), WhichOfFour(ASROptions()), spec, seed=1
        )
        optimizer = torch.optim.Adam(made.parameter_groups(), lr=1e-2)
        found[frozen] = []
        for step in range(30):
            made.begin_update(step)
            found[frozen].append(float(loss_of(made, given, step)))
            optimizer.step()
    assert found[True][0] == pytest.approx(found[False][0], rel=1e-5), seed
    assert found[True][-1] < found[True][0], seed
    assert found[False][-1] < 0.3 * found[True][-1], (seed, found)
