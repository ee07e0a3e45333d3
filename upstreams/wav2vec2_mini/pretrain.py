"""Pretrain wav2vec2_mini: `python -m ssft_bench.upstreams.wav2vec2_mini.pretrain --data ROOT --out DIR`.

One stage: contrastive and diversity losses with a Gumbel quantiser. Killed runs continue from the last
checkpoint when called again with the same --out.
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import nn

from ssft_bench.upstreams.pretraining.recipe import Stage
from ssft_bench.upstreams.pretraining.run import main
from ssft_bench.upstreams.wav2vec2_mini.learner import Wav2Vec2Learner


def make_learner(model: nn.Module, stage: Stage) -> nn.Module:
    """wav2vec 2.0's objective around a model."""
    return Wav2Vec2Learner(model, stage)


if __name__ == "__main__":
    sys.exit(main(Path(__file__).with_name("recipe.yaml"), make_learner))
