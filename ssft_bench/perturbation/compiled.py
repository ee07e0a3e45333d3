"""Loops compiled by numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """`function` as one-threaded machine code without the interpreter's lock.

    Compiled at the first call and kept on disk, so that data workers do not each compile it.
    """
    try:
        return cast(Function, numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # numba found no folder: package and home are read-only
        return cast(Function, numba.njit(nogil=True)(function))
