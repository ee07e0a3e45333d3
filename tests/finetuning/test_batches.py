"""Batches of waveforms: the frozen protocol's buckets, cuts, memory, another order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssft_bench.audio import read_audio
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import MissingError
from ssft_bench.features import TrainBatches
from ssft_bench.finetuning.batches import WaveBatches, Waves
from tests.finetuning.models import fresh
from tests.speech import write


def corpus(folder: Path, rng: np.random.Generator, count: int = 11) -> list[Utterance]:
    """Recordings of 0.3 to 1 s; every third row is a part of its file."""
    rows = []
    for number in range(count):
        path = folder / f"u{number:02d}.flac"
        wave = 0.1 * rng.standard_normal(int(rng.integers(4800, 16000)))
        write(path, wave.astype(np.float32))
        cut = (0.1, 0.25) if number % 3 == 0 else (None, None)
        rows.append(
            Utterance(f"u{number:02d}", path, "train", start=cut[0], end=cut[1], session="a",
                      segment=number)
        )  # fmt: skip
    return rows


def batches(rows: Sequence[Utterance], waves: Any, **options: Any) -> WaveBatches:
    targets = [torch.tensor([number]) for number in range(len(rows))]
    seconds = [len(read_audio(u.audio, u.start, u.end)) / 16000 for u in rows]
    sizes = {"batch_size": 4, "batch_seconds": 2.0, "seed": 3, **options}
    return WaveBatches(rows, targets, seconds, waves, **sizes)


def test_waves_and_targets(tmp_path: Path) -> None:
    """Each utterance once a pass, with its own wave and target; batch i is the same from any start."""
    seed = fresh()
    rows = corpus(tmp_path, np.random.default_rng(seed))
    made = batches(rows, Waves(1.0))
    per_pass = len(made.indices(0))
    seen = list(islice(made(0, 0, 1), 2 * per_pass))
    for first in (1, per_pass - 1, per_pass, per_pass + 1):
        later = next(made(first, 0, 1))
        assert [u.id for u in later.utterances] == [u.id for u in seen[first].utterances], seed
    once = [u.id for batch in seen[:per_pass] for u in batch.utterances]
    assert sorted(once) == [u.id for u in rows]
    assert once != [u.id for batch in seen[per_pass:] for u in batch.utterances], seed
    for batch in seen:
        for wave, row, target in zip(batch.waves, batch.utterances, batch.targets, strict=True):
            wanted = read_audio(row.audio, row.start, row.end)
            assert wave.dtype == torch.float32
            assert np.array_equal(wave.numpy(), wanted)
            assert int(target) == int(row.id[1:])
            assert (row.start is None) == (len(wave) > 4000)


def test_buckets_of_the_frozen_protocol(tmp_path: Path) -> None:
    rows = corpus(tmp_path, np.random.default_rng(fresh()))
    made = batches(rows, Waves(1.0))
    frozen = TrainBatches(
        rows, made.targets, made.seconds, None,  # type: ignore[arg-type]
        batch_size=4, batch_seconds=2.0, seed=3,
    )  # fmt: skip
    assert [made.indices(e) for e in range(4)] == [frozen.indices(e) for e in range(4)]


def test_ranks_share_a_batch(tmp_path: Path) -> None:
    rows = corpus(tmp_path, np.random.default_rng(fresh()))
    made = batches(rows, Waves(1.0), batch_seconds=None)
    place = next(i for i, indices in enumerate(made.indices(0)) if len(indices) == 4)
    whole = next(made(place, 0, 1))
    parts = [next(made(place, rank, 2)) for rank in range(2)]
    assert [u.id for u in parts[0].utterances] == [u.id for u in whole.utterances[0::2]]
    assert [u.id for u in parts[1].utterances] == [u.id for u in whole.utterances[1::2]]


def test_another_order(tmp_path: Path) -> None:
    """An expert's `batches` goes in as it is, with the sizes of the recipe."""
    rows = corpus(tmp_path, np.random.default_rng(fresh()))
    asked: list[dict[str, Any]] = []

    def order(given: Any, seconds: Any, **options: Any) -> list[list[int]]:
        asked.append(options)
        return [[i, (i + 1) % len(given)] for i in range(options["epoch"], len(given))]

    made = batches(rows, Waves(1.0), order=order)
    first = next(made(0, 0, 1))
    assert [u.id for u in first.utterances] == ["u00", "u01"]
    assert asked == [{"batch_size": 4, "batch_seconds": 2.0, "seed": 3, "epoch": 0}]
    assert next(made(len(rows), 0, 1)).utterances[0].id == "u01"  # the second pass starts at 1


def test_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits is read once; what does not is read again, and is the same."""
    rows = corpus(tmp_path, np.random.default_rng(fresh()))
    sizes = [4 * len(read_audio(u.audio, u.start, u.end)) for u in rows]
    reads: list[str] = []

    def counted(utterance: Utterance) -> Any:
        reads.append(utterance.id)
        return read_audio(utterance.audio, utterance.start, utterance.end)

    monkeypatch.setattr("ssft_bench.finetuning.batches.read_utterance", counted)
    waves = Waves((sizes[0] + sizes[1]) / 2**30)
    first = [waves.wave(u) for u in rows[:3]]
    second = [waves.wave(u) for u in rows[:3]]
    assert reads == ["u00", "u01", "u02", "u02"]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"gone\.flac"):
        Waves(1.0).wave(Utterance("x", tmp_path / "gone.flac", "train"))
