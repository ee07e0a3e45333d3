"""The data file of a volume: a header, then sections of plain numbers; written by appending alone.

A section that was written is never moved, overwritten or cut off while the file keeps its identity, so
what one process has checked stays true whatever others append. Anything else (mending, eviction) makes
another file with another identity; whoever has the old one open goes on with the old one.
"""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssft_bench.feature_store.index import Section

MAGIC = b"SSFTHS01"
HEADER = 64
"""Bytes: the magic, 16 of identity, zeros. Sections begin at multiples of it too."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class DataFile:
    """An open data file."""

    def __init__(self, path: Path, dtype: str) -> None:
        """Raises FileNotFoundError, or ValueError for a file that is none of ours."""
        self.path, self.dtype = path, DTYPES[dtype]
        self._file = os.open(path, os.O_RDONLY)
        head = os.pread(self._file, HEADER, 0)
        if len(head) < HEADER or not head.startswith(MAGIC):
            os.close(self._file)
            raise ValueError(f"{path}: no data file")
        self.identity = head[len(MAGIC) : len(MAGIC) + 16]
        self._inode = os.fstat(self._file).st_ino

    @staticmethod
    def create(path: Path) -> None:
        """A new one with an identity of its own, in the place of any other."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes((MAGIC + os.urandom(16)).ljust(HEADER, b"\0"))
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @property
    def size(self) -> int:
        """Bytes that it has now."""
        return os.fstat(self._file).st_size

    def still_there(self) -> bool:
        """Whether the path still leads to this file."""
        try:
            return os.stat(self.path).st_ino == self._inode
        except OSError:
            return False

    def close(self) -> None:
        """Tensors that were read stay valid."""
        os.close(self._file)

    def read(self, section: Section, check: bool) -> Tensor | None:
        """States [T, D] of a section, mapped from the file (no copy; writing to it changes no file).

        None where they are not what was written: the file is too short, or `check` finds another sum.
        """
        shape, size = (section.frames, section.width), section.size(self.dtype.itemsize)
        if section.offset + size > self.size:
            return None
        if size == 0:
            return torch.empty(shape, dtype=self.dtype)
        begin = section.offset % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(
            self._file, begin + size, access=mmap.ACCESS_COPY, offset=section.offset - begin
        )
        if check:
            with memoryview(mapped) as view, view[begin : begin + size] as part:
                if zlib.crc32(part) != section.crc:
                    return None
        flat = torch.frombuffer(
            mapped, dtype=self.dtype, count=section.frames * section.width, offset=begin
        )
        return flat.view(shape)

    def append(self, states: Sequence[tuple[int, Tensor]]) -> list[Section]:
        """Write (layer, [T, D]) at the end, and return where. For the holder of the volume's lock.

        Raises OSError where they do not fit; the file is then as long as it was, if the system lets us.
        """
        before = end = self.size
        sections: list[Section] = []
        parts: list[bytes | memoryview] = []
        for layer, state in states:
            data = as_bytes(state.to(self.dtype))
            gap = -end % HEADER
            frames, width = state.shape
            sections.append(Section(layer, end + gap, frames, width, zlib.crc32(data)))
            parts += [b"\0" * gap, data]
            end += gap + len(data)
        file = os.open(self.path, os.O_WRONLY)
        try:
            place = before
            for part in parts:
                place += write_all(file, part, place)
        except OSError:
            os.ftruncate(file, before)
            raise
        finally:
            os.close(file)
        return sections


def as_bytes(state: Tensor) -> memoryview:
    """The numbers of a tensor on the CPU, as they lie in memory."""
    numbers: Any = state.contiguous().view(-1).view(torch.uint8).numpy()
    return memoryview(numbers)


def write_all(file: int, data: bytes | memoryview, place: int) -> int:
    """Write at a place, however many calls it takes; returns the number of bytes."""
    done = 0
    while done < len(data):
        done += os.pwrite(file, data[done:], place + done)
    return done
