"""Query-by-example matching beside s3prl's own, from the same features to the same file of answers.

    pip install dtw-python lxml          # what s3prl's procedure needs
    python benchmarks/qbe.py             # about 5 minutes on two cores

Rival: `DownstreamExpert.log_records` of s3prl's `quesst14_dtw` as it is installed, with all its worker
processes (one per core): features standardised, then for every pair both matrices pickled to a worker,
cosine distances by scipy, DTW by dtw-python with its path traced back, scores normalised, the XML written.
Ours: `QbE.search`, the same from standardising to the XML. Both get the same random features of
speech-like lengths, at the size of a Base model, in the same process.

Turns are interleaved: one run of each, then again. A ratio is the rival's time over ours in the same turn;
median, smallest and largest are printed, for the time on the clock and for that of all processors, which
other work on the machine moves less. Memory (Linux only) is what the process grew by at its peak, and for
the rival what its workers have for themselves (private pages) beside, added up at their peak.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import importlib
import io
import platform
import resource
import statistics
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numba
import numpy as np
import torch

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.corpora.search import Search
from ssft_bench.downstreams.qbe.task import QbE, QbEOptions

DTW = {
    "dist_method": "cosine_exp", "minmax_norm": True, "step_pattern": "asymmetric", "subsequence": True,
}  # fmt: skip


@dataclass
class Rival:
    """One line of the table."""

    name: str
    run: Callable[[Path], Any]
    times: list[float] = field(default_factory=list)
    """Seconds on the clock, by turn."""
    busy: list[float] = field(default_factory=list)
    """Seconds of all processors, those of worker processes among them."""
    grown: float = 0.0
    """Bytes of this process at its peak, over what it had before; the largest of all turns."""
    workers: float = 0.0
    """Bytes that its worker processes had for themselves at their peak."""


def features(args: argparse.Namespace) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Queries and documents, [T, D] float32: smooth random frames."""
    rng = np.random.default_rng(args.seed)

    def some(count: int, bounds: Sequence[int]) -> list[np.ndarray]:
        found = []
        for frames in rng.integers(bounds[0], bounds[1] + 1, count):
            walk = rng.standard_normal((frames, args.dim), np.float32)
            walk[1:] += 0.8 * walk[:-1]
            found.append(walk)
        return found

    return some(args.queries, args.query_frames), some(args.documents, args.document_frames)


def ours(queries: list[np.ndarray], documents: list[np.ndarray]) -> Callable[[Path], Any]:
    """`QbE.search`."""
    rows = [
        [Utterance(f"{kind}{i:05d}", Path(), "dev") for i in range(len(own))]
        for kind, own in (("q", queries), ("d", documents))
    ]
    frames = {
        r.id: f
        for own, found in zip(rows, (queries, documents), strict=True)
        for r, f in zip(own, found, strict=True)
    }
    search = Search(rows[0], rows[1], {query.id: frozenset() for query in rows[0]})
    task = QbE(QbEOptions())
    return lambda folder: task.search(search, lambda row: frames[row.id], folder)


def s3prls(queries: list[np.ndarray], documents: list[np.ndarray]) -> Callable[[Path], Any]:
    """s3prl's expert, given its features as its own `forward` leaves them."""
    try:
        importlib.import_module("torchaudio.sox_effects")
    except ImportError:  # gone in torchaudio 2.9; only the expert's reader of recordings calls it
        gone = ModuleType("torchaudio.sox_effects")
        gone.apply_effects_file = None  # type: ignore[attr-defined]
        sys.modules["torchaudio.sox_effects"] = gone
    try:
        module = importlib.import_module("s3prl.downstream.quesst14_dtw.expert")
    except ImportError as error:
        raise SystemExit(f"{error}; pip install dtw-python lxml") from error
    settings = {
        "max_workers": None, "feature_normalization": True, "silence_frame": None, "datarc": {},
        "dtwrc": DTW,
    }  # fmt: skip
    names = [f"q{i:05d}" for i in range(len(queries))] + [
        f"d{i:05d}" for i in range(len(documents))
    ]
    tensors = [torch.from_numpy(f) for f in (*queries, *documents)]

    def run(folder: Path) -> None:
        expert = module.DownstreamExpert(len(queries[0][0]), settings, str(folder))
        expert.test_dataset = SimpleNamespace(n_queries=len(queries))
        expert.log_records("dev", {"features": list(tensors), "audio_names": list(names)})

    return run


