"""Progress of long work: a bar with an estimate on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

from ssft_bench.ranks import rank


class Progress:
    """Counts `total` units of work on standard error; prints a line every 15 s when there is no terminal."""

    every = 15.0

    def __init__(self, label: str, total: int, *, done: int = 0, unit: str = "step") -> None:
        self.label, self.total, self.count, self.first, self.unit = label, total, done, done, unit
        self.began = self.last = time.monotonic()
        self.extra: dict[str, float] = {}
        self.bar: tqdm[Any] | None = None
        self.silent = rank() > 0  # rank 0 tells for all
        if sys.stderr.isatty() and not self.silent:
            self.bar = tqdm(total=total, initial=done, desc=label, unit=unit, dynamic_ncols=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.close()

    def advance(self, amount: int = 1, **numbers: float) -> None:
        """Some units more are done; `numbers` are shown beside the bar."""
        self.count += amount
        self.extra = numbers
        if self.bar is not None:
            self.bar.update(amount)
            if numbers:
                self.bar.set_postfix({k: f"{v:.3g}" for k, v in numbers.items()}, refresh=False)
        elif not self.silent and time.monotonic() - self.last > self.every:
            self.last = time.monotonic()
            self._line()

    def note(self, text: str) -> None:
        """A remark that stays on the screen."""
        if self.silent:
            return
        line = f"{self.label}: {self.unit} {self.count}/{self.total} {text}"
        if self.bar is not None:
            self.bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    def _line(self) -> None:
        rate = (self.count - self.first) / max(1e-9, time.monotonic() - self.began)
        left = (self.total - self.count) / max(rate, 1e-9)
        self.note(
            " ".join(f"{k} {v:.3g}" for k, v in self.extra.items())
            + f" ({rate:.2f} {self.unit}/s, {left / 60:.1f} min left)"
        )
