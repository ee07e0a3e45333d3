"""Word retrieval: warping against plain loops, MAP against sklearn, chance against all orders."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from ssft_bench.analysis import dtw, retrieval
from ssft_bench.analysis.alignments import Alignment, Segment
from ssft_bench.analysis.ranking import (
    average_precision,
    by_word,
    chance_average_precision,
    mean_average_precision,
)
from ssft_bench.analysis.retrieval import Words, chosen, cut_words, folder_words, similarities
from ssft_bench.analysis.sources import Frames, Speech
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.corpora.mini_corpus import Mini
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.upstreams.pretraining.audio import held_out
from tests.speech import noise, write


def plain_path_mean(distance: np.ndarray) -> float:
    """Over all paths, each step written out: (cost, cells) is the least."""
    n, m = distance.shape
    best = [[(math.inf, 0)] * m for _ in range(n)]
    for i in range(n):
        for j in range(m):
            before = [
                best[a][b] for a, b in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if a >= 0 and b >= 0
            ]
            cost, cells = min(before) if before else (0.0, 0)
            best[i][j] = (cost + float(distance[i, j]), cells + 1)
    return best[-1][-1][0] / best[-1][-1][1]


def every_path(n: int, m: int) -> list[list[tuple[int, int]]]:
    if (n, m) == (1, 1):
        return [[(0, 0)]]
    ends = [(a, b) for a, b in ((n - 1, m), (n, m - 1), (n - 1, m - 1)) if a > 0 and b > 0]
    return [[*path, (n - 1, m - 1)] for a, b in ends for path in every_path(a, b)]


def test_path_mean_equals_loops_and_all_paths() -> None:
    rng = np.random.default_rng()
    for shape in ((1, 1), (1, 5), (4, 1), (4, 5), (17, 9)):
        ties = rng.integers(0, 3, shape).astype(np.float32)  # many paths cost the same
        for distance in (rng.random(shape).astype(np.float32), ties):
            assert dtw.path_mean(distance) == pytest.approx(plain_path_mean(distance), abs=1e-9)
            assert dtw.path_mean(distance.T) == pytest.approx(dtw.path_mean(distance), abs=1e-12)
            if distance.size <= 20:
                paths = every_path(*shape)
                least = min((sum(float(distance[c]) for c in p), len(p)) for p in paths)
                assert dtw.path_mean(distance) == pytest.approx(least[0] / least[1], abs=1e-6)


def test_warping_forgives_tempo_and_a_straight_comparison_does_not() -> None:
    rng = np.random.default_rng()
    word = rng.normal(size=(12, 5)).astype(np.float32)
    slow, other = word.repeat(3, axis=0), rng.normal(size=(36, 5)).astype(np.float32)
    unit = [dtw.unit_frames(x, subtract_mean=False) for x in (word, slow, other)]
    costs = dict(dtw.pairwise(unit))
    assert costs[0][0] == pytest.approx(0, abs=1e-6)
    assert costs[0][1] > 0.2
    straight = 1 - (unit[0] * unit[1][:12]).sum(axis=1).mean()
    assert straight > 0.2


@pytest.mark.parametrize("cells", [1, 200, 1 << 25])
def test_all_pairs_equal_single_pairs(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtw, "_CELLS", cells)
    rng = np.random.default_rng()
    raw = [rng.normal(size=(int(t), 4)).astype(np.float32) for t in rng.integers(1, 12, 9)]
    unit = [dtw.unit_frames(x, subtract_mean=False) for x in raw]
    found = similarities(raw, "dtw", subtract_mean=False)
    assert (found == found.T).all()
    for i, j in itertools.combinations(range(9), 2):
        expected = [
            [1 - float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)) for b in raw[j]]
            for a in raw[i]
        ]
        assert -found[i, j] == pytest.approx(plain_path_mean(np.array(expected)), abs=1e-5)
    assert np.linalg.norm(unit[0], axis=1) == pytest.approx(1)


def test_subtracting_the_mean_removes_a_constant() -> None:
    rng = np.random.default_rng()
    raw = [rng.normal(size=(8, 4)).astype(np.float32) for _ in range(3)]
    moved: list[Frames] = [x + rng.normal(size=4).astype(np.float32) * 5 for x in raw]
    same = similarities(raw, "dtw", subtract_mean=True)
    assert similarities(moved, "dtw", subtract_mean=True) == pytest.approx(same, abs=1e-5)
    assert np.abs(similarities(moved, "dtw", subtract_mean=False) - same).max() > 1e-2


def test_mean_pooling_is_the_cosine_of_means() -> None:
    rng = np.random.default_rng()
    raw = [rng.normal(size=(t, 4)).astype(np.float32) for t in (3, 5)]
    a, b = (x.mean(axis=0) for x in raw)
    cosine = float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
    assert similarities(raw, "mean", subtract_mean=False)[0, 1] == pytest.approx(cosine, abs=1e-6)


def plain_average_precision(similarity: list[float], relevant: list[bool]) -> float:
    """Without ties: precision at the rank of each relevant item."""
    order = sorted(range(len(similarity)), key=lambda i: -similarity[i])
    hits, values = 0, []
    for rank, i in enumerate(order, start=1):
        if relevant[i]:
            hits += 1
            values.append(hits / rank)
    return sum(values) / len(values)


def test_average_precision_equals_sklearn_and_a_loop() -> None:
    rng = np.random.default_rng()
    for _ in range(20):
        relevant = rng.random(30) < 0.3
        relevant[0] = True
        distinct, tied = rng.random(30), rng.integers(0, 4, 30).astype(float)
        for similarity in (distinct, tied):
            expected = average_precision_score(relevant, similarity)
            assert average_precision(similarity, relevant) == pytest.approx(expected, abs=1e-12)
        plain = plain_average_precision(distinct.tolist(), relevant.tolist())
        assert average_precision(distinct, relevant) == pytest.approx(plain, abs=1e-12)
    assert average_precision(-np.arange(3.0), np.array([False, False, True])) == pytest.approx(
        1 / 3
    )
    with pytest.raises(ValueError, match="without a relevant"):
        average_precision(distinct, np.zeros(30, bool))


def test_chance_is_the_mean_over_all_orders() -> None:
    for items, relevant in ((1, 1), (4, 1), (5, 2), (6, 6), (6, 4)):
        total = Fraction(0)
        places = list(itertools.combinations(range(1, items + 1), relevant))
        for ranks in places:
            precisions = [Fraction(k, rank) for k, rank in enumerate(ranks, start=1)]
            total += sum(precisions, Fraction(0)) / relevant
        expected = float(total / len(places))
        assert chance_average_precision(items, relevant) == pytest.approx(expected, abs=1e-12)
    # The share of relevant items is not the chance of average precision.
    assert chance_average_precision(5, 2) > 2 / 5 + 0.05


def test_map_equals_a_plain_loop_and_leaves_out_what_cannot_be_found() -> None:
    rng = np.random.default_rng()
    words = [*rng.choice(list("abcd"), 19).tolist(), "single"]
    ids = [f"u{i:02}" for i in range(20)]
    similarity = rng.random((20, 20))
    np.fill_diagonal(similarity, 9)  # oneself is the most similar, and must not count
    allowed = rng.random((20, 20)) < 0.7
    expected: dict[str, float] = {}
    for i, word in enumerate(words):
        seen = [j for j in range(20) if j != i and allowed[i, j]]
        relevant = [words[j] == word for j in seen]
        if any(relevant):
            scores = [float(similarity[i, j]) for j in seen]
            expected[ids[i]] = plain_average_precision(scores, relevant)
    found = mean_average_precision(similarity, words, ids, allowed, 0)
    assert found is not None
    assert found.by_query == pytest.approx(expected)
    assert found.score.value == pytest.approx(100 * np.mean(list(expected.values())))
    assert found.score.ci95[0] < found.score.value < found.score.ci95[1]
    assert "u19" not in found.by_query
    per_word = by_word(found, words, ids)
    own = [v for n, v in expected.items() if words[int(n[1:])] == "a"]
    assert per_word.get("a", 0) == pytest.approx(100 * np.mean(own) if own else 0)
    assert mean_average_precision(similarity, ids, ids, allowed, 0) is None


def test_chance_level_is_what_random_similarities_get() -> None:
    rng = np.random.default_rng()
    words = [w for w, n in (("a", 40), ("b", 60), ("c", 20)) for _ in range(n)]
    ids = [str(i) for i in range(len(words))]
    everyone = np.ones((len(words), len(words)), bool)
    found = mean_average_precision(rng.random(everyone.shape), words, ids, everyone, 0)
    assert found is not None
    assert found.score.value == pytest.approx(found.chance, abs=3)


@pytest.fixture
def keywords(tmp_path: Path) -> Path:
    rng = np.random.default_rng()
    for word in ("yes", "no"):
        for i in range(15):
            write(tmp_path / "words" / word / f"{i}.flac", noise(rng))
    (tmp_path / "words" / "LICENSE").write_text("none")
    return tmp_path / "words"


def test_folder_is_the_word(keywords: Path) -> None:
    words = folder_words(keywords, held_out_only=False)
    assert len(words.rows) == 30
    assert {row.text for row in words.rows} == {"YES", "NO"}
    kept = folder_words(keywords, held_out_only=True)
    assert {r.audio for r in kept.rows} == {r.audio for r in words.rows if held_out(r.audio)}
    assert 0 < len(kept.rows) < 30
    with pytest.raises(MissingError, match=r"<word>/\*\.flac"):
        folder_words(keywords / "yes", held_out_only=False)
    with pytest.raises(MissingError, match="no such folder"):
        folder_words(keywords / "maybe", held_out_only=False)


def test_so_many_of_each_word(keywords: Path) -> None:
    words = folder_words(keywords, held_out_only=False)
    few = chosen(words, 4, 1)
    assert [sum(r.text == w for r in few.rows) for w in ("YES", "NO")] == [4, 4]
    assert few.rows == chosen(words, 4, 1).rows
    assert few.rows != chosen(words, 4, 2).rows
    assert chosen(words, None, 1).rows == words.rows
    with pytest.raises(UsageError, match="no word has two recordings"):
        chosen(Words([words.rows[0], words.rows[-1]], "two words"), None, 1)


def test_words_are_cut_out_by_their_alignment(tmp_path: Path) -> None:
    row = Utterance("u", tmp_path / "a.wav", "test", speaker="s", text="A B", start=2.0)
    words = (Segment("A", 10, 50), Segment("B", 60, 20))
    speech = Speech(Mini(), "test", [row])
    cut = cut_words(speech, {"u": Alignment(words, ())}, 0.3).rows
    assert [(r.id, r.text, r.start, r.end, r.speaker) for r in cut] == [
        ("u@10", "A", 2.1, 2.6, "s")
    ]
    assert len(cut_words(speech, {"u": Alignment(words, ())}, 0.0).rows) == 2


def test_embedded_terms_can_be_found_by_other_speakers_only() -> None:
    words = chosen(retrieval.query_words(Mini()), None, 0)
    assert "synthetic" in words.origin
    allowed = retrieval._allowed(words, True)
    speakers = [row.speaker for row in words.rows]
    for i, j in itertools.product(range(len(speakers)), repeat=2):
        assert allowed[i, j] == (speakers[i] != speakers[j])
    unknown = Words([Utterance("u", Path("a"), "test", text="A")], "nobody's words")
    with pytest.raises(UsageError, match="speakers of nobody's words are not known"):
        retrieval._allowed(unknown, True)
