"""What is put comes back bit for bit, by content alone; damage is noticed, told and mended."""

from __future__ import annotations

import errno
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from ssft_bench.errors import UsageError
from ssft_bench.feature_store import FeatureStore
from ssft_bench.feature_store.data_file import DataFile
from ssft_bench.feature_store.store import default_quota_gib
from tests.feature_store.recordings import (
    KEY,
    file_of,
    fresh_seed,
    same,
    states_of,
    utterances,
    view_of,
)


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    """Round to nearest, ties to even, in plain integers; the value as float32."""
    out = np.empty_like(x)
    for i, value in enumerate(x.ravel()):
        bits = struct.unpack("<I", struct.pack("<f", float(value)))[0]
        upper, lower = bits >> 16, bits & 0xFFFF
        upper += lower > 0x8000 or (lower == 0x8000 and upper & 1)
        out.ravel()[i] = struct.unpack("<f", struct.pack("<I", upper << 16))[0]
    return out


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_put_comes_back(tmp_path: Path, dtype: str) -> None:
    seed = fresh_seed()
    rows = utterances(tmp_path / "audio", 6)
    view = view_of(tmp_path / "store", dtype=dtype)
    assert view.missing(rows) == rows
    wanted = [states_of(n, (0, 1, 2), seed) for n in range(6)]
    for row, states in zip(rows[:4], wanted, strict=False):
        assert view.get(row) is None
        assert view.put(row, states)
    assert view.missing(rows) == rows[4:]
    for reader in (view, view_of(tmp_path / "store", dtype=dtype)):
        assert reader.missing(rows) == rows[4:]
        for row, states in zip(rows[:4], wanted, strict=False):
            got = reader.get(row)
            assert got is not None
            assert all(g.dtype == getattr(torch, dtype) for g in got)
            for one, state in zip(got, states, strict=True):
                plain = state.numpy() if dtype == "float32" else to_bfloat16(state.numpy())
                assert np.array_equal(one.float().numpy(), plain)
        assert reader.get(rows[5]) is None
        assert reader.events == []


def test_layers_are_added_and_read_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, root = utterances(tmp_path / "audio", 3), tmp_path / "store"
    zero, one, two = states_of(0, (0, 1, 2), fresh_seed())
    view_of(root, (1,)).put(rows[0], [one])
    assert view_of(root, (0, 1)).missing(rows) == rows
    size = file_of(root, "data").stat().st_size
    more = view_of(root, (0, 1, 2))
    more.put(rows[0], [zero, torch.zeros_like(one), two])  # layer 1 is there: left alone
    added = file_of(root, "data").stat().st_size - size
    assert 4 * (zero.numel() + two.numel()) <= added < 4 * (zero.numel() + two.numel()) + 128
    assert same(more.get(rows[0]), [zero, one, two])
    assert same(more.get(rows[0], (2, 1)), [two, one])
    read: list[int] = []
    plain = DataFile.read

    def watched(self: DataFile, section: object, check: bool) -> object:
        read.append(section.layer)  # type: ignore[attr-defined]
        return plain(self, section, check)  # type: ignore[arg-type]

    monkeypatch.setattr(DataFile, "read", watched)
    assert same(view_of(root, (2,)).get(rows[0]), [two])
    assert read == [2]
    more.put(rows[0], [zero, one, two])
    assert file_of(root, "data").stat().st_size == size + added


def test_the_address_is_what_is_heard(tmp_path: Path) -> None:
    (row,) = utterances(tmp_path / "audio", 1, seed=fresh_seed())
    view = view_of(tmp_path / "store")
    view.put(row, states_of(0, (0, 1, 2)))

    def there(other: object, fresh: bool = True) -> bool:
        return view_of(tmp_path / "store").get(other) is not None  # type: ignore[arg-type]

    copy = tmp_path / "elsewhere" / "copy.wav"
    copy.parent.mkdir()
    copy.write_bytes(row.audio.read_bytes())
    assert there(replace(row, audio=copy, id="other", text="A", speaker="s"))
    assert not there(replace(row, start=0.01))
    assert not there(replace(row, end=0.04))
    assert not there(replace(row, gain_db=-3.0))
    samples, rate = soundfile.read(row.audio, dtype="int16")
    samples[100] ^= 1
    soundfile.write(copy, samples, rate)
    assert not there(replace(row, audio=copy))
    store = FeatureStore(tmp_path / "store", 1.0)
    assert store.view("b" * 64, "float32", (0, 1, 2)).get(row) is None
    assert store.view(KEY, "bfloat16", (0, 1, 2)).get(row) is None
    assert store.view(KEY, "float32", (0, 1, 2)).get(row) is not None
    with pytest.raises(UsageError, match=r"data\.states=float16"):
        store.view(KEY, "float16", (0,))


