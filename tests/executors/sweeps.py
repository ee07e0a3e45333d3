"""A real sweep, driven by a process of its own, whose workers can be disturbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.executors.standin import wait_for
from tests.sweep.toy import table, write_grid

STEPS = 800
RECIPE = [f"train.steps={STEPS}", "train.eval_every=400", "train.save_every=10",
          "train.optimizer.lr=0.02", "data.batch_size=8"]  # fmt: skip


class Sweep:
    """`ssft-bench sweep` of four cells, one to a share."""

    def __init__(self, folder: Path, corpus: Path, plugins: Path, executor: str) -> None:
        folder.mkdir()
        grid = write_grid(folder / "grid.yaml", corpus, plugins, set=RECIPE)
        self.out, self.log = folder / "runs", folder / "sweep.log"
        environment = {
            **os.environ,
            "SSFT_BENCH_CACHE": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
        }
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ssft_bench", "sweep", str(grid), "--out", str(self.out),
                 "--executor", executor, "--per-share", "1", "--cache", str(folder / "cache")],
                stdout=log, stderr=log, env=environment,
            )  # fmt: skip

    def training(self, count: int) -> list[dict[str, Any]]:
        """Waits until so many workers are in the middle of training: `host`, `pid`, `share` of each."""
        wait_for(
            lambda: self.over or len(self._training()) >= count, 120, f"{count} cells training"
        )
        assert not self.over, self.log.read_text()
        return self._training()

    def _training(self) -> list[dict[str, Any]]:
        found = []
        for place in self.out.rglob("logs/*.json"):
            one = {**json.loads(place.read_text()), "share": int(place.name.partition(".")[0])}
            for began in self.out.rglob(f"begun/{one['share']}"):
                kept = list(self.out.rglob(f"{json.loads(began.read_text())}/last.pt"))
                if kept and Path(f"/proc/{one['pid']}").exists():
                    found.append(one)
        return found

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    def end(self, seconds: float) -> dict[str, Any]:
        """Exit code 0 is waited for; the table of what the sweep came to."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            self.process.wait(60)
            raise AssertionError(self.log.read_text()) from None
        assert code == 0, self.log.read_text()
        return table(self.out)

    def resumed(self) -> int:
        """How many cells went on from a checkpoint."""
        events = [json.loads(p.read_text())["events"] for p in self.out.rglob("result.json")]
        return sum(any(e["kind"] == "resumed" for e in own) for own in events)
