"""Names of the upstreams that SCORE leaves behind, in s3prl's convention."""

from __future__ import annotations

from ssft_bench.tuned_upstream import tuned


@tuned(base="hubert_base")
def score_hubert() -> None:
    """HuBERT tuned by SCORE; without a checkpoint, the mini one."""


@tuned(base="wavlm_base")
def score_wavlm() -> None:
    """WavLM tuned by SCORE; without a checkpoint, the mini one."""


@tuned(base="hubert_base", local=True)
def score_hubert_local() -> None:
    """HuBERT tuned by SCORE, from a checkpoint file."""


@tuned(base="wavlm_base", local=True)
def score_wavlm_local() -> None:
    """WavLM tuned by SCORE, from a checkpoint file."""