class Workers(threading.Thread):
    """Watches the private pages of this process' children until it is told to stop."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self._over = 0.0, threading.Event()

    def run(self) -> None:
        own = Path("/proc/self/task")
        while not self._over.wait(0.1):
            total = 0.0
            with contextlib.suppress(OSError):
                for children in own.glob("*/children"):
                    for pid in children.read_text().split():
                        total += private(pid)
            self.peak = max(self.peak, total)

    def stop(self) -> float:
        self._over.set()
        self.join()
        return self.peak


def private(pid: str) -> float:
    """Bytes that a process shares with no other."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(float(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def processors() -> float:
    """Seconds that this process and its finished children have had of processors."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def status(name: str) -> float:
    """Bytes that Linux tells of this process."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def measure(rival: Rival) -> dict[tuple[str, str], float]:
    """One turn; returns the scores that it has written, by query and document."""
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
        folder = Path(name)
        with contextlib.suppress(OSError, AttributeError):
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)  # what is free goes back, and the peak starts anew
            Path("/proc/self/clear_refs").write_text("5")
        before, watch = status("VmRSS"), Workers()
        watch.start()
        began, busy = time.perf_counter(), processors()
        rival.run(folder)
        rival.times.append(time.perf_counter() - began)
        rival.busy.append(processors() - busy)
        rival.workers = max(rival.workers, watch.stop())
        rival.grown = max(rival.grown, status("VmHWM") - before)
        tree = ET.parse(folder / "benchmark.stdlist.xml").getroot()
    return {
        (str(query.get("termid")), str(term.get("file"))): float(str(term.get("score")))
        for query in tree
        for term in query
    }


def row(rival: Rival, own: Rival, pairs: int) -> str:
    """One line of the Markdown table."""

    def spread(values: Sequence[float], digits: int = 2) -> str:
        low, middle, high = min(values), statistics.median(values), max(values)
        return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"

    cells = [rival.name]
    for times, basis in ((rival.times, own.times), (rival.busy, own.busy)):
        ratios = [t / o for t, o in zip(times, basis, strict=True)]
        cells += [spread(times), "1" if rival is own else spread(ratios, 1)]
    cells += [
        f"{1000 * statistics.median(rival.busy) / pairs:.2f}",
        f"{rival.grown / 1e6:,.0f}",
        f"{rival.workers / 1e6:,.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


HEADER = (
    "| matching | s | times ours | processor s | times ours | processor ms a pair | grown, MB "
    "| workers' own, MB |\n|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Measure both, turn by turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument(
        "--query-frames", type=int, nargs=2, default=(30, 90), metavar=("MIN", "MAX")
    )
    parser.add_argument(
        "--document-frames", type=int, nargs=2, default=(100, 560), metavar=("MIN", "MAX")
    )
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--repeats", type=int, default=5, help="turns after one to warm up")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    queries, documents = features(args)
    pairs = args.queries * args.documents
    held = sum(f.nbytes for f in (*queries, *documents)) / 1e6
    print(
        f"numpy {np.__version__}, numba {numba.__version__}, {platform.machine()}, "
        f"{numba.get_num_threads()} threads; {args.queries} queries x {args.documents} documents, "
        f"{args.dim} dimensions, features of {held:.0f} MB\n"
    )
    own, theirs = (
        Rival("ours", ours(queries, documents)),
        Rival("s3prl", s3prls(queries, documents)),
    )
    few = Rival("", ours(queries[:2], documents[:2])), Rival("", s3prls(queries[:2], documents[:2]))
    for rival in few:  # compile, import
        measure(rival)
    apart = 0.0
    for _ in range(args.repeats):
        found, wanted = measure(own), measure(theirs)
        apart = max(apart, *(abs(found[key] - wanted[key]) for key in wanted))
    print(HEADER)
    print(row(own, own, pairs))
    print(row(theirs, own, pairs))
    print(
        f"\nSUPERB has {138 * 2438:,} pairs for each split and layer (English part of QUESST 2014)."
    )
    print(f"Largest difference of normalised scores, written with 4 decimals: {apart:.4f}")


if __name__ == "__main__":
    main()
