"""What verification found, check by check, and what it ends in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["ok", "identical", "within", "outside", "failed", "not run", "listed"]
FAILING: tuple[Status, ...] = ("outside", "failed")
"""What makes the exit code 1. `not run` and `listed` only inform."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    area: str
    name: str
    status: Status
    text: str = ""
    details: tuple[str, ...] = ()
    """Lines beneath: utterances that changed."""


@dataclass
class Report:
    """Everything that was looked at, in order."""

    checks: list[Check] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    """Markdown, printed after the checks."""

    def add(self, checks: Iterable[Check]) -> None:
        """Append checks."""
        self.checks += checks

    @property
    def failing(self) -> list[Check]:
        """Checks that make the exit code 1."""
        return [check for check in self.checks if check.status in FAILING]

    def as_dict(self) -> dict[str, Any]:
        """The whole answer, for JSON."""
        return {
            "ok": not self.failing,
            "counts": dict(Counter(check.status for check in self.checks)),
            "checks": [asdict(check) for check in self.checks],
            "tables": self.tables,
        }

    def text(self, everything: bool = False) -> str:
        """Area by area; what holds, and what was not run, is only counted, unless `everything`."""
        lines = []
        for area in dict.fromkeys(check.area for check in self.checks):
            own = [check for check in self.checks if check.area == area]
            counted = Counter(check.status for check in own)
            lines.append(f"{area}: " + ", ".join(f"{n} {status}" for status, n in counted.items()))
            for check in own:
                if everything or check.details or check.status in (*FAILING, "listed", "within"):
                    lines.append(
                        f"  {check.status}: {check.name}{' ' if check.text else ''}{check.text}"
                    )
                    lines += [f"      {detail}" for detail in check.details]
        lines += ["", *self.tables] if self.tables else []
        bad = len(self.failing)
        lines.append(f"{bad} of {len(self.checks)} checks failed" if bad else "nothing moved")
        return "\n".join(lines)
