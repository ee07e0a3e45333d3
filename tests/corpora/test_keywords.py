"""Single words as queries and documents, in both layouts."""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np
import pytest

from ssft_bench.corpora.held_out import held_out, is_held_out, split_of
from ssft_bench.corpora.keywords import DAMAGED, QUERIES, WORDS, Keywords
from ssft_bench.errors import MissingError, UsageError
from tests.speech import real_data

SPLITS = ("train", "dev", "test")


def words(root: Path, names: list[str], gap: str = "_", suffix: str = ".flac") -> Path:
    for word in WORDS:
        for name in names:
            path = root / word.replace("_", gap) / f"{name}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()  # the reader does not open it
    return root


NAMES = [str(i) for i in range(150)]


def test_both_layouts_give_the_same_rows(tmp_path: Path) -> None:
    tidy = Keywords(words(tmp_path / "a/keywords", NAMES).parent)
    public = Keywords(words(tmp_path / "b/audio", NAMES, " ", ".wav").parent)
    (tmp_path / "b/audio/jarvis").mkdir()
    for split in SPLITS:
        for one, other in (
            (tidy.utterances(split), public.utterances(split)),
            (tidy.queries(split), public.queries(split)),
        ):
            assert [{**vars(r), "audio": 0} for r in one] == [
                {**vars(r), "audio": 0} for r in other
            ]
    assert {r.text for r in public.queries("dev")} == {
        "ALEXA",
        "COMPUTER",
        "SMART MIRROR",
        "VIEW GLASS",
    }


def test_splits_queries_and_matches(tmp_path: Path) -> None:
    corpus = Keywords(words(tmp_path, NAMES))
    seen: list[str] = []
    for split in SPLITS:
        queries, documents = corpus.queries(split), corpus.documents(split)
        assert len(queries) == (0 if split == "train" else QUERIES * len(WORDS))
        rows = queries + documents
        assert {split_of(row.id) for row in rows} == {split}
        seen += [row.id for row in rows]
        wanted = {q.id: {d.id for d in documents if d.text == q.text} for q in queries}
        assert corpus.matches(split) == wanted
        assert all(0 < len(found) < len(documents) for found in wanted.values())
    everything = {f"{w}/{n}" for w in WORDS for n in NAMES} - DAMAGED
    assert len(seen) == len(set(seen))
    assert set(seen) == everything
    assert 0.15 < np.mean([is_held_out(name) for name in everything]) < 0.25


def test_a_split_depends_on_the_name_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(seed := secrets.randbelow(2**31))
    few = [str(n) for n in rng.choice(150, 100, replace=False)]
    whole, part = Keywords(words(tmp_path / "a", NAMES)), Keywords(words(tmp_path / "b", few))
    for split in SPLITS:
        there = {r.id for r in whole.utterances(split) + whole.queries(split)}
        assert {r.id for r in part.utterances(split) + part.queries(split)} == {
            name for name in there if name.partition("/")[2] in few
        }, seed


def test_the_held_out_fifth_is_the_one_that_pretraining_leaves_out() -> None:
    from ssft_bench.upstreams.pretraining import audio

    assert audio.held_out is held_out
    # The rule as it was when the mini models were pretrained.
    import hashlib

    for name in ("alexa/0", "computer/a", "audio/00e09cf0-a01d-453e-9b89-dc6e6d31d362"):
        old = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 5 == 0
        assert held_out(Path("anywhere") / f"{name}.flac") is old
        assert (split_of(name) == "test") is old


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no keywords in .*alexa, computer.*data get keywords"):
        Keywords(tmp_path).utterances("dev")
    words(tmp_path, NAMES)
    for path in (tmp_path / "computer").iterdir():
        path.unlink()
    with pytest.raises(MissingError, match="computer has no recording of split dev"):
        Keywords(tmp_path).queries("dev")
    with pytest.raises(UsageError, match="no split 'eval'"):
        Keywords(tmp_path).utterances("eval")


def test_the_real_recordings() -> None:
    corpus = Keywords(real_data("keywords"))
    rows = {split: corpus.utterances(split) + corpus.queries(split) for split in SPLITS}
    assert {split: len(found) for split, found in rows.items()} == {
        "train": 947,
        "dev": 264,
        "test": 283,
    }
    assert all(held_out(row.audio) for row in rows["test"])
    assert not any(held_out(row.audio) for row in rows["train"] + rows["dev"])
    chance = [len(m) / len(corpus.documents("test")) for m in corpus.matches("test").values()]
    assert 0.15 < np.mean(chance) < 0.3