def test_writing_to_what_was_read_changes_no_file(tmp_path: Path) -> None:
    (row,) = utterances(tmp_path / "audio", 1)
    states = states_of(0, (0, 1, 2))
    view = view_of(tmp_path / "store")
    view.put(row, states)
    got = view.get(row)
    assert got is not None
    got[0].zero_()
    assert same(view.get(row), states)
    assert same(view_of(tmp_path / "store").get(row), states)


def flip(path: Path, place: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(bytes(data))


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


def damage_data(root: Path, rng: np.random.Generator) -> None:
    """One bit of a section's numbers."""
    sections = file_of(root, "index").read_text().splitlines()
    line = sections[int(rng.integers(len(sections)))]
    _, offset, frames, width, _ = json.loads(line[9:])["s"][int(rng.integers(3))]
    place = offset + int(rng.integers(frames * width * 4))
    flip(file_of(root, "data"), place, int(rng.integers(8)))


def damage_index(root: Path, rng: np.random.Generator) -> None:
    """One bit somewhere."""
    index = file_of(root, "index")
    flip(index, int(rng.integers(index.stat().st_size)), int(rng.integers(8)))


def cut_randomly(root: Path, name: str, rng: np.random.Generator) -> None:
    path = file_of(root, name)
    cut(path, int(rng.integers(path.stat().st_size - 4)))


def another_data_file(root: Path) -> None:
    """As good as the old one, but the index does not belong to it."""
    path = file_of(root, "data")
    old = path.read_bytes()
    DataFile.create(path)
    path.write_bytes(path.read_bytes() + old[64:])


DAMAGE: dict[str, Callable[[Path, np.random.Generator], None]] = {
    "a bit of the data": damage_data,
    "a bit of the data's header": lambda root, rng: flip(file_of(root, "data"), 3, 1),
    "a bit of its identity": lambda root, rng: flip(file_of(root, "data"), 12, 4),
    "a bit of the index": damage_index,
    "data cut off": lambda root, rng: cut_randomly(root, "data", rng),
    "data empty": lambda root, rng: cut(file_of(root, "data"), 0),
    "index cut off": lambda root, rng: cut_randomly(root, "index", rng),
    "index gone": lambda root, rng: file_of(root, "index").unlink(),
    "data gone": lambda root, rng: file_of(root, "data").unlink(),
    "another data file": lambda root, rng: another_data_file(root),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_never_gives_a_wrong_number_and_is_mended(tmp_path: Path, kind: str) -> None:
    seed = fresh_seed()
    rng = np.random.default_rng(seed)
    rows, root = utterances(tmp_path / "audio", 5), tmp_path / "store"
    wanted = [states_of(n, (0, 1, 2), seed) for n in range(5)]
    first = view_of(root)
    for row, states in zip(rows, wanted, strict=True):
        first.put(row, states)
    first.close()
    DAMAGE[kind](root, rng)
    reader = view_of(root)
    got = [reader.get(row) for row in rows]
    lost = [n for n, states in enumerate(got) if states is None]
    assert lost, "the damage was not noticed"
    assert all(same(states, wanted[n]) for n, states in enumerate(got) if n not in lost)
    for n in lost:
        assert reader.put(rows[n], wanted[n])
    for view in (reader, view_of(root)):
        assert all(same(view.get(row), wanted[n]) for n, row in enumerate(rows))
    told = " ".join(event["what"] for event in reader.events)
    assert told or kind in ("data gone", "index cut off")  # then they are just not there


def test_a_later_reader_of_a_damaged_entry_finds_the_mended_one(tmp_path: Path) -> None:
    seed = fresh_seed()
    (row,), root = utterances(tmp_path / "audio", 1), tmp_path / "store"
    states = states_of(0, (0, 1, 2), seed)
    view_of(root).put(row, states)
    other = view_of(root)
    assert other.missing([row]) == []
    damage_data(root, np.random.default_rng(seed))
    mender = view_of(root)
    assert mender.get(row) is None
    assert [e["what"] for e in mender.events] == ["damaged hidden states"]
    mender.put(row, states)
    assert other.get(row) is None
    assert same(other.get(row), states)


@pytest.mark.parametrize("what", ["data", "index"])
def test_a_full_disk_ends_in_computing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Half of a write arrives, then there is no room: what was there stays, nothing half is seen."""
    seed = fresh_seed()
    rows, root = utterances(tmp_path / "audio", 3), tmp_path / "store"
    wanted = [states_of(n, (0, 1, 2), seed) for n in range(3)]
    view = view_of(root)
    view.put(rows[0], wanted[0])
    before = {name: file_of(root, name).read_bytes() for name in ("data", "index")}
    plain = os.pwrite

    def full(file: int, data: bytes, place: int) -> int:
        if os.fstat(file).st_ino != file_of(root, what).stat().st_ino or len(data) < 2:
            return plain(file, data, place)
        plain(file, data[: len(data) // 2], place)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    assert not view.put(rows[1], wanted[1])
    monkeypatch.setattr(os, "pwrite", plain)
    assert not view.open
    (event,) = view.events
    assert "No space left" in event["what"]
    assert "computing" in event["what"]
    assert same(view.get(rows[0]), wanted[0])
    assert view.get(rows[1]) is None
    assert file_of(root, "index").read_bytes() == before["index"]
    assert file_of(root, "data").read_bytes().startswith(before["data"])
    later = view_of(root)
    assert later.put(rows[1], wanted[1])
    assert same(later.get(rows[1]), wanted[1])
    assert same(view_of(root).get(rows[0]), wanted[0])


LIMITED = """
import resource, sys
from pathlib import Path
from tests.feature_store.recordings import same, states_of, utterances, view_of
resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))
rows = utterances(Path(sys.argv[1]) / "audio", 12)
view = view_of(Path(sys.argv[1]) / "store")
kept = [n for n, row in enumerate(rows) if view.put(row, states_of(n, (0, 1, 2), 5))]
assert all(same(view.get(rows[n]), states_of(n, (0, 1, 2), 5)) for n in kept)
print(len(kept), view.open, view.events)
"""


def test_the_systems_limit_on_files_ends_in_computing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    kept, is_open, told = done.stdout.split(maxsplit=2)
    assert 0 < int(kept) < 12
    assert is_open == "False"
    assert "File too large" in told
    assert file_of(tmp_path / "store", "data").stat().st_size <= 8_000
    rows = utterances(tmp_path / "audio", 12)
    assert len(view_of(tmp_path / "store").missing(rows)) == 12 - int(kept)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_rights_end_in_computing(tmp_path: Path) -> None:
    rows = utterances(tmp_path / "audio", 1)
    (tmp_path / "store").mkdir(mode=0o500)
    view = view_of(tmp_path / "store")
    assert not view.put(rows[0], states_of(0, (0, 1, 2)))
    assert view.events


def test_a_folder_that_cannot_be_is_told_and_computed_around(tmp_path: Path) -> None:
    rows = utterances(tmp_path / "audio", 1)
    (tmp_path / "store").write_text("a file")
    view = view_of(tmp_path / "store")
    assert view.missing(rows) == rows
    assert view.get(rows[0]) is None
    assert not view.put(rows[0], states_of(0, (0, 1, 2)))
    assert len(view.events) == 1
    with pytest.raises(UsageError, match="--cache"):
        FeatureStore(tmp_path / "store", 1.0).check_writable()


def test_the_quota_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SSFT_BENCH_CACHE_GIB", "2.5")
    assert default_quota_gib(tmp_path / "no" / "such") == 2.5
    monkeypatch.delenv("SSFT_BENCH_CACHE_GIB")
    assert 0 < default_quota_gib(tmp_path / "no" / "such") <= 100
    for wrong in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv("SSFT_BENCH_CACHE_GIB", wrong)
        with pytest.raises(UsageError, match="SSFT_BENCH_CACHE_GIB"):
            default_quota_gib(tmp_path)


def resident() -> tuple[int, int]:
    """Bytes of anonymous and of file memory that this process has in RAM."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))  # type: ignore[return-value]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux' /proc")
def test_reading_takes_no_memory(tmp_path: Path) -> None:
    rows = utterances(tmp_path / "audio", 64)
    view = FeatureStore(tmp_path / "store", 1.0).view(KEY, "bfloat16", (0,))
    for n, row in enumerate(rows):
        view.put(row, [torch.full((1000, 768), float(n))])
    assert file_of(tmp_path / "store", "data").stat().st_size > 98e6
    sums = []
    before = resident()
    for row in rows * 2:
        got = view.get(row)
        assert got is not None
        sums.append(float(got[0][::100].float().mean()))
        del got
    after = resident()
    assert sums == [float(n) for n in range(64)] * 2
    assert after[0] - before[0] < 8e6
    assert after[1] - before[1] < 8e6
    kept = [view.get(row) for row in rows]
    held = resident()
    assert sum(float(k[0].float().sum()) for k in kept if k) > 0
    assert resident()[1] - held[1] > 50e6 or held[1] - after[1] > 50e6  # the measure sees pages
    assert resident()[0] - before[0] < 16e6
