"""Shares whose work is small and tells all about itself, and a driver as simple as can be."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ssft_bench.executors.base import LOST, Executor, Job, Share

STEPS = 40
WORK = f"""
import os, sys, time
from pathlib import Path
plan, index = Path(sys.argv[1]), sys.argv[2]
kept, trace = plan / f"{{index}}.kept", plan / f"{{index}}.trace"
step, total = map(int, kept.read_text().split()) if kept.exists() else (0, 0)
with trace.open("a") as file:
    file.write(f"start {{os.getpid()}} {{step}} {{os.environ['OMP_NUM_THREADS']}} {{os.getcwd()}}\\n")
while step < {STEPS}:
    time.sleep(float(os.environ.get("STANDIN_SECONDS", "0.1")))
    total += int(index) + step
    step += 1
    new = plan / f"{{index}}.{{os.getpid()}}.new"
    new.write_text(f"{{step}} {{total}}")
    os.replace(new, kept)
    with trace.open("a") as file:
        file.write(f"step {{step}}\\n")
(plan / f"{{index}}.result").write_text(str(total))
print("done", index, flush=True)
sys.exit(int((plan / f"{{index}}.exit").read_text()) if (plan / f"{{index}}.exit").exists() else 0)
"""


@dataclass(frozen=True)
class StandIn(Share):
    """Adds index + step over 40 steps, kept after each one: a killed one goes on where it was."""

    def command(self, python: str | None = None) -> list[str]:
        return [python or sys.executable, "-c", WORK, str(self.plan), str(self.index)]


def expected(index: int) -> int:
    """What `index`'s work must come to, in closed form."""
    return STEPS * index + STEPS * (STEPS - 1) // 2


def result(plan: Path, index: int) -> int | None:
    """What it came to; None while it is not done."""
    path = plan / f"{index}.result"
    return int(path.read_text()) if path.exists() else None


def trace(plan: Path, index: int, word: str) -> list[list[str]]:
    """Lines that a work has left about itself: `start PID STEP THREADS FOLDER` or `step N`."""
    path = plan / f"{index}.trace"
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if line[0] == word]


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait, or fail by name."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.1)


def drive(
    executor: Executor,
    shares: Sequence[Share],
    jobs: Sequence[Job],
    seconds: float,
    budget: int = 3,
) -> dict[int, list[int]]:
    """Poll the jobs to their end and submit again what was lost; all exit codes by share."""
    running = dict(zip([s.index for s in shares], jobs, strict=True))
    codes: dict[int, list[int]] = {index: [] for index in running}
    by_index = {s.index: s for s in shares}
    end = time.monotonic() + seconds
    while running:
        assert time.monotonic() < end, (
            f"after {seconds} s: {codes}, {[j.label for j in running.values()]}"
        )
        for index, job in list(running.items()):
            code = job.poll()
            if code is None:
                continue
            codes[index].append(code)
            del running[index]
            if code == LOST and codes[index].count(LOST) <= budget:
                running[index] = executor.submit([by_index[index]])[0]
        time.sleep(0.2)
    return codes
