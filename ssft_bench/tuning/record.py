"""`tune.json`: what a tuning run was, cost and left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ssft_bench.errors import CheckFailed
from ssft_bench.files import write_json
from ssft_bench.ranks import rank
from ssft_bench.tuning.spec import TuneSpec

SCHEMA_VERSION = 1


class TuneRecord(BaseModel):
    """Everything needed to trust and repeat a tuning run."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA_VERSION
    status: Literal["running", "done", "failed"]
    """running also describes a run that was killed; running it again resumes it."""
    signature: str
    """Hash of the resolved specification and the bytes it names."""
    spec: TuneSpec
    """The resolved specification."""
    choices: dict[str, str] = {}
    """Where the published code and ours differ: option -> 'value (fixed)' or 'value (faithful)'."""
    args_passed: dict[str, Any] = {}
    """What the user gave, without defaults."""
    content: dict[str, str | None] = {}
    """Digests of the base's weights, the recordings and plug-in files."""
    data: dict[str, Any] = {}
    """Corpus, licence, synthetic or not, utterances and hours heard in a pass."""
    method: dict[str, Any] = {}
    """What the method says of itself (what draws at random while training, the voice of a twin, ...)."""
    checkpoint: dict[str, Any] = {}
    """File, sha256 and number of changed tensors."""
    cost: dict[str, Any] = {}
    """Parameters (total, trainable, own), updates, hours of speech, seconds, peak memory."""
    last: dict[str, float] = {}
    """The last logged numbers: loss parts, gradient norm."""
    events: list[dict[str, Any]] = []
    """Skipped updates, resumes, collapse alarms, warnings."""
    env: dict[str, Any] = {}
    code: dict[str, Any] = {}
    time: dict[str, Any] = {}
    error: str | None = None


def save(folder: Path, record: TuneRecord) -> None:
    """Write tune.json atomically; rank 0 does."""
    if rank() > 0:
        return
    write_json(folder / "tune.json", record.model_dump(mode="json"))


def load(folder: Path) -> TuneRecord | None:
    """The record in a folder, None when there is none. Raises CheckFailed when it cannot be read."""
    path = folder / "tune.json"
    if not path.exists():
        return None
    try:
        return TuneRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        first = str(error).splitlines()[0]
        raise CheckFailed(f"{path}: not a tuning record of this version ({first})") from error
