"""Several processes on one store: appending at once, being killed, evicting."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from torch import Tensor

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.feature_store import FeatureStore
from tests.feature_store.recordings import (
    KEY,
    ended,
    file_of,
    fresh_seed,
    in_child,
    same,
    states_of,
    utterances,
    view_of,
)


def write_all(root: Path, rows: list[Utterance], wanted: list[list[Tensor]], own: int) -> None:
    """What one of several writers does."""
    layers = ((0, 1, 2), (0, 2), (1,))[own % 3]
    view = view_of(root, layers)
    for n in random.Random(own).sample(range(len(rows)), len(rows)):
        mine = [wanted[n][layer] for layer in layers]
        got = view.get(rows[n])
        assert got is None or same(got, mine)
        assert view.put(rows[n], mine)
        assert same(view.get(rows[n]), mine)
    assert view.events == []


def test_processes_append_at_once(tmp_path: Path) -> None:
    seed, count = fresh_seed(), 60
    rows, root = utterances(tmp_path / "audio", count), tmp_path / "store"
    wanted = [states_of(n, (0, 1, 2), seed, 4000) for n in range(count)]
    children = [in_child(partial(write_all, root, rows, wanted, own)) for own in range(6)]
    assert [ended(child) for child in children] == [0] * 6
    view = view_of(root)
    assert all(same(view.get(row), wanted[n]) for n, row in enumerate(rows))
    assert view.events == []
    (volume,) = FeatureStore(root, 1.0).volumes()
    found = volume.examine()
    assert found["sections"] == 3 * count  # nothing was written twice
    assert not any(n for name, n in found.items() if name != "sections")


def put_all(root: Path, given: list[tuple[Utterance, list[Tensor]]]) -> None:
    view = view_of(root)
    for row, states in given:
        view.put(row, states)


def test_kill_9_while_appending(tmp_path: Path) -> None:
    """Whatever moment a writer is killed at, readers see whole utterances only, and the next goes on."""
    seed, count = fresh_seed(), 60
    chance = random.Random(seed)
    rows, root = utterances(tmp_path / "audio", count), tmp_path / "store"
    view_of(root).missing(rows)  # hashes them once
    wanted = [states_of(n, (0, 1, 2), seed, 4000) for n in range(count)]
    killed = 0
    for _ in range(20):
        order = chance.sample(range(count), count)
        child = in_child(partial(put_all, root, [(rows[n], wanted[n]) for n in order]))
        time.sleep(chance.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        killed += ended(child) == -signal.SIGKILL
        view = view_of(root)
        missing = view.missing(rows)
        for n, row in enumerate(rows):
            got = view.get(row)
            assert (got is None) == (row in missing)
            assert got is None or same(got, wanted[n])
    assert killed >= 5
    view = view_of(root)
    for n, row in enumerate(rows):
        assert view.put(row, wanted[n])
    assert all(same(view_of(root).get(row), wanted[n]) for n, row in enumerate(rows))


@pytest.mark.parametrize("moment", ["in the data", "in the index", "between the two"])
def test_a_writer_that_dies_in_an_append(tmp_path: Path, moment: str) -> None:
    """The same, at each of the three places, without a clock: the child ends itself mid-write."""
    seed = fresh_seed()
    rows, root = utterances(tmp_path / "audio", 3), tmp_path / "store"
    wanted = [states_of(n, (0, 1, 2), seed) for n in range(3)]
    view_of(root).put(rows[0], wanted[0])
    plain = os.pwrite

    def dying(file: int, data: bytes, place: int) -> int:
        into_index = os.fstat(file).st_ino == file_of(root, "index").stat().st_ino
        if into_index and moment == "between the two":
            os._exit(9)
        if (
            into_index == (moment == "in the index")
            and moment != "between the two"
            and len(data) > 8
        ):
            plain(file, data[: len(data) // 2], place)
            os._exit(9)
        return plain(file, data, place)

    def work() -> None:
        os.pwrite = dying
        view_of(root).put(rows[1], wanted[1])

    assert ended(in_child(work)) == 9
    reader = view_of(root)
    assert reader.missing(rows) == rows[1:]
    assert same(reader.get(rows[0]), wanted[0])
    assert reader.put(rows[1], wanted[1])
    told = [event["what"] for event in reader.events]
    assert any("killed writer" in what for what in told)
    assert reader.put(rows[2], wanted[2])
    assert [event["what"] for event in reader.events] == told  # mended once, told once
    fresh = view_of(root)
    assert all(same(fresh.get(row), wanted[n]) for n, row in enumerate(rows))
    assert fresh.put(rows[0], wanted[0])
    assert fresh.events == []


def used_of(root: Path, split: str) -> Path:
    (found,) = root.glob(f"*/*/speech-{split}/used")
    return found


def filled(root: Path, folder: Path, split: str, store: FeatureStore | None = None) -> int:
    """A volume of one split; bytes that it takes."""
    rows = utterances(folder / "audio", 10, split)
    before = FeatureStore(root, 1.0).bytes
    view = (store or FeatureStore(root, 1.0)).view(KEY, "float32", (0, 1, 2))
    for n, row in enumerate(rows):
        assert view.put(row, states_of(n, (0, 1, 2), 3, 2000))
    view.close()
    return FeatureStore(root, 1.0).bytes - before


def splits(root: Path) -> set[str]:
    return {v.folder.name for v in FeatureStore(root, 1.0).volumes() if v.bytes}


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    root = tmp_path / "store"
    sizes = {}
    for age, split in enumerate(("old", "older", "new")):
        sizes[split] = filled(root, tmp_path, split)
        used = used_of(root, split)
        os.utime(used, (1e9 + (10 - 5 * age) % 7, 1e9 + (10 - 5 * age) % 7))
    order = sorted(sizes, key=lambda s: used_of(root, s).stat().st_mtime)
    quota = sum(sizes.values()) / 2**30
    store = FeatureStore(root, quota)
    filled(root, tmp_path, "next", store)
    assert splits(root) == {"speech-next", *(f"speech-{s}" for s in order[1:])}
    assert store.bytes <= store.quota
    # Reading is using: what was next in line is now the last.
    view = FeatureStore(root, quota).view(KEY, "float32", (0, 1, 2))
    assert view.get(utterances(tmp_path / "audio", 1, order[1])[0]) is not None
    view.close()
    filled(root, tmp_path, "another", store)
    assert splits(root) == {"speech-next", "speech-another", f"speech-{order[1]}"}


READER = """
import sys
from pathlib import Path
from tests.feature_store.recordings import utterances, view_of
view = view_of(Path(sys.argv[1]) / "store")
row = utterances(Path(sys.argv[1]) / "audio", 1, sys.argv[2])[0]
print(view.get(row) is not None, flush=True)
sys.stdin.readline()
print(view.get(row) is not None, flush=True)
"""


def test_what_a_living_process_uses_stays(tmp_path: Path) -> None:
    root = tmp_path / "store"
    sizes = [filled(root, tmp_path, split) for split in ("used", "idle")]
    os.utime(used_of(root, "used"), (1e9, 1e9))
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(tmp_path), "used"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert reader.stdout is not None
    assert reader.stdout.readline() == "True\n"
    os.utime(used_of(root, "used"), (1e9, 1e9))  # by age it would be the first
    store = FeatureStore(root, sum(sizes) / 2**30)
    assert not store.could_hold(sizes[1] + 1000)
    assert store.could_hold(sizes[1] - 1000)
    assert store.could_hold(sum(sizes) - 1000, KEY)  # what is there is part of it
    assert not store.could_hold(sum(sizes) - 1000, "b" * 64)
    filled(root, tmp_path, "next", store)
    assert splits(root) == {"speech-used", "speech-next"}
    # No room beside what is used: the store refuses, and nothing is thrown away for nothing.
    view = FeatureStore(root, sizes[0] / 2**30).view(KEY, "float32", (0, 1, 2))
    (row,) = utterances(tmp_path / "audio", 1, "beside")
    assert not view.put(row, states_of(0, (0, 1, 2)))
    assert "quota" in view.events[0]["what"]
    view.close()
    assert splits(root) >= {"speech-used", "speech-next"}
    assert reader.poll() is None
    reader.send_signal(signal.SIGKILL)  # a killed process holds nothing
    reader.communicate()
    store = FeatureStore(root, sizes[0] / 2**30)
    assert store.could_hold(sizes[0] - 1000)
    filled(root, tmp_path, "last", FeatureStore(root, sizes[0] * 1.2 / 2**30))
    assert splits(root) - {"speech-beside"} == {"speech-last"}


def test_a_reader_keeps_what_it_has_while_others_mend(tmp_path: Path) -> None:
    seed = fresh_seed()
    rows, root = utterances(tmp_path / "audio", 3), tmp_path / "store"
    wanted = [states_of(n, (0, 1, 2), seed) for n in range(3)]
    reader = view_of(root)
    for row, states in zip(rows[:2], wanted, strict=False):
        reader.put(row, states)
    got = reader.get(rows[0])
    with file_of(root, "data").open("ab") as file:
        file.write(b"left by a killed writer")
    (volume,) = FeatureStore(root, 1.0).volumes()
    assert volume.mend()["lost_bytes"] == 23
    assert volume.examine()["lost_bytes"] == 0
    assert same(got, wanted[0])
    assert reader.put(rows[2], wanted[2])
    for view in (reader, view_of(root)):
        assert all(same(view.get(row), wanted[n]) for n, row in enumerate(rows))
