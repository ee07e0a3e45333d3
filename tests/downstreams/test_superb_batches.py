"""SUPERB's batches against s3prl's loaders, and against the length-bucketed ones of ours."""

from __future__ import annotations

import secrets
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.downstreams.asr.task import ASR, ASROptions
from ssft_bench.downstreams.pr.task import PR, PROptions
from ssft_bench.downstreams.superb_batches import asr_batches, pr_batches
from ssft_bench.features import bucket
from tests.downstreams.s3prl_runs import without_editdistance

SEEDS = [1, secrets.randbelow(2**31)]
TRAIN_CLEAN_100 = 28_539


def lengths(count: int, seed: int, low: int = 22_000, high: int = 392_000) -> list[int]:
    """Different lengths in samples: s3prl sorts equal ones in no fixed order."""
    drawn = torch.randperm(high - low, generator=torch.Generator().manual_seed(seed))[:count] + low
    found: list[int] = drawn.tolist()
    return found


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("count", "low", "high"), [(139, 22_000, 390_000), (193, 1_700, 2_300)])
def test_asr_batches_are_those_of_s3prls_dataset(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seed: int, count: int, low: int, high: int
) -> None:
    without_editdistance(monkeypatch)
    from s3prl.downstream.asr.dataset import SequenceDataset

    samples = lengths(count, seed, low, high)
    folder = tmp_path / "train-clean-100/19/198"
    folder.mkdir(parents=True)
    names = [f"19-198-{i:04d}" for i in range(count)]
    (folder / "19-198.trans.txt").write_text("".join(f"{name} A\n" for name in names))
    rows = [f"train-clean-100/19/198/{name}.flac,{n}\n" for name, n in zip(names, samples)]  # noqa: B905
    (tmp_path / "train-clean-100.csv").write_text("file_path,length\n" + "".join(rows))
    dictionary = SimpleNamespace(encode_line=lambda line, line_tokenizer: torch.zeros(1))
    theirs = SequenceDataset(
        "train", 32, dictionary, str(tmp_path), str(tmp_path), train=["train-clean-100"]
    )
    ours = asr_batches(samples)
    assert [[names[i] for i in batch] for batch in ours] == [
        [Path(file).stem for file in batch] for batch in theirs.X
    ]
    sizes = {len(batch) for batch in ours}
    assert sizes == ({16, 11} if low > 2000 else {16, 32})  # 139 = 4 * 32 + 11; 193 = 6 * 32 + 1


def test_superbs_batch_of_32_is_one_of_16() -> None:
    samples = lengths(TRAIN_CLEAN_100, 1)
    batches = asr_batches(samples)
    assert len(batches) == 1_783
    assert [len(batch) for batch in batches] == [16] * 1_782 + [27]
    assert sorted(i for batch in batches for i in batch) == list(range(TRAIN_CLEAN_100))
    assert {len(b) for b in asr_batches([2000] * 64)} == {32}  # an eighth of a second: not halved
    assert asr_batches([9, 8, 7]) == [[0, 1, 2]]
    assert asr_batches([9]) == []


def test_length_buckets_of_16_come_close() -> None:
    """`data.batch_size: 16`, ours: the 27 shortest are 16 and 11, so there is one batch more."""
    seconds = [n / 16_000 for n in lengths(TRAIN_CLEAN_100, 1)]
    in_order = bucket(seconds, batch_size=16, batch_seconds=None, generator=None)
    published = asr_batches([round(16_000 * s) for s in seconds])
    assert in_order[:1_782] == published[:1_782]
    assert in_order[1_782] + in_order[1_783] == published[1_782]
    assert len(in_order) == 1_784
    # Negative control: 32, as the configuration says, halves the number of updates in a pass.
    assert len(bucket(seconds, batch_size=32, batch_seconds=None, generator=None)) == 892


@pytest.mark.parametrize("seed", SEEDS)
def test_pr_batches_are_cut_as_s3prls(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    import torchaudio
    from s3prl.downstream.ctc.data import collect_audio_batch

    draw = torch.Generator().manual_seed(seed)
    samples = lengths(60, seed, 290_000, 310_000)
    phones = torch.randint(20, 50, (60,), generator=draw).tolist()
    monkeypatch.setattr(
        torchaudio, "load", lambda file: (torch.zeros(1, samples[int(file)]), 16_000)
    )
    # Most phones first; those with as many stay in their order, as Python's sort leaves them.
    order = sorted(range(60), key=lambda i: phones[i], reverse=True)
    found = pr_batches(phones, samples)
    assert len(found) == 60
    halved = 0
    for place, batch in enumerate(found):
        window = order[place : place + 16] if place < 44 else order[44:]
        waves, _, names = collect_audio_batch([[(str(i), [0]) for i in window]], "train")
        assert sorted(batch) == sorted(map(int, names))
        assert sorted(samples[i] for i in batch) == sorted(map(len, waves))
        assert batch == window[: len(batch)]
        halved += len(batch) == 8
    assert 0 < halved < 60
    assert all(batch == found[44] for batch in found[44:])


def test_pr_batches_of_a_small_corpus() -> None:
    assert pr_batches([3, 5, 4], [9, 9, 9]) == [[1, 2, 0]] * 3
    assert {len(b) for b in pr_batches([1] * 40, [300_000] * 40)} == {16}
    assert {len(b) for b in pr_batches([1] * 40, [300_001] * 40)} == {8}


def test_tasks_give_them_in_seconds() -> None:
    seconds = [20.0, 3.0, 2.0, 4.0]
    rows = [
        Utterance(str(i), Path(), "train", phones=("AH",) * n) for i, n in enumerate((9, 7, 8, 6))
    ]
    assert PR(PROptions()).published_batches(rows, seconds) == [[0, 2]] * 4
    assert ASR(ASROptions()).published_batches(rows, seconds) == [[0, 3, 1, 2]]
