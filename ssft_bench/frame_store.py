"""Features of recordings for several interfaces at once: in memory while they fit, else on disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssft_bench.errors import UsageError

Frames = NDArray[np.float32]
FOLDER = "frames.tmp"
"""Where scratch files lie in a run's folder while it works."""
_ITEM = 4  # bytes of a float32


class FrameStore:
    """Arrays [T, D] by place (which interface) and recording; float32, read-only.

    What does not fit in memory goes to a scratch file for each place, which is mapped when it is read.
    """

    def __init__(self, folder: Path, memory_gib: float) -> None:
        """`folder` is the run's; an earlier attempt's scratch files are removed."""
        self.folder = folder / FOLDER
        self.room = memory_gib * 2**30
        self._kept: dict[tuple[int, str], Frames] = {}
        self._spilt: dict[tuple[int, str], tuple[int, tuple[int, ...]]] = {}
        self.close()

    def __contains__(self, key: tuple[int, str]) -> bool:
        return key in self._kept or key in self._spilt

    def check_room(self, sizes: Iterable[tuple[int, int]]) -> None:
        """Raise UsageError when arrays of these [T, D] fit neither in memory nor on the disk."""
        spilt = sum(t * d * _ITEM for t, d in sizes) - self.room
        place = self.folder.parent
        free = shutil.disk_usage(place).free
        if spilt > free:
            raise UsageError(
                f"{place}: features need {spilt / 2**30:.1f} GiB of scratch files there, {free / 2**30:.1f} "
                "are free; give --out on a larger disk, more memory with --set data.memory_gib=N, or one "
                "layer with --interface layer:index=N"
            )

    def add(self, place: int, recording: str, frames: Frames) -> None:
        """Keep a copy of the frames [T, D] of a recording."""
        frames = np.array(frames, np.float32, order="C")
        if self.room >= frames.nbytes:
            self.room -= frames.nbytes
            frames.setflags(write=False)
            self._kept[place, recording] = frames
            return
        self.folder.mkdir(exist_ok=True)
        with self._file(place).open("ab") as file:
            self._spilt[place, recording] = (file.tell(), frames.shape)
            frames.tofile(file)

    def frames(self, place: int, recording: str) -> Frames:
        """Frames [T, D] of a recording. Raises KeyError for one that was not added."""
        kept = self._kept.get((place, recording))
        if kept is not None:
            return kept
        offset, shape = self._spilt[place, recording]
        return np.memmap(self._file(place), np.float32, mode="r", offset=offset, shape=shape)

    def keep_only(self, place: int) -> None:
        """Forget all other places."""
        for key in [key for key in self._kept if key[0] != place]:
            self.room += self._kept.pop(key).nbytes
        for key in [key for key in self._spilt if key[0] != place]:
            del self._spilt[key]
            self._file(key[0]).unlink(missing_ok=True)

    def close(self) -> None:
        """Forget everything and remove the scratch files."""
        self._kept.clear()
        self._spilt.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, place: int) -> Path:
        return self.folder / f"{place}.f32"
