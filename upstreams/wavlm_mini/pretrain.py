"""Pretrain wavlm_mini from the packaged weights of hubert_mini, in one stage.

`python -m ssft_bench.upstreams.wavlm_mini.pretrain --data ROOT --out DIR`; a killed run
continues from its last checkpoint when called again with the same --out.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ssft_bench.upstreams.pretraining.run import main
from ssft_bench.upstreams.wavlm_mini.learner import WavLMLearner

if __name__ == "__main__":
    sys.exit(main(Path(__file__).with_name("recipe.yaml"), WavLMLearner))
