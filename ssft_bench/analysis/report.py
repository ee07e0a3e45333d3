"""A table with notes: Markdown for people, JSON for programs, files for both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssft_bench.files import atomic_path, write_json


@dataclass(frozen=True)
class Column:
    """How one value of the rows is shown."""

    head: str
    key: str
    format: str = ""
    """As for `format`; both ends of a pair are shown with it."""

    def show(self, row: dict[str, Any]) -> str:
        """The value as text: `-` for None, `low to high` for a pair."""
        value = row.get(self.key)
        if value is None:
            return "-"
        if isinstance(value, list | tuple):
            return " to ".join(format(one, self.format) for one in value)
        return format(value, self.format)


@dataclass
class Report:
    """Result of an analysis: rows as they are computed, columns as they are shown."""

    name: str
    """Stem of its files."""
    title: str
    columns: Sequence[Column]
    rows: list[dict[str, Any]]
    settings: dict[str, Any]
    """What was asked for."""
    notes: list[str] = field(default_factory=list)
    """Sentences that belong to the numbers: data, definitions, what was left out."""

    def markdown(self) -> str:
        """Heading, table and notes."""
        lines = [[column.head for column in self.columns], ["---" for _ in self.columns]]
        lines += [[column.show(row) for column in self.columns] for row in self.rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        notes = "".join(f"- {note}\n" for note in self.notes)
        return f"### {self.title}\n\n{table}\n\n{notes}"

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "analysis": self.name,
            "title": self.title,
            "settings": self.settings,
            "rows": self.rows,
            "notes": self.notes,
        }

    def print(self, as_json: bool) -> None:
        """On standard output."""
        text = json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        print(text if as_json else self.markdown(), end="\n" if as_json else "")

    def write(self, folder: Path) -> list[Path]:
        """`<name>.json` and `<name>.md`, atomically; their paths."""
        paths = [folder / f"{self.name}.json", folder / f"{self.name}.md"]
        write_json(paths[0], self.as_dict())
        with atomic_path(paths[1]) as temporary:
            temporary.write_text(self.markdown(), encoding="utf-8")
        return paths
