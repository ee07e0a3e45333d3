"""Names of the upstreams that rewiring leaves behind, in s3prl's convention."""

from __future__ import annotations

from ssft_bench.tuned_upstream import tuned


@tuned(base="wav2vec2_large_ll60k")
def rewire_wav2vec2() -> None:
    """wav2vec 2.0 tuned by rewiring; without a checkpoint, the mini one."""


@tuned(base="hubert_base")
def rewire_hubert() -> None:
    """HuBERT tuned by rewiring (ours, not published); without a checkpoint, the mini one."""


@tuned(base="wav2vec2_large_ll60k", local=True)
def rewire_wav2vec2_local() -> None:
    """wav2vec 2.0 tuned by rewiring, from a checkpoint file."""


@tuned(base="hubert_base", local=True)
def rewire_hubert_local() -> None:
    """HuBERT tuned by rewiring, from a checkpoint file."""
