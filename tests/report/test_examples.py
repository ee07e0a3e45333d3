"""Chosen utterances, aligned words, and recordings inside the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import correlate

from ssft_bench import registry
from ssft_bench.audio import read_audio
from ssft_bench.corpora.mini_corpus import MiniPhrases
from ssft_bench.data import SPLITS, rows_sha256
from ssft_bench.metric import Prediction
from ssft_bench.report import audio
from ssft_bench.report.audio import Recordings
from ssft_bench.report.collect import Run, collect
from ssft_bench.report.examples import aligned, examples
from tests.report.runs import WORDS, finish, searches, texts


def edits(ours: list[str], theirs: list[str]) -> int:
    """Levenshtein's distance, by the textbook."""
    table = [
        [i + j if i * j == 0 else 0 for j in range(len(theirs) + 1)] for i in range(len(ours) + 1)
    ]
    for i, a in enumerate(ours, 1):
        for j, b in enumerate(theirs, 1):
            table[i][j] = min(
                table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (a != b)
            )
    return table[-1][-1]


def test_alignment_spells_both_and_has_the_fewest_edits(rng: np.random.Generator) -> None:
    metric = registry.load("tasks", "asr").primary()
    for _ in range(60):
        ours, theirs = (rng.choice(WORDS, rng.integers(0, 9)).tolist() for _ in range(2))
        if not ours:
            continue
        pieces = aligned(metric, Prediction("u", " ".join(ours), " ".join(theirs)))
        assert [p.reference for p in pieces if p.reference] == ours
        assert [p.hypothesis for p in pieces if p.hypothesis] == theirs
        assert sum(p.kind != "equal" for p in pieces) == edits(ours, theirs)
        for p in pieces:
            kinds = {(True, True): "equal" if p.reference == p.hypothesis else "substitute",
                     (True, False): "delete", (False, True): "insert"}  # fmt: skip
            assert p.kind == kinds[bool(p.reference), bool(p.hypothesis)]


