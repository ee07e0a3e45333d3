"""The whole way from features to answers, beside s3prl's own `quesst14_dtw`."""

from __future__ import annotations

import importlib
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ssft_bench.alignment.subsequence_dtw import Frames
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.corpora.search import Search
from ssft_bench.downstreams.qbe import matching
from ssft_bench.downstreams.qbe.matching import match, normalised
from ssft_bench.downstreams.qbe.mtwv import MAP, MTWV
from ssft_bench.downstreams.qbe.task import QbE, QbEOptions
from ssft_bench.downstreams.qbe.trials import hypothesis_text, reference_text
from ssft_bench.metric import Prediction
from ssft_bench.moments import Moments
from tests.downstreams.qbe.conftest import features
from tests.speech import real_data


def rows(kind: str, count: int) -> list[Utterance]:
    return [Utterance(f"{kind[0]}{i:03d}", Path("x"), "dev", kind=kind) for i in range(count)]


def searched(
    queries: Sequence[Frames],
    documents: Sequence[Frames],
    matches: dict[str, set[str]] | None = None,
) -> tuple[Search, Any]:
    """The search and its frames."""
    asked, held = rows("query", len(queries)), rows("utterance", len(documents))
    frames = dict(zip([r.id for r in (*asked, *held)], [*queries, *documents], strict=True))
    truth = {q.id: frozenset((matches or {}).get(q.id, set())) for q in asked}
    return Search(asked, held, truth), lambda row: frames[row.id]


def test_moments_of_all_frames_at_once(rng: np.random.Generator) -> None:
    parts = [features(rng, int(n)) for n in (3, 1, 50, 7)]
    for part in parts:
        part[:, 5] = 0.3  # constant
    moments = Moments(iter(parts))
    together = np.concatenate(parts).astype(np.float64)
    np.testing.assert_allclose(moments.mean, together.mean(0), rtol=1e-12)
    wanted = together.std(0, ddof=1)
    wanted[5] = 1e-9
    np.testing.assert_allclose(moments.deviation, wanted, rtol=1e-9)
    standard = (parts[2] - together.mean(0)) / wanted
    standard[:, 5] = 0
    standard /= np.linalg.norm(standard, axis=1, keepdims=True)
    np.testing.assert_allclose(matching._unit(parts[2], moments), standard, atol=1e-5)
    assert not np.allclose(moments.deviation, together.std(0))  # control: the biased one is another


def test_a_planted_copy_wins(rng: np.random.Generator) -> None:
    queries = [features(rng, n) for n in (25, 40, 4)]
    documents = [features(rng, n) for n in (100, 140, 90, 120, 60)]
    documents[3][50:75] = queries[0]
    documents[1][30:70] = queries[1]
    scores = normalised(match(queries, lambda: documents, min_frames=5))
    assert scores[:2].argmax(1).tolist() == [3, 1]
    np.testing.assert_allclose(scores[:2].mean(1), 0, atol=1e-12)
    np.testing.assert_allclose(scores[:2].std(1), 1, rtol=1e-12)
    assert (scores[2] == 0).all()  # four frames
    assert match(queries, lambda: documents, min_frames=4)[2].any()  # control


def test_all_queries_too_short(rng: np.random.Generator) -> None:
    queries, documents = [features(rng, 2)], [features(rng, 30)] * 3
    assert (normalised(match(queries, lambda: documents, min_frames=5)) == 0).all()


