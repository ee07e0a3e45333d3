"""Rows of leaderboards/published/*.csv, checked as they are read."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ssft_bench.errors import CheckFailed, MissingError

RELATIVE = ("_relative_reduction", "_relative_gain")
"""Ends of the metrics that are quoted gains, not scores."""
PLAUSIBLE = {
    "%": (0.0, 150.0),
    "% relative": (-100.0, 100.0),
    "fraction": (-1.0, 1.0),
    "h": (0.0, 1e7),
    "count": (0.0, 1e9),
    "points": (-1000.0, 2000.0),
}
"""Unit -> smallest and largest value that is no slip of the pen. Insertions take error rates over 100."""
AT_MOST_100 = (
    "accuracy",
    "f1_micro",
    "f1_macro",
    "label_f1_micro",
    "slot_type_f1",
    "slue_score",
    "eer",
)
"""Metrics in % that cannot be over 100."""


class PublishedRow(BaseModel):
    """One published number."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(min_length=1)
    """Where it was read; `sources.csv` says how to cite it."""
    table: str = Field(min_length=1)
    """Which table of the source, or `abstract`, `computed`."""
    upstream: str = Field(min_length=1)
    """Base model."""
    method: str = Field(min_length=1)
    """What was done to it: `none`, `score`, `spin_2048`, ..."""
    interface: str
    """Empty where it does not apply."""
    protocol: Literal["frozen", "finetuned", ""]
    """Empty for costs and where the source does not say."""
    task: str = Field(min_length=1)
    split: str
    metric: str = Field(min_length=1)
    unit: Literal["%", "% relative", "fraction", "h", "count", "points"]
    value: float = Field(allow_inf_nan=False)
    """In `unit`."""
    higher_is_better: bool
    status: Literal["verified", "third-party", "derived"]
    """verified: read in the source; third-party: in somebody's rewriting; derived: arithmetic on facts."""
    note: str
    file: str = ""
    """File it stands in."""
    line: int = 0
    """Line of that file, the header being 1."""
    text: str = ""
    """The value as it is written: its decimals count."""

    @field_validator("higher_is_better", mode="before")
    @classmethod
    def _boolean(cls, value: object) -> object:
        if value not in ("true", "false", True, False):
            raise ValueError("write true or false")
        return value in ("true", True)

    @field_validator("status", mode="before")
    @classmethod
    def _no_guesses(cls, value: object) -> object:
        if value == "unverified":
            raise ValueError("unverified numbers cannot be added; read the source first")
        return value

    @model_validator(mode="after")
    def _plausible(self) -> PublishedRow:
        low, high = PLAUSIBLE[self.unit]
        if self.metric in AT_MOST_100:
            high = 100.0
        if not low <= self.value <= high:
            raise ValueError(
                f"value {self.value:g} {self.unit} is not between {low:g} and {high:g}"
            )
        if self.relative != (self.unit == "% relative"):
            raise ValueError(f"metric {self.metric} and unit {self.unit} do not go together")
        return self

    @property
    def relative(self) -> bool:
        """Whether it is a quoted gain."""
        return self.metric.endswith(RELATIVE)

    @property
    def decimals(self) -> int:
        """Digits after the point, as published."""
        return len(self.text.partition(".")[2])

    @property
    def key(self) -> tuple[str, ...]:
        """What no two rows share."""
        return tuple(str(getattr(self, name)) for name in COLUMNS if name not in NOT_IN_KEY)

    @property
    def label(self) -> str:
        """A few words that name the number."""
        parts = (self.upstream, self.method, self.interface, self.task, self.split, self.metric)
        return " ".join(part for part in parts if part)

    @property
    def place(self) -> str:
        """`file:line`."""
        return f"{self.file}:{self.line}"


NOT_FROM_CSV = ("file", "line", "text")
NOT_IN_KEY = ("value", "status", "note")
COLUMNS = tuple(name for name in PublishedRow.model_fields if name not in NOT_FROM_CSV)
"""Header of every file."""


@cache
def leaderboards_folder() -> Path:
    """The folder that is installed as ssft_bench.leaderboards; nothing is imported."""
    spec = importlib.util.find_spec("ssft_bench.leaderboards")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def published_folder() -> Path:
    """Where the published numbers lie."""
    return leaderboards_folder() / "published"


def files(folder: Path) -> list[Path]:
    """The files of published numbers, by name: those with the header of one."""
    return [path for path in sorted(folder.glob("*.csv")) if path.name not in _OTHERS]


_OTHERS = ("sources.csv", "checksums.csv")


def load(folder: Path | None = None) -> list[PublishedRow]:
    """All published rows, in the order of the files.

    Raises MissingError where there are none; CheckFailed, naming file and line, for a row that breaks
    the schema, is `unverified`, stands there twice, or whose source has no citation.
    """
    from ssft_bench.published.citations import check_cited

    folder = folder or published_folder()
    rows = [row for path in files(folder) for row in read(path)]
    if not rows:
        raise MissingError(f"{folder}: no published numbers there")
    check_cited(folder, rows)
    return rows


def read(path: Path) -> Iterator[PublishedRow]:
    """The rows of one file. Raises CheckFailed naming file and line."""
    seen: dict[tuple[str, ...], int] = {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        if tuple(header) != COLUMNS:
            raise CheckFailed(f"{path}:1: expected the header {','.join(COLUMNS)}")
        for fields in reader:
            row = _row(path, reader.line_num, fields)
            earlier = seen.setdefault(row.key, row.line)
            if earlier != row.line:
                raise CheckFailed(
                    f"{path}:{row.line}: {row.label} stands there twice, see line {earlier}"
                )
            yield row


def _row(path: Path, line: int, fields: list[str]) -> PublishedRow:
    if len(fields) != len(COLUMNS):
        raise CheckFailed(f"{path}:{line}: {len(fields)} fields, expected {len(COLUMNS)}")
    values = dict(zip(COLUMNS, fields, strict=True))
    try:
        return PublishedRow.model_validate(
            {**values, "file": path.name, "line": line, "text": values["value"]}
        )
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        told = first["msg"].removeprefix("Value error, ")
        given = f"={values[field]!r}" if field in values else ""
        where = f"{field}{given}: " if field else ""
        raise CheckFailed(f"{path}:{line}: {where}{told}") from error
