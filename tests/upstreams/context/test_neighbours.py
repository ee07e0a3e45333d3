"""Who is next to whom: by session and number, with holes, first and last segments, shared prefixes."""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np
import pytest

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.corpora.mini_corpus import Mini
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.upstreams.context.neighbours import (
    Neighbours,
    coverage_text,
    parse_offsets,
    written_offsets,
)

SEEDS = [1, secrets.randbelow(2**31)]


def row(session: str | None, segment: int | None, split: str = "train") -> Utterance:
    return Utterance(
        f"{split}/{session}_{segment}", Path("a"), split, session=session, segment=segment
    )


def names(neighbours: Neighbours, of: Utterance) -> list[str | None]:
    return [None if other is None else other.id for other in neighbours.of(of)]


def test_holes_ends_prefixes_and_splits() -> None:
    rows = [row("a", n) for n in (0, 1, 2, 4)] + [row("ab", n) for n in (2, 3)]
    rows += [row("a", 3, "test"), row(None, 5), row("a", None)]
    near = Neighbours(rows)
    wanted = {
        "train/a_0": [None, "train/a_1"],
        "train/a_1": ["train/a_0", "train/a_2"],
        "train/a_2": ["train/a_1", None],  # 3 is in the test split
        "train/a_4": [None, None],
        "train/ab_2": [None, "train/ab_3"],
        "train/ab_3": ["train/ab_2", None],
        "test/a_3": [None, None],
        "train/None_5": [None, None],
        "train/a_None": [None, None],
    }
    assert {r.id: names(near, r) for r in rows} == wanted == near.ids(rows)
    assert near.coverage(rows[:6]) == {"utterances": 6, "-1": 3 / 6, "+1": 3 / 6, "any": 5 / 6}
    assert names(Neighbours(rows, (2,)), rows[0]) == ["train/a_2"]


@pytest.mark.parametrize("seed", SEEDS)
def test_against_a_search_through_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    places = {(int(rng.integers(4)), int(rng.integers(12))) for _ in range(30)}
    rows = [row(str(s), n) for s, n in sorted(places)]
    rows = [rows[i] for i in rng.permutation(len(rows))]
    offsets = (-2, 1)
    near = Neighbours(rows, offsets)
    covered = 0
    for one in rows:
        for offset, got in zip(offsets, near.of(one), strict=True):
            same = [o for o in rows if o.session == one.session]
            found = [o for o in same if o.segment == one.segment + offset]  # type: ignore[operator]
            assert [got] == (found or [None])
        covered += any(o is not None for o in near.of(one))
    assert near.coverage(rows)["any"] == covered / len(rows)


def test_two_rows_in_one_place_are_named() -> None:
    twice = [row("a", 1), Utterance("other", Path("a"), "train", session="a", segment=1)]
    with pytest.raises(MissingError, match="'train/a_1' and 'other'"):
        Neighbours(twice)
    Neighbours([row("a", 1), row("a", 1)])  # the same row again is no matter


def test_digest_tells_pairs_apart() -> None:
    rows = [row("a", n) for n in range(4)]
    digests = {
        Neighbours(rows).ids_sha256(rows),
        Neighbours(rows, (1,)).ids_sha256(rows),
        Neighbours(rows[:3]).ids_sha256(rows),
    }
    assert len(digests) == 3
    assert Neighbours(rows[::-1]).ids_sha256(rows) in digests


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("-1+1", (-1, 1)),
        ("+1", (1,)),
        (-1, (-1,)),
        ("-2-1", (-2, -1)),
        ([1, -1], (-1, 1)),
        ("1", (1,)),
    ],
)
def test_offsets(given: object, wanted: tuple[int, ...]) -> None:
    assert parse_offsets(given) == wanted
    assert parse_offsets(written_offsets(wanted)) == wanted


@pytest.mark.parametrize("given", ["", "0", "1+1", "next", None, True, [], ["x"], "1.5"])
def test_offsets_that_are_none(given: object) -> None:
    with pytest.raises(UsageError, match="offsets="):
        parse_offsets(given)


