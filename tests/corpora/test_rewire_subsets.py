"""The rewiring paper's subsets of train-clean-100: the rule, its ties, and what it may not share."""

from __future__ import annotations

import random
import secrets
from pathlib import Path

import numpy as np
import pytest

from ssft_bench.audio import read_audio
from ssft_bench.corpora import rewire_subsets
from ssft_bench.corpora.librispeech import LibriSpeech
from ssft_bench.corpora.rewire_subsets import (
    KEPT,
    LONGEST,
    SHA256,
    Rewire1,
    Rewire100,
    digest,
    subset,
)
from ssft_bench.errors import MissingError
from tests.corpora.layouts import librispeech
from tests.speech import noise, write

SEEDS = [1, secrets.randbelow(2**31)]


def lengths(seed: int, count: int = 28_539) -> dict[str, int]:
    """As many utterances as train-clean-100 has, with thousands of ties, in no order."""
    rng = np.random.default_rng(seed)
    names = [f"{i % 251}-{i // 251}-{i:04d}" for i in rng.permutation(count)]
    return dict(zip(names, (80 * rng.integers(300, 4000, count)).tolist(), strict=True))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_rule(seed: int) -> None:
    import pandas

    samples = lengths(seed)
    table = pandas.DataFrame({"name": list(samples), "length": list(samples.values())})
    table = table.sort_values("name").sort_values("length", ascending=False, kind="stable")
    wanted = table["name"].tolist()[:LONGEST]
    assert subset(samples, 100) == wanted
    random.seed(15)  # as the authors call it
    random.shuffle(wanted)
    assert subset(samples, 10) == wanted[:2860]
    assert subset(samples, 1) == wanted[:286]
    assert set(subset(samples, 1)) < set(subset(samples, 10)) < set(subset(samples, 100))
    again = dict(reversed(samples.items()))
    assert subset(again, 1) == subset(samples, 1)  # whatever order the disk gives


def test_pr_and_rewiring_do_not_share_speech() -> None:
    """The authors' loader keeps the shortest for rewiring; by its length rule ties would be in both."""
    samples = lengths(1)
    ordered = sorted(samples, key=lambda name: (-samples[name], name))
    heard = set(ordered[LONGEST:-1])
    for percent in (1, 10, 100):
        chosen = subset(samples, percent)
        assert len(chosen) == len(set(chosen)) == KEPT[percent]
        assert not heard & set(chosen)
    border = samples[ordered[LONGEST - 1]]
    by_rule = {name for name, length in samples.items() if length <= border}
    assert by_rule & set(subset(samples, 100))  # the control: not every rule keeps them apart


@pytest.fixture
def libri(tmp_path: Path) -> Path:
    rng = np.random.default_rng(2)
    for part in ("train-clean-100", "dev-clean", "test-clean"):
        texts = {"19/198": ["A"] * 6, "103/1240": ["B"] * 6}
        librispeech(tmp_path / "LibriSpeech" / part, texts)
    for path in (tmp_path / "LibriSpeech/train-clean-100").rglob("*.flac"):
        write(path, noise(rng, float(rng.choice([0.1, 0.2, 0.3, 0.4]))))
    return tmp_path


def test_a_corpus_that_is_not_whole_is_refused(libri: Path) -> None:
    for corpus in (Rewire100(libri), Rewire1(libri)):
        with pytest.raises(
            MissingError, match=r"12 utterances, and the .* not the one of the 28,539"
        ):
            corpus.utterances("train")
        assert len(corpus.utterances("dev")) == 12


def test_rows_of_a_subset(libri: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = LibriSpeech(libri).utterances("train")
    monkeypatch.setattr(rewire_subsets, "LONGEST", 8)
    monkeypatch.setattr(rewire_subsets, "KEPT", {100: 8, 1: 3})
    wanted = subset({row.id: len(read_audio(row.audio)) for row in rows}, 1)
    monkeypatch.setattr(rewire_subsets, "SHA256", {1: digest(wanted)})
    found = Rewire1(libri).utterances("train")
    assert sorted(row.id for row in found) == sorted(wanted)
    assert found == [row for row in rows if row.id in wanted]


def test_frozen_digests() -> None:
    assert len(set(SHA256.values())) == 3
    assert digest(["b", "a"]) != digest(["a", "b"])
    # printf 'b\na' | sha256sum
    assert digest(["b", "a"]) == "c4a78e5bdf318c857b19a6ae4678d9fc8ab0d9bf2b7dd11b41a06c4c1047d943"
