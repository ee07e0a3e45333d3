"""A volume: hidden states of one upstream, type and split in one data file, and the index to it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock
from torch import Tensor

from ssft_bench.feature_store.data_file import HEADER, DataFile, write_all
from ssft_bench.feature_store.index import Index, Section, line_of
from ssft_bench.feature_store.shared_lock import SharedLock, alone

STAMP_EVERY = 60.0
"""Seconds between two notes of when a volume was last used."""


class Volume:
    """One folder with `data` and `index`, as this process knows it."""

    def __init__(self, folder: Path, locks: Path, dtype: str) -> None:
        """Nothing is read or made yet. Lock files lie elsewhere, since the folder can be removed."""
        self.folder, self.dtype = folder, dtype
        name = "-".join(folder.parts[-3:])
        self._lock = FileLock(locks / f"{name}.write", thread_local=False)
        self._use_path = locks / f"{name}.use"
        self._use: SharedLock | None = None
        self._users = 0
        self._data: DataFile | None = None
        self._index = Index(b"", 1)
        self._checked: set[int] = set()  # offsets of sections
        self._bad: set[int] = set()
        self._stamped = 0.0
        self.events: list[dict[str, Any]] = []
        """What was found broken, for the record of whoever uses it."""

    # Using it

    def use(self) -> None:
        """From now on no process removes it. Raises OSError where there can be no lock file."""
        if self._users == 0:
            self._use = SharedLock(self._use_path)
        self._users += 1
        self._stamp()
        self.refresh()

    def release(self) -> None:
        """The opposite of `use`; what was read stays valid, and what was checked is remembered."""
        self._users -= 1
        if self._users == 0 and self._use is not None:
            self._stamp()
            self._use.release()
            self._use = None
            if self._data is not None:
                self._data.close()
                self._data = None

    @property
    def last_used(self) -> float:
        """Seconds since the epoch; 0 where nobody noted it."""
        with suppress(OSError):
            return (self.folder / "used").stat().st_mtime
        return 0.0

    def _stamp(self) -> None:
        self._stamped = time.monotonic()
        if self.folder.is_dir():
            with suppress(OSError):
                (self.folder / "used").touch()

    # Reading

    def refresh(self) -> None:
        """Learn what others have appended, or that they have put another file in its place."""
        if self._data is not None and not self._data.still_there():
            self._data.close()
            self._data = None
        if self._data is None:
            try:
                self._data = DataFile(self.folder / "data", self.dtype)
            except (OSError, ValueError):
                self._forget(b"", 1)
                return
            if self._index.identity != self._data.identity:
                self._forget(self._data.identity, self._data.dtype.itemsize)
        broken, index = self._index.broken, self.folder / "index"
        if _size(index) < self._index.position:  # cut off or removed
            self._forget(self._index.identity, self._index.item)
        with suppress(OSError), index.open("rb") as file:
            file.seek(self._index.position)
            self._index.read(file.read())
        if self._index.broken > broken:
            self._tell("broken index lines", lines=self._index.broken)

    def _forget(self, identity: bytes, item: int) -> None:
        self._index = Index(identity, item)
        self._checked, self._bad = set(), set()

    def sections(self, address: str, layers: Iterable[int]) -> list[Section] | None:
        """Where these layers lie, as far as is known; None where one of them is not there."""
        known = self._index.sections(address)
        found = [known.get(layer) for layer in layers]
        good = [s for s in found if s is not None and s.offset not in self._bad]
        return good if len(good) == len(found) else None

    def read(self, address: str, layers: Sequence[int]) -> list[Tensor] | None:
        """Mapped states of these layers, each [T_l, D_l]; checked when they are read for the first time."""
        if time.monotonic() - self._stamped > STAMP_EVERY:
            self._stamp()
        states = []
        sections = self.sections(address, layers)
        if sections is None or self._data is None:
            return None
        for section in sections:
            state = self._data.read(section, section.offset not in self._checked)
            if state is None:
                self._bad.add(section.offset)
                self._tell("damaged hidden states", address=address, layer=section.layer)
                return None
            self._checked.add(section.offset)
            states.append(state)
        return states

    def _tell(self, what: str, **more: Any) -> None:
        place = "/".join(self.folder.parts[-3:])
        self.events.append({"kind": "feature_store", "what": what, "volume": place, **more})

    # Writing

    def append(
        self, address: str, states: Mapping[int, Tensor], room: Callable[[int], bool]
    ) -> bool:
        """Add those of these layers that are not there; False where `room(bytes)` refuses.

        Raises OSError where the disk or the system refuses.
        """
        self._lock.acquire()
        try:
            self._make_ready()
            new = [(n, s) for n, s in states.items() if self.sections(address, [n]) is None]
            if not new:
                return True
            assert self._data is not None
            size = sum(s.numel() * self._data.dtype.itemsize + HEADER for _, s in new)
            if not room(size):
                return False
            sections = self._data.append(new)
            self._append_line(line_of(self._data.identity, address, sections))
            self.refresh()
            # A sum over what was just written is as good as one over what is read back.
            self._checked.update(section.offset for section in sections)
            return True
        finally:
            self._lock.release()

    def _make_ready(self) -> None:
        """Under the lock: files that can be appended to, with whatever a crash or damage left mended."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.refresh()
        if self._data is not None and self._data.size < self._index.end:
            self._tell("data file too short", bytes=self._data.size, expected=self._index.end)
            self._rewrite()
        elif self._data is not None and not self._index.entries and self._data.size > HEADER:
            self._start_anew()  # data without an index
        elif self._data is not None:
            self._cut_unfinished_line()
            self._note_unfinished_data()
        else:
            self._start_anew()
        self._stamp()

    def _start_anew(self) -> None:
        if (self.folder / "data").exists():
            self._tell("unreadable volume, begun anew")
        DataFile.create(self.folder / "data")
        (self.folder / "index").write_bytes(b"")
        self.refresh()

    def _cut_unfinished_line(self) -> None:
        """What a killed writer left after the last newline; no reader has taken it."""
        index = self.folder / "index"
        size = index.stat().st_size if index.exists() else 0
        if size > self._index.position:
            os.truncate(index, self._index.position)
            self._tell("unfinished index line of a killed writer, cut off")

    def _note_unfinished_data(self) -> None:
        """Bytes of an append that was not finished stay where they are, and nothing points to them."""
        assert self._data is not None
        left = self._data.size - max(self._index.end, HEADER)
        if left > 0:
            self._tell("unfinished append of a killed writer, passed over", bytes=left)

    def _append_line(self, line: bytes) -> None:
        file = os.open(self.folder / "index", os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            write_all(file, line, self._index.position)
        except OSError:
            os.ftruncate(file, self._index.position)
            raise
        finally:
            os.close(file)

    # Mending and removing

    def mend(self) -> dict[str, int]:
        """Read everything, keep what is whole in new files; returns the counts of `examine`."""
        with self._lock:
            self.refresh()
            found = self.examine()
            if any(count for name, count in found.items() if name != "sections"):
                self._rewrite()
        return found

    def examine(self) -> dict[str, int]:
        """Check all: sections, damaged ones, broken index lines, bytes that nothing points to, and whether
        the data file is none."""
        self.refresh()
        sections = [s for _, own in self._index for s in own.values()]
        damaged = 0
        for section in sections:
            if self._data is None or self._data.read(section, check=True) is None:
                self._bad.add(section.offset)
                damaged += 1
        data, index = self.folder / "data", self.folder / "index"
        kept = sum(-(-s.size(self._index.item) // HEADER) * HEADER for s in sections)
        lost = _size(data) - HEADER - kept + -self._index.end % HEADER  # the last one is not padded
        torn = _size(index) > self._index.position
        return {
            "sections": len(sections),
            "damaged": damaged,
            "broken_lines": self._index.broken + torn,
            "lost_bytes": max(0, lost) if _size(data) else 0,
            "unreadable": int(self._data is None and data.exists()),
        }

    def _rewrite(self) -> None:
        """Under the lock: copy what is whole into new files; where that does not fit, begin with none."""
        old, index = self._data, self._index
        self._data = None
        data, lines = self.folder / "data.new", b""
        try:
            DataFile.create(data)
            new = DataFile(data, self.dtype)
            for address, own in index:
                whole = [(n, old.read(s, check=True) if old else None) for n, s in own.items()]
                sections = new.append([(n, state) for n, state in whole if state is not None])
                if sections:
                    lines += line_of(new.identity, address, sections)
            new.close()
            (self.folder / "index").unlink(missing_ok=True)
            os.replace(data, self.folder / "data")
            (self.folder / "index").write_bytes(lines)
        except OSError:
            data.unlink(missing_ok=True)
            self._start_anew()
        finally:
            if old is not None:
                old.close()
        self.refresh()

    def remove(self) -> int:
        """Delete it unless a process uses or writes it; returns the bytes that became free."""
        with alone(self._use_path) as unused:
            if not unused:
                return 0
            size = self.bytes
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):  # folders above, where they are empty now
                self.folder.parent.rmdir()
                upstream = self.folder.parent.parent
                if [path.name for path in upstream.iterdir()] == ["about.json"]:
                    (upstream / "about.json").unlink()
                    upstream.rmdir()
        return size

    @property
    def bytes(self) -> int:
        """On the disk, index and all."""
        return _size(self.folder / "data") + _size(self.folder / "index")

    @property
    def in_use(self) -> bool:
        """Whether a living process, this one too, uses it."""
        with suppress(OSError), alone(self._use_path) as unused:
            return not unused
        return True

    def contents(self) -> dict[str, Any]:
        """Layers and number of utterances, for people."""
        self.refresh()
        layers = sorted({layer for _, own in self._index for layer in own})
        return {"layers": layers, "utterances": len(self._index.entries)}


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0
