"""The index of a volume: a text file to which one line is appended for each append to the data.

    <crc32 of the rest, hexadecimal> {"u": address, "s": [[layer, offset, frames, width, crc32], ...]}

Each line is checked on its own, so a flipped bit costs one line. The check begins from the data file's
identity: lines of another data file do not pass. A line without its newline is not there yet: its writer
is still writing, or was killed, and then the next writer cuts it off.
"""

from __future__ import annotations

import json
import zlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple


class Section(NamedTuple):
    """Where one utterance's states of one layer lie in the data file."""

    layer: int
    offset: int
    """Bytes from the beginning of the file."""
    frames: int
    width: int
    crc: int
    """crc32 of the bytes."""

    def size(self, item: int) -> int:
        """Bytes of its numbers, each of `item` bytes."""
        return self.frames * self.width * item


def line_of(identity: bytes, address: str, sections: Iterable[Section]) -> bytes:
    """The line that makes these sections known."""
    body = json.dumps({"u": address, "s": sections}, separators=(",", ":")).encode()
    return b"%08x %s\n" % (_check(identity, body), body)


def _check(identity: bytes, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(identity))


@dataclass
class Index:
    """What has been read of an index so far."""

    identity: bytes
    """Of the data file that it belongs to."""
    item: int
    """Bytes of a number."""
    entries: dict[str, array[int]] = field(default_factory=dict)
    """Address -> the numbers of its sections, one after the other: a corpus has millions."""
    position: int = 0
    """Bytes of whole lines that were read."""
    broken: int = 0
    """Lines that did not pass their check."""
    end: int = 0
    """Bytes of the data file up to the end of the last section."""

    def read(self, more: bytes) -> None:
        """Take in bytes from `position` on; a last line without its newline is left for later."""
        whole, newline, _ = more.rpartition(b"\n")
        if not newline:
            return
        self.position += len(whole) + 1
        for line in whole.split(b"\n"):
            self._take(line)

    def sections(self, address: str) -> dict[int, Section]:
        """By layer; of several for one layer the newest."""
        numbers = self.entries.get(address, ())
        width = len(Section._fields)
        found = (Section(*numbers[i : i + width]) for i in range(0, len(numbers), width))
        return {section.layer: section for section in found}

    def __iter__(self) -> Iterator[tuple[str, dict[int, Section]]]:
        return ((address, self.sections(address)) for address in self.entries)

    def _take(self, line: bytes) -> None:
        try:
            if line[:9] != b"%08x " % _check(self.identity, line[9:]):
                raise ValueError
            values = json.loads(line[9:])
            sections = [Section(*numbers) for numbers in values["s"]]
        except (ValueError, KeyError, TypeError, OverflowError):
            self.broken += 1
            return
        known = self.entries.setdefault(values["u"], array("Q"))
        for section in sections:
            known.extend(section)
            self.end = max(self.end, section.offset + section.size(self.item))
