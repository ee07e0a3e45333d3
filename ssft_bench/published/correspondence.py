"""What a published row is called here: explicit data, `correspondence.yaml`; nothing is guessed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ssft_bench.errors import CheckFailed
from ssft_bench.published.rows import PublishedRow, published_folder


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class UpstreamNames(_Strict):
    """What a published model is called."""

    upstream: str
    method: str
    full: tuple[str, ...]
    """Names in suite full, the first of which there are results counts."""
    small: tuple[str, ...]
    """Names in suites with small models."""


class TaskNames(_Strict):
    """What a published task and metric are called."""

    task: str
    metric: str
    protocol: str
    ours: str
    ours_metric: str
    corpus: str
    """Of suite full."""
    ours_protocol: str = ""
    """Where it is another word than the published one."""
    factor: float = 1.0
    """Published value -> our unit."""


class Correspondence(_Strict):
    """The whole file."""

    upstreams: tuple[UpstreamNames, ...]
    interfaces: dict[str, tuple[str, ...]]
    instead: dict[str, tuple[str, ...]]
    """Published interface -> ours to look at where it was not run; the answer says so."""
    tasks: tuple[TaskNames, ...]
    splits: tuple[str, ...]
    """Published splits that our test split stands for."""

    def upstream(self, upstream: str, method: str, *, small: bool) -> tuple[str, ...]:
        """Our names of a published model; empty where it corresponds to nothing."""
        for names in self.upstreams:
            if (names.upstream, names.method) == (upstream, method):
                return names.small if small else names.full
        return ()

    def task(self, row: PublishedRow) -> TaskNames | None:
        """Our task of an absolute row; None where there is none, or the split is another."""
        return self.task_of(row.task, row.metric, row.protocol, row.split)

    def task_of(self, task: str, metric: str, protocol: str, split: str) -> TaskNames | None:
        """The same by its columns."""
        if split not in self.splits:
            return None
        for names in self.tasks:
            if (names.task, names.metric, names.protocol) == (task, metric, protocol):
                return names
        return None


@cache
def correspondence(folder: Path | None = None) -> Correspondence:
    """Read correspondence.yaml. Raises CheckFailed naming the field that does not fit."""
    path = (folder or published_folder()) / "correspondence.yaml"
    values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        return Correspondence.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CheckFailed(f"{path}: {where}: {first['msg']}") from error
