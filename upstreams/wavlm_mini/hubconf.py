"""Entry points of wavlm_mini in s3prl's convention: one function per name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ssft_bench.upstreams.wavlm_mini.expert import UpstreamExpert


def wavlm_mini_local(ckpt: str | Path, *args: Any, **kwargs: Any) -> UpstreamExpert:
    """The architecture and weights of a file written by `wavlm_mini/pretrain.py`."""
    kwargs.pop("refresh", None)
    return UpstreamExpert(ckpt, *args, **kwargs)


def wavlm_mini(*args: Any, **kwargs: Any) -> UpstreamExpert:
    """The packaged weights. `refresh` (s3prl: download again) means nothing here."""
    kwargs.pop("refresh", None)
    return UpstreamExpert(*args, **kwargs)


def wavlm_mini_random(*args: Any, **kwargs: Any) -> UpstreamExpert:
    """The same architecture with random weights of seed `seed`: the control."""
    kwargs.pop("refresh", None)
    return UpstreamExpert(*args, **{**kwargs, "random": True})
