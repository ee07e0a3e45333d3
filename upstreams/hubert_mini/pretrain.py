"""Pretrain hubert_mini: `python -m ssft_bench.upstreams.hubert_mini.pretrain --data ROOT --out DIR`.

Stage 1 predicts clusters of MFCCs; later stages predict clusters of a layer of the stage before.
Killed runs continue from the last checkpoint when called again with the same --out.
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import nn

from ssft_bench.upstreams.hubert_mini.learner import HubertLearner
from ssft_bench.upstreams.pretraining.recipe import Stage
from ssft_bench.upstreams.pretraining.run import main


def make_learner(model: nn.Module, stage: Stage) -> nn.Module:
    """HuBERT's objective around a model."""
    return HubertLearner(model, stage)


if __name__ == "__main__":
    sys.exit(main(Path(__file__).with_name("recipe.yaml"), make_learner))
