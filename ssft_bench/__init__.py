"""A SUPERB-style benchmark for self-supervised fine-tuning of speech models and their interfaces.

Importing it makes its upstreams known to `s3prl.hub`.
"""

from typing import Any

from ssft_bench.s3prl_hub import install as _install

__version__ = "0.1.0"

_install()


def __getattr__(name: str) -> Any:
    """`InterfaceFeaturizer` and `use_in_s3prl`, imported (with torch) when first asked for."""
    if name == "InterfaceFeaturizer":
        from ssft_bench.featurizer import InterfaceFeaturizer

        return InterfaceFeaturizer
    if name == "use_in_s3prl":
        from ssft_bench.s3prl_runner import use_in_s3prl

        return use_in_s3prl
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
