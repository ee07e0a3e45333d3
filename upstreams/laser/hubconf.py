"""Names of the upstreams that LASER leaves behind, in s3prl's convention."""

from __future__ import annotations

from ssft_bench.tuned_upstream import tuned


@tuned(base="hubert_base")
def laser_hubert() -> None:
    """HuBERT tuned by LASER; without a checkpoint, the mini one."""


@tuned(base="wavlm_base")
def laser_wavlm() -> None:
    """WavLM tuned by LASER; without a checkpoint, the mini one."""


@tuned(base="hubert_base", local=True)
def laser_hubert_local() -> None:
    """HuBERT tuned by LASER, from a checkpoint file."""


@tuned(base="wavlm_base", local=True)
def laser_wavlm_local() -> None:
    """WavLM tuned by LASER, from a checkpoint file."""
