"""Opening pickled checkpoints without running what is in them."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

import torch

from ssft_bench.errors import MissingError


def open_pickle(path: Path, trust: bool = False) -> Any:
    """What torch.save wrote, tensors on the CPU.

    Only tensors, plain containers and argparse.Namespace are allowed (`weights_only=True`); with `trust`
    everything is, which runs code of whoever made the file. Raises MissingError when the file is
    absent, damaged or refused.
    """
    if not path.is_file():
        raise MissingError(f"there is no checkpoint {path}")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        if trust:
            raise MissingError(f"{path} cannot be read: damaged ({_first_line(error)})") from error
        raise MissingError(
            f"{path} holds more than tensors and plain values ({_culprit(error)}), which could run code. "
            "If you trust whoever made it: --trust-checkpoint"
        ) from error
    except (ImportError, AttributeError) as error:
        raise MissingError(
            f"{path} needs a package that is not here ({_first_line(error)}); install it, or convert the "
            "file where it was made"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as error:
        raise MissingError(
            f"{path} cannot be read: damaged, or not made by torch.save ({_first_line(error)})"
        ) from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]


def _culprit(error: Exception) -> str:
    """The line of torch's long message that names what it met."""
    for line in str(error).splitlines():
        if "GLOBAL" in line or "nsupported operand" in line:
            return line.strip().rstrip(".")
    return type(error).__name__
