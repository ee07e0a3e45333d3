"""What can go wrong, and the exit code it ends in.

0 done, 1 check failed, 2 bad usage or configuration, 3 missing data or weights, 4 some cells failed.
"""

from __future__ import annotations


class BenchError(Exception):
    """An error a user can mend: one clear message, no traceback. Subclasses set the exit code."""

    exit_code = 1


class CheckFailed(BenchError):
    """A check that was asked for did not hold, or a training run diverged."""

    exit_code = 1


class UsageError(BenchError):
    """A wrong name, option, configuration or output folder."""

    exit_code = 2


class MissingError(BenchError):
    """A corpus, a recording or weights that are absent, or present but unusable."""

    exit_code = 3


class CellsFailed(BenchError):
    """Some cells of a sweep failed; the others are done."""

    exit_code = 4
