"""Names of the upstreams that SPIN leaves behind, in s3prl's convention."""

from __future__ import annotations

from ssft_bench.tuned_upstream import tuned

RELEASED = "https://huggingface.co/datasets/vectominist/spin_ckpt"


@tuned(base="hubert_base", released=RELEASED)
def spin_hubert() -> None:
    """HuBERT tuned by SPIN; without a checkpoint, the mini one."""


@tuned(base="wavlm_base", released=RELEASED)
def spin_wavlm() -> None:
    """WavLM tuned by SPIN; without a checkpoint, the mini one."""


@tuned(base="hubert_base", local=True)
def spin_hubert_local() -> None:
    """HuBERT tuned by SPIN, from a checkpoint file."""


@tuned(base="wavlm_base", local=True)
def spin_wavlm_local() -> None:
    """WavLM tuned by SPIN, from a checkpoint file."""
