"""The result record of a run, its files, and where they live."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ssft_bench import __version__
from ssft_bench.errors import CheckFailed, UsageError
from ssft_bench.files import atomic_path, sha256_file, write_json
from ssft_bench.metric import Prediction
from ssft_bench.names import metric_name
from ssft_bench.ranks import rank
from ssft_bench.spec import RunSpec

SCHEMA_VERSION = 1
PACKAGES = (
    "torch",
    "torchaudio",
    "espnet-s3prl",
    "lightning-fabric",
    "numpy",
    "soundfile",
    "jiwer",
)


class MetricValue(BaseModel):
    """One score with its uncertainty."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    split: str
    value: float
    unit: str
    higher_is_better: bool
    n: int
    """Utterances."""
    ci95: tuple[float, float] | None
    """95% interval by bootstrap."""
    ci_method: str | None
    """What was resampled."""
    primary: bool

    @property
    def label(self) -> str:
        """Its name as people write it."""
        return metric_name(self.name)


class ResultRecord(BaseModel):
    """`result.json`: everything needed to trust, repeat and tabulate one run."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA_VERSION
    status: Literal["running", "done", "failed"]
    """running also describes a run that was killed; running it again resumes it."""
    signature: str
    """Hash of the resolved specification and the bytes it names."""
    spec: RunSpec
    """The resolved specification."""
    args_passed: dict[str, Any] = {}
    """What the user gave, without defaults."""
    content: dict[str, str | None] = {}
    """Digests of weights, recordings and plug-in files."""
    data: dict[str, Any] = {}
    """Corpus, licence, synthetic or not, utterances, hours, speakers."""
    metrics: list[MetricValue] = []
    learning_curve: list[dict[str, float]] = []
    trials: list[dict[str, Any]] = []
    """What was tried beside what won: learning rates, layers; each with its dev value."""
    selection: dict[str, Any] = {}
    """Step that was scored, and its dev value."""
    predictions: dict[str, Any] = {}
    """path, sha256, n of predictions.jsonl."""
    finetuning: dict[str, Any] = {}
    """What of the upstream learned, and what was drawn meanwhile; protocol finetuned only."""
    interface_state: dict[str, Any] = {}
    """Output width, layers used, share of each layer."""
    cost: dict[str, Any] = {}
    """Parameters, multiply-adds per second of audio, seconds, peak memory."""
    events: list[dict[str, Any]] = []
    """Skipped updates, resumes, warnings."""
    env: dict[str, Any] = {}
    code: dict[str, Any] = {}
    time: dict[str, Any] = {}
    error: str | None = None

    def primary(self, split: str = "test") -> MetricValue | None:
        """The metric that ranks, on a split; None while it is not there."""
        return next((m for m in self.metrics if m.primary and m.split == split), None)


def run_folder(out: Path, spec: RunSpec, signature: str) -> Path:
    """`<out>/<suite>/<upstream>/<interface>/<task>/<signature>`."""
    shown = spec.control.interface if spec.control else spec.interface
    upstream, interface = (_slug(c.name, c.options) for c in (spec.upstream, shown))
    if spec.control:
        interface = f"{spec.control.name}-{interface}"
    return out / spec.suite / upstream / interface / _slug(spec.task.name, {}) / signature


def _slug(name: str, options: dict[str, Any]) -> str:
    text = "-".join([name.replace(".py:", "-"), *(f"{k}={v}" for k, v in sorted(options.items()))])
    return re.sub(r"[^A-Za-z0-9_.=+-]+", "_", text).strip("._")


def check_writable(out: Path, flag: str = "--out") -> None:
    """Raise UsageError, naming the flag, when nothing can be written to a folder."""
    probe = out / f".writable-{os.getpid()}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(
            f"{flag} {out}: cannot write there ({reason}); give another folder"
        ) from error


def save(folder: Path, record: ResultRecord) -> None:
    """Write result.json atomically; rank 0 does."""
    if rank() == 0:
        write_json(folder / "result.json", record.model_dump(mode="json"))


def load(folder: Path) -> ResultRecord | None:
    """The record in a folder, None when there is none. Raises CheckFailed when it cannot be read."""
    path = folder / "result.json"
    if not path.exists():
        return None
    try:
        return ResultRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        first = str(error).splitlines()[0]
        raise CheckFailed(f"{path}: not a result record of this version ({first})") from error


def finished(folder: Path, record: ResultRecord) -> bool:
    """Whether a run has all that a finished one leaves, so that its folder answers for it."""
    return record.status == "done" and (folder / "predictions.jsonl").exists()


def find_all(out: Path) -> Iterator[tuple[Path, ResultRecord]]:
    """Every record below a folder, in the order of their paths."""
    for path in sorted(out.rglob("result.json")):
        record = load(path.parent)
        if record is not None:
            yield path.parent, record


def readable(out: Path) -> Iterator[ResultRecord]:
    """Every record below a folder that can be read, without a word of the others."""
    for path in sorted(out.rglob("result.json")):
        with suppress(CheckFailed):
            record = load(path.parent)
            if record is not None:
                yield record


def save_predictions(folder: Path, predictions: Iterable[Prediction]) -> dict[str, Any]:
    """Write predictions.jsonl sorted by utterance id; return its path, sha256 and count; rank 0 does."""
    if rank() > 0:
        return {}
    path = folder / "predictions.jsonl"
    rows = sorted(predictions, key=lambda p: p.id)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            values = asdict(row)
            if row.hypothesis_lm is None:
                values.pop("hypothesis_lm")
            file.write(json.dumps(values, ensure_ascii=False) + "\n")
    return {"path": path.name, "sha256": sha256_file(path), "n": len(rows)}


def load_predictions(folder: Path) -> list[Prediction]:
    """Predictions of a finished run."""
    lines = (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return [Prediction(**json.loads(line)) for line in lines]


def remove(folder: Path, names: Iterable[str]) -> None:
    """Delete these files and folders of a run; those that are not there are no matter; rank 0 does."""
    for name in names if rank() == 0 else ():
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def now() -> str:
    """UTC time, ISO 8601, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment() -> dict[str, Any]:
    """Versions and machine facts that can move a number."""
    import torch

    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES},
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def code_state() -> dict[str, Any]:
    """Version of this package; commit and dirtiness when it runs from its own git checkout."""
    root = Path(sys.modules["ssft_bench"].__file__ or "").resolve().parent.parent
    state: dict[str, Any] = {"version": __version__, "commit": None, "dirty": None}
    if (root / ".git").exists() and (root / "pyproject.toml").exists():
        state["commit"] = _git(root, "rev-parse", "HEAD")
        state["dirty"] = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    return state


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