def test_the_utterances_are_those_in_which_the_runs_differ_most(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    runs = {name: texts(rng, 24, rate) for name, rate in (("hubert_mini", 0.5), ("fbank", 0.2))}
    for name, predictions in runs.items():
        finish(tmp_path, predictions, upstream=name)
    collection = collect(tmp_path)
    found = examples(collection.groups[0], Recordings(), 4)
    assert found is not None
    assert found.kind == "words"
    assert [answer.run.upstream for answer in found.examples[0].answers] == ["hubert_mini", "fbank"]
    spread = {}
    for one, other in zip(*runs.values(), strict=True):
        counts = [edits(p.reference.split(), p.hypothesis.split()) for p in (one, other)]
        spread[one.id] = -abs(counts[0] - counts[1])
    wanted = sorted(spread, key=lambda name: (spread[name], name))[:4]
    assert [example.id for example in found.examples] == wanted


def test_a_single_run_shows_what_is_typical(tmp_path: Path, rng: np.random.Generator) -> None:
    predictions = texts(rng, 24, 0.4)
    finish(tmp_path, predictions)
    found = examples(collect(tmp_path).groups[0], Recordings(), 1)
    assert found is not None
    counts = {p.id: edits(p.reference.split(), p.hypothesis.split()) for p in predictions}
    words = {p.id: len(p.reference.split()) for p in predictions}
    overall = sum(counts.values()) / sum(words.values())
    distance = {name: round(abs(counts[name] / words[name] - overall), 9) for name in counts}
    assert found.examples[0].id == min(distance, key=lambda name: (distance[name], name))


def test_search_tells_hits_from_misses(tmp_path: Path, rng: np.random.Generator) -> None:
    predictions = searches(rng)
    finish(tmp_path, predictions, task="qbe", interface="layer", usage=None)
    found = examples(collect(tmp_path).groups[0], Recordings(), 6)
    assert found is not None
    assert found.kind == "search"
    by_id = {p.id: p for p in predictions}
    for example in found.examples:
        true = set(by_id[example.id].reference.splitlines())
        for piece in example.answers[0].pieces:
            assert (piece.hypothesis.split()[0] in true) == (piece.kind == "hit")
        assert example.clip is not None  # the query, from the embedded corpus


def test_none_are_asked_for_or_none_can_be_read(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = finish(tmp_path, texts(rng, 12, 0.4))
    group = collect(tmp_path).groups[0]
    assert examples(group, Recordings(), 0) is None
    (folder / "predictions.jsonl").unlink()
    assert examples(group, Recordings(), 2) is None


@pytest.fixture
def mini_run(tmp_path: Path) -> Run:
    """A run that was scored on the corpus `mini_phrases` as it is."""
    rows = MiniPhrases().utterances("test")[:6]
    predictions = [Prediction(r.id, r.text or "", "NOTHING", r.speaker) for r in rows]
    digest = rows_sha256([row for split in SPLITS for row in MiniPhrases().utterances(split)])
    content = {"upstream_weights": "w", "corpus": digest}
    finish(tmp_path, predictions, content=content)
    return collect(tmp_path).runs[0]


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Largest normalised cross-correlation, over all shifts."""
    return float(np.abs(correlate(one, other)).max() / np.linalg.norm(one) / np.linalg.norm(other))


def test_a_clip_sounds_like_the_recording(mini_run: Run) -> None:
    row, another = MiniPhrases().utterances("test")[:2]
    clip = Recordings().clips(mini_run, [row.id])[row.id]
    head, _, data = clip.source.partition(",")
    assert head.startswith("data:audio/")
    wave, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
    original = read_audio(row.audio)
    assert rate == 16000
    assert clip.seconds == pytest.approx(len(original) / rate)
    assert likeness(wave, original) > 0.95
    assert likeness(wave, read_audio(another.audio)) < 0.6


def test_the_same_bytes_each_time(mini_run: Run) -> None:
    row = MiniPhrases().utterances("test")[0]
    one, two = (Recordings().clips(mini_run, [row.id])[row.id] for _ in range(2))
    assert one == two


def test_the_budget_is_kept(mini_run: Run) -> None:
    names = [row.id for row in MiniPhrases().utterances("test")[:6]]
    clips = Recordings(budget=20_000).clips(mini_run, names)
    assert 0 < len(clips) < 6
    total = sum(len(base64.b64decode(c.source.partition(",")[2])) for c in clips.values())
    assert total <= 20_000


def test_no_audio_where_the_licence_does_not_let_it_be_passed_on(
    mini_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MiniPhrases, "licence", "as its publishers'")
    mini_run.record.data["licence"] = "as its publishers'"
    recordings = Recordings()
    assert recordings.clips(mini_run, [MiniPhrases().utterances("test")[0].id]) == {}
    assert recordings.remarks(mini_run) == [
        "no audio: the recordings' licence is as its publishers'"
    ]


def test_no_audio_of_another_corpus_of_the_same_name(mini_run: Run) -> None:
    mini_run.record.content["corpus"] = "f" * 64
    recordings = Recordings()
    assert recordings.clips(mini_run, [MiniPhrases().utterances("test")[0].id]) == {}
    assert "is not what the run was scored on" in recordings.remarks(mini_run)[0]


def test_no_audio_where_the_corpus_is_not_at_hand(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSFT_BENCH_DATA", raising=False)
    finish(tmp_path, texts(rng, 12, 0.4), sets=["data.corpus=librispeech"])
    (group,) = collect(tmp_path).groups
    found = examples(group, Recordings(), 1)
    assert found is not None
    assert found.examples[0].clip is None
    assert any("no audio: corpus librispeech" in remark for remark in found.remarks)


def test_formats_are_those_of_the_installed_libsndfile() -> None:
    assert any(name in soundfile.available_formats() for name, _, _ in audio.FORMATS)
