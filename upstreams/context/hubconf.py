"""Names of the context-aware upstreams in s3prl's convention."""

from __future__ import annotations

from typing import Any

from ssft_bench.upstreams.context.expert import UpstreamExpert
from ssft_bench.upstreams.context.options import lists_options


@lists_options
def context_hubert(base: str = "hubert_mini", **options: Any) -> UpstreamExpert:
    """HuBERT with a context module, for --protocol finetuned; re-implementation from the abstract."""
    return UpstreamExpert("context_hubert", base=base, **options)


@lists_options
def context_wav2vec2(base: str = "wav2vec2_mini", **options: Any) -> UpstreamExpert:
    """wav2vec 2.0 with a context module, for --protocol finetuned; re-implementation from the abstract."""
    return UpstreamExpert("context_wav2vec2", base=base, **options)