@pytest.fixture
def expert(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """s3prl's own expert; its reader of recordings needs a part of torchaudio that is gone."""
    absent = ModuleType("torchaudio.sox_effects")
    absent.apply_effects_file = None  # type: ignore[attr-defined]
    if "torchaudio.sox_effects" not in sys.modules:
        monkeypatch.setitem(sys.modules, "torchaudio.sox_effects", absent)
    module = importlib.import_module("s3prl.downstream.quesst14_dtw.expert")
    settings = {
        "max_workers": 1, "feature_normalization": True, "silence_frame": None, "datarc": {},
        "dtwrc": {
            "dist_method": "cosine_exp", "minmax_norm": True, "step_pattern": "asymmetric",
            "subsequence": True,
        },
    }  # fmt: skip
    return module.DownstreamExpert(32, settings, str(tmp_path))


def by_s3prl(
    expert: Any, names: tuple[list[str], list[str]], frames: Sequence[Frames]
) -> NDArray[np.float64]:
    """Normalised scores [queries, documents] as s3prl writes them."""
    expert.test_dataset = SimpleNamespace(n_queries=len(names[0]))
    records: dict[str, list[Any]] = {"features": [], "audio_names": []}
    expert("dev", [torch.from_numpy(f) for f in frames], [*names[0], *names[1]], records)
    expert.log_records("dev", records)
    tree = ET.parse(expert.expdir / "benchmark.stdlist.xml").getroot()
    found = {q.get("termid"): {t.get("file"): t for t in q} for q in tree}
    for own in found.values():
        for term in own.values():
            score = float(term.get("score"))
            assert (term.get("decision") == "YES") == (score > 2.0)
    return np.array([[float(found[q][d].get("score")) for d in names[1]] for q in names[0]])


def sweep(scores: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """MTWV x 100 in plain loops over every score as a threshold."""
    best = 0.0
    for threshold in np.unique(scores):
        values = []
        for row, own in zip(scores, truth, strict=True):
            if own.any():
                miss = np.mean(row[own] < threshold)
                alarm = np.mean(row[~own] >= threshold)
                values.append(1 - miss - 12.49 * alarm)
        best = max(best, 100 * float(np.mean(values)))
    return best


def compare(
    expert: Any, queries: Sequence[Frames], documents: Sequence[Frames], truth: NDArray[np.bool_]
) -> None:
    """Raw scores to 1e-5, the same ranking, the same MTWV; scores as written to the last digit."""
    names = [
        [r.id for r in rows("query", len(queries))],
        [r.id for r in rows("utterance", len(documents))],
    ]
    matches = {q: {names[1][d] for d in np.flatnonzero(truth[i])} for i, q in enumerate(names[0])}
    search, frames = searched(queries, documents, matches)
    task = QbE(QbEOptions())
    predictions = task.search(search, frames)
    theirs = by_s3prl(expert, (names[0], names[1]), [*queries, *documents])
    module = importlib.import_module("s3prl.downstream.quesst14_dtw.expert")
    together = torch.cat([torch.from_numpy(f) for f in (*queries, *documents)])
    mean, std = together.mean(0), together.std(0).clamp(1e-9)
    settings = {"step_pattern": "asymmetric", "keep_internals": False, "distance_only": False}
    settings |= {"open_begin": True, "open_end": True}
    raw = match(queries, lambda: documents, min_frames=5)
    for q, query in enumerate(queries):
        for d, document in enumerate(documents):
            x, y = (((torch.from_numpy(f) - mean) / std).numpy() for f in (query, document))
            if len(x) >= 5:
                *_, wanted = module.match(x, y, "", "", module.cosine_exp, True, settings)
                assert raw[q, d] == pytest.approx(wanted, abs=1e-5)
    by_query = []
    for q, row in enumerate(predictions):
        found = dict(line.rsplit(" ", 1) for line in row.hypothesis.splitlines())
        by_query.append([float(found[name]) for name in names[1]])
        if len(queries[q]) >= 5:
            # Rounded to four decimals, so equal scores may be in either order.
            order = [names[1].index(line.rsplit(" ", 1)[0]) for line in row.hypothesis.splitlines()]
            assert (np.diff(theirs[q][order]) <= 1.01e-4).all()
    np.testing.assert_allclose(by_query, theirs, atol=1.01e-4)
    same = [
        Prediction(q, reference_text(matches[q]), hypothesis_text(names[1], theirs[i]))
        for i, q in enumerate(names[0])
    ]
    assert MTWV.value(predictions) == pytest.approx(MTWV.value(same), abs=1e-9)
    assert MTWV.value(same) == pytest.approx(sweep(theirs, truth), abs=1e-9)
    assert MAP.value(predictions) == pytest.approx(MAP.value(same), abs=0.5)


def test_s3prl_on_made_features(rng: np.random.Generator, expert: Any) -> None:
    queries = [features(rng, n) for n in (12, 30, 55, 4, 5)]
    documents = [features(rng, int(n)) for n in rng.integers(8, 200, 14)]
    for d, q in ((2, 0), (5, 1), (9, 2)):
        documents[d] = np.concatenate(
            [documents[d], queries[q] + 0.1 * features(rng, len(queries[q]))]
        )
    truth = rng.random((5, 14)) < 0.2
    truth[0, 2] = truth[1, 5] = truth[2, 9] = truth[3, 0] = True
    compare(expert, queries, documents, truth)


def test_s3prl_on_recorded_speech(expert: Any) -> None:
    """Spectra of 12 keywords and 20 recordings, by an s3prl upstream."""
    from ssft_bench.audio import read_utterance
    from ssft_bench.corpora.keywords import Keywords
    from ssft_bench.upstream import load_upstream

    corpus = Keywords(real_data("keywords"))
    asked, held = corpus.queries("dev")[::4], corpus.documents("dev")[::10]
    upstream = load_upstream("fbank", {})
    found = []
    for row in (*asked, *held):
        hidden = upstream([torch.from_numpy(read_utterance(row))])
        found.append(hidden.states[0][0, : int(hidden.lengths[0])].numpy())
    truth = np.array([[q.text == d.text for d in held] for q in asked])
    assert len(asked) >= 3
    assert len(held) >= 10
    compare(expert, found[: len(asked)], found[len(asked) :], truth)


def unit_as_it_is(frames: Frames) -> Frames:
    return np.asarray(frames / np.linalg.norm(frames, axis=1, keepdims=True))


def test_features_as_they_are_would_be_seen(rng: np.random.Generator, monkeypatch: Any) -> None:
    """Negative control: without standardising, scores are others by far."""
    queries = [features(rng, 30)]
    documents = [features(rng, 100) for _ in range(6)]
    right = match(queries, lambda: documents, min_frames=5)
    monkeypatch.setattr(matching, "_unit", lambda frames, moments: unit_as_it_is(frames))
    assert np.abs(match(queries, lambda: documents, min_frames=5) - right).max() > 1e-3
