"""The one name of ContentVec that s3prl lacks, in its convention."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def contentvec_local(ckpt: str | Path, *args: Any, **kwargs: Any) -> Any:
    """ContentVec (Qian et al., ICML 2022) from a converted s3prl .pt: a HuBERT."""
    from s3prl.upstream.hubert.hubconf import hubert_local

    return hubert_local(str(ckpt), *args, **kwargs)
