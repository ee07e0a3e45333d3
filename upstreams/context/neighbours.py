"""Which segments are neighbours: by session and segment number, never by their place in a batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.files import sha256_json


def parse_offsets(given: object) -> tuple[int, ...]:
    """Offsets from `-1+1`, `-1`, 1 or a list of numbers, in rising order.

    Raises UsageError for anything else, for 0 and for repeats.
    """
    try:
        if isinstance(given, str):
            parts = given.replace("-", " -").replace("+", " +").split()
            found = [int(part) for part in parts]
        elif isinstance(given, list | tuple):
            found = [int(part) for part in given]
        else:
            found = [int(given)]  # type: ignore[call-overload]
    except (TypeError, ValueError):
        found = []
    if not found or 0 in found or len(set(found)) < len(found) or isinstance(given, bool):
        raise UsageError(f"offsets={given}: expected segments to look at, such as -1+1, -1 or +1")
    return tuple(sorted(found))


def written_offsets(offsets: Sequence[int]) -> str:
    """As `parse_offsets` reads them: -1+1."""
    return "".join(f"{offset:+d}" for offset in offsets)


class Neighbours:
    """The segments around each segment, among the rows that are there.

    A neighbour is of the same split and session, `offset` segments away. Rows of other splits are
    none: a training segment's neighbour in the test split would be test data.
    """

    def __init__(self, rows: Iterable[Utterance], offsets: Sequence[int] = (-1, 1)) -> None:
        """Raises MissingError when two rows claim one place in a session."""
        self.offsets = tuple(offsets)
        self.rows: dict[str, Utterance] = {}
        self._at: dict[tuple[str, str, int], Utterance] = {}
        for row in rows:
            self.rows[row.id] = row
            if row.session is None or row.segment is None:
                continue
            other = self._at.setdefault((row.split, row.session, row.segment), row)
            if other.id != row.id:
                raise MissingError(
                    f"corpus rows '{other.id}' and '{row.id}' both say session {row.session}, "
                    f"segment {row.segment}: neighbours cannot be told; mend the manifest"
                )

    def of(self, row: Utterance) -> list[Utterance | None]:
        """The neighbour at each offset, None where there is none."""
        if row.session is None or row.segment is None:
            return [None] * len(self.offsets)
        return [self._at.get((row.split, row.session, row.segment + o)) for o in self.offsets]

    def coverage(self, rows: Sequence[Utterance]) -> dict[str, Any]:
        """How many of `rows` have a neighbour: share at each offset, share with at least one."""
        found = [[other is not None for other in self.of(row)] for row in rows]
        total = max(1, len(rows))
        each = {
            f"{offset:+d}": sum(own[place] for own in found) / total
            for place, offset in enumerate(self.offsets)
        }
        return {"utterances": len(rows), **each, "any": sum(map(any, found)) / total}

    def ids(self, rows: Sequence[Utterance]) -> dict[str, list[str | None]]:
        """Ids of each row's neighbours, in the order of the offsets, None where there is none."""
        return {row.id: [None if o is None else o.id for o in self.of(row)] for row in rows}

    def ids_sha256(self, rows: Sequence[Utterance]) -> str:
        """Digest of `ids`: two runs with the same one used the same pairs."""
        return sha256_json(self.ids(rows))


def coverage_text(coverage: Mapping[str, Mapping[str, Any]]) -> str:
    """One line for a person: share of each split's utterances with a neighbour, by offset."""
    parts = []
    for split, own in coverage.items():
        each = ", ".join(f"{k} {v:.1%}" for k, v in own.items() if k not in ("utterances", "any"))
        parts.append(f"{split} {own['any']:.1%} of {own['utterances']} ({each})")
    return "utterances with a neighbour: " + "; ".join(parts)
