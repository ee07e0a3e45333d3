"""The global random generators, taken and put back, so that runs can take turns in one process."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class RandomState:
    """State of the global generators of Python, numpy and torch (CPU and all GPUs)."""

    python: tuple[Any, ...]
    numpy: dict[str, Any]
    torch: Tensor
    cuda: list[Tensor]

    @staticmethod
    def now() -> RandomState:
        """As they are."""
        gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return RandomState(
            random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state(), gpus
        )

    def restore(self) -> None:
        """Put them back."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
