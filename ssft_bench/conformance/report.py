"""What the checks found, as Markdown for people and as JSON for programs. Needs no torch."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ssft_bench.errors import UsageError
from ssft_bench.files import atomic_path


class Status(StrEnum):
    """How a check ended."""

    passed = "pass"
    failed = "fail"
    skipped = "skip"


@dataclass(frozen=True)
class Finding:
    """What one check saw."""

    status: Status
    detail: str
    """One line: the number that was measured and its bound."""
    advice: str = ""
    """What to do about a failure; empty: the check's own advice."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Measurements by name, where they are of use beyond passing."""


def passed(detail: str, **numbers: float) -> Finding:
    """The contract is kept."""
    return Finding(Status.passed, detail, numbers=numbers)


def failed(detail: str, advice: str = "", **numbers: float) -> Finding:
    """The contract is broken; `advice` where the check's own would be too general."""
    return Finding(Status.failed, detail, advice, numbers)


def skipped(detail: str) -> Finding:
    """There is nothing to check; `detail` says why."""
    return Finding(Status.skipped, detail)


@contextmanager
def noted(situation: str) -> Iterator[None]:
    """Say with an exception in which situation it was raised."""
    try:
        yield
    except Exception as error:
        error.add_note(situation)
        raise


@dataclass(frozen=True)
class Result:
    """One row of the report."""

    name: str
    status: Status
    detail: str
    advice: str
    numbers: Mapping[str, float]


@dataclass(frozen=True)
class Report:
    """All results for one plug-in."""

    interface: str
    options: Mapping[str, Any]
    checks: tuple[Result, ...]

    def count(self, status: Status) -> int:
        """How many checks ended that way."""
        return sum(check.status == status for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """{interface, options, passed, failed, skipped, checks: [{name, status, detail, ...}]}."""
        return {
            "interface": self.interface,
            "options": dict(self.options),
            "passed": self.count(Status.passed),
            "failed": self.count(Status.failed),
            "skipped": self.count(Status.skipped),
            "checks": [asdict(check) for check in self.checks],
        }

    def markdown(self) -> str:
        """Title, summary, table, and a section for each failure with what to do."""
        told = ", ".join(f"{key}={value}" for key, value in self.options.items())
        verdict = "breaks" if self.count(Status.failed) else "keeps"
        lines = [
            f"# Interface {self.interface}{f' ({told})' if told else ''}",
            "",
            f"It {verdict} the contract: {self.count(Status.passed)} checks passed, "
            f"{self.count(Status.failed)} failed, {self.count(Status.skipped)} skipped.",
            "",
            *_table(self.checks),
        ]
        for check in self.checks:
            if check.status is Status.failed:
                lines += ["", f"## {check.name}", "", f"Found: {check.detail}", ""]
                lines += [f"What to do: {check.advice}"]
        return "\n".join(lines) + "\n"


def _table(checks: tuple[Result, ...]) -> list[str]:
    """A Markdown table that is also readable as plain text: all but the last column are padded."""
    width = max((len(check.name) for check in checks), default=0)
    rows = [
        f"| {'check':<{width}} | result | detail |",
        f"| {'-' * width} | ------ | ------ |",
    ]
    for check in checks:
        detail = " ".join(check.detail.split()).replace("|", "\\|")
        rows.append(f"| {check.name:<{width}} | {check.status.value:<6} | {detail} |")
    return rows


def check_target(path: Path | None) -> None:
    """Raise UsageError when the report's file cannot be written; nothing is left behind."""
    if path is None:
        return
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"-o {path}: cannot write there ({reason}); give another file") from error


def write(report: Report, path: Path | None) -> None:
    """Write the Markdown report atomically."""
    if path is not None:
        with atomic_path(path) as temporary:
            temporary.write_text(report.markdown(), encoding="utf-8")