def test_the_embedded_corpus_is_covered() -> None:
    corpus = Mini()
    rows = {split: corpus.utterances(split) for split in ("train", "dev", "test")}
    near = Neighbours([r for own in rows.values() for r in own])
    found = {split: near.coverage(own) for split, own in rows.items()}
    assert all(own["any"] == 1 and own["-1"] == own["+1"] > 0.7 for own in found.values())
    assert coverage_text(found).startswith("utterances with a neighbour: train 100.0% of 526 (-1 8")


VOXPOPULI = [
    "20131007-0900-PLENARY-19-en_20131007-21:26:04_7",
    "20131007-0900-PLENARY-19-en_20131007-21:26:04_8",
    "20131007-0900-PLENARY-19-en_20131007-21:26:04_10",  # 9 is missing
    "20131007-0900-PLENARY-19-en_20131007-21:26:04_11",
    "20131007-0900-PLENARY-19-en_20131007-21:26:0_9",  # begins like the one above
    "20131007-0900-PLENARY-19-en_20131007-21:30:12_12",  # another paragraph of the recording
    "20131007-0900-PLENARY-1-en_20131007-21:26:04_9",  # another recording
    "20131007-0900-PLENARY-19-en_20131007-21:26:04_1",
]
VOXCELEB = [
    "id10012_0AXjxNXiEzo_00001",
    "id10012_0AXjxNXiEzo_00002",
    "id10012_0AXjxNXiEzo_00004",  # 3 is missing
    "id10012_0AXjxNXiEz_00003",  # begins like the one above
    "id10013_0AXjxNXiEzo_00003",  # another speaker
    "id10012_a_b_00009",  # names of videos may have the separator
    "id10012_a_b_00010",
    "id10012_a_00010",
]


@pytest.mark.parametrize(
    ("ids", "pairs"),
    [(VOXPOPULI, {(0, 1), (2, 3)}), (VOXCELEB, {(0, 1), (5, 6)})],
    ids=["voxpopuli", "voxceleb"],
)
def test_the_rule_of_slue(ids: list[str], pairs: set[tuple[int, int]]) -> None:
    """Sessions and numbers as the corpora read them from the ids."""
    from ssft_bench.corpora.slue_voxpopuli import place

    rows = [
        Utterance(name, Path("a"), "train", session=session, segment=number)
        for name, (session, number) in ((name, place(name)) for name in ids)
    ]
    found = Neighbours(rows).ids(rows)
    for i, name in enumerate(ids):
        before = next((ids[a] for a, b in pairs if b == i), None)
        after = next((ids[b] for a, b in pairs if a == i), None)
        assert found[name] == [before, after]
    by_order = [(i, i + 1) for i in range(len(ids) - 1)]
    assert set(by_order) != pairs  # the control: the list's order would give others


def test_the_rule_of_librispeech(tmp_path: Path) -> None:
    """The same chapter, next number: read from a folder with a hole, and a chapter like another's start."""
    from ssft_bench.corpora.librispeech import LibriSpeech
    from tests.speech import noise, write

    places = [("84", "12", n) for n in (0, 1, 3)] + [
        ("84", "121", 2),
        ("841", "2", 1),
        ("84", "3", 9),
    ]
    places += [("84", "3", 10)]
    for speaker, chapter, number in places:
        folder = tmp_path / "LibriSpeech" / "train-clean-100" / speaker / chapter
        name = f"{speaker}-{chapter}-{number:04d}"
        write(folder / f"{name}.flac", noise(np.random.default_rng(0)))
        with (folder / f"{speaker}-{chapter}.trans.txt").open("a") as file:
            file.write(f"{name} A WORD\n")
    rows = LibriSpeech(tmp_path).utterances("train")
    found = Neighbours(rows).ids(rows)
    assert found == {
        "84-12-0000": [None, "84-12-0001"],
        "84-12-0001": ["84-12-0000", None],
        "84-12-0003": [None, None],
        "84-121-0002": [None, None],
        "841-2-0001": [None, None],
        "84-3-0009": [None, "84-3-0010"],
        "84-3-0010": ["84-3-0009", None],
    }
