"""A SUPERB-style benchmark for self-supervised fine-tuning of speech models and their interfaces.

Importing it makes its upstreams known to `s3prl.hub`.
"""

from ssft_bench.s3prl_hub import install as _install

__version__ = "0.1.0"

_install()
