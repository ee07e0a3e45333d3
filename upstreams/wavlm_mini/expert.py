"""s3prl expert of wavlm_mini."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ssft_bench.upstreams.pretraining.expert import SmallUpstream

WEIGHTS = Path(__file__).with_name("wavlm_mini.safetensors")


class UpstreamExpert(SmallUpstream):
    """Small WavLM model; the packaged weights unless `ckpt` names others."""

    def __init__(self, ckpt: str | Path | None = None, **kwargs: Any) -> None:
        """`random=True` gives random weights (`seed`); `hooks` as in s3prl."""
        super().__init__(ckpt or WEIGHTS, **kwargs)
