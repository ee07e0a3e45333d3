"""CTC: greedy decoding, the frames a target needs, the loss against a sum over all alignments."""

from __future__ import annotations

import itertools
import math
import secrets

import pytest
import torch

from ssft_bench.downstreams.asr.task import ASR, BLANK, SYMBOLS, ASROptions, spell
from ssft_bench.downstreams.ctc import ctc_loss, greedy, min_frames
from ssft_bench.downstreams.pr.task import PR, PROptions

SEEDS = [1, 2, secrets.randbelow(2**31)]


def logits_of(path: list[int], classes: int) -> torch.Tensor:
    """Logits [1,T,V] whose best path is `path`."""
    return torch.nn.functional.one_hot(torch.tensor([path]), classes).float()


def asr_says(symbols: list[str]) -> str:
    path = [SYMBOLS.index(s) for s in symbols]
    return ASR(ASROptions()).decode(logits_of(path, 32), torch.tensor([len(path)]))[0]


@pytest.mark.parametrize(
    ("symbols", "words"),
    [
        (["A", "A", "A", "B", "B"], "AB"),
        (["A", "<s>", "A"], "AA"),
        (["<s>", "A", "|", "|", "<s>", "|", "B", "|", "</s>"], "A B"),
        (["I", "|", "</s>", "</s>"], "I"),
        (["A", "</s>", "B"], "AB"),
        (["|", "|"], ""),
        (["<s>"] * 7, ""),
        (["Z"], "Z"),
        (["<s>"], ""),
        (["I", "T", "'", "S"], "IT'S"),
    ],
)
def test_greedy_words(symbols: list[str], words: str) -> None:
    assert asr_says(symbols) == words


def test_greedy_phones() -> None:
    task = PR(PROptions())
    symbols = ["<pad>", "AH", "AH", "<pad>", "AH", "K", "<eos>", "<eos>"]
    path = [task.symbols.index(s) for s in symbols]
    lengths = torch.tensor([len(path)])
    assert task.decode(logits_of(path, 42), lengths) == ["AH AH K"]
    assert task.decode(logits_of([0] * 4, 42), torch.tensor([4])) == [""]


def test_frames_past_the_length_are_not_read() -> None:
    logits = logits_of([5, 6, 7, 8], 32).repeat(2, 1, 1)
    assert greedy(logits, torch.tensor([2, 4]), 0) == [[5, 6], [5, 6, 7, 8]]
    assert greedy(logits, torch.tensor([0, 1]), 0) == [[], [5]]


def test_wrong_blank_is_noticed() -> None:
    """Negative control: s3prl's ASR blank is `<s>`, not `<pad>`."""
    path = [SYMBOLS.index(s) for s in ("A", "<s>", "A")]
    wrong = greedy(logits_of(path, 32), torch.tensor([3]), SYMBOLS.index("<pad>"))[0]
    assert spell(wrong) != asr_says(["A", "<s>", "A"])


@pytest.mark.parametrize("seed", SEEDS)
def test_encoded_targets_decode_to_the_reference(seed: int) -> None:
    """Every label on a frame of its own, blanks between: decoding gives the text back."""
    from ssft_bench.corpora.manifest import Utterance

    rng = torch.Generator().manual_seed(seed)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ'"
    draw = torch.randint(0, 27, (4, 5), generator=rng).tolist()
    text = " ".join("".join(letters[i] for i in word) for word in draw)
    u = Utterance("u", None, "train", text=text)  # type: ignore[arg-type]
    task = ASR(ASROptions())
    target = task.encode(u).tolist()
    path = [x for label in target for x in (label, BLANK)]
    assert task.decode(logits_of(path, 32), torch.tensor([len(path)])) == [text]
    assert [SYMBOLS[i] for i in target[-2:]] == ["|", "</s>"]


def alignments(frames: int, target: list[int], classes: int, blank: int) -> list[tuple[int, ...]]:
    """Every path of `frames` labels that collapses to `target`."""
    found = []
    for path in itertools.product(range(classes), repeat=frames):
        merged = [key for key, _ in itertools.groupby(path)]
        if [x for x in merged if x != blank] == target:
            found.append(path)
    return found


@pytest.mark.parametrize("target", [[1], [1, 2], [1, 1], [2, 2, 1], [1, 1, 1]])
def test_min_frames_is_the_shortest_alignment(target: list[int]) -> None:
    need = min_frames(torch.tensor(target))
    assert not alignments(need - 1, target, 3, 0)
    assert alignments(need, target, 3, 0)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("blank", [0, 2])
def test_loss_is_the_sum_over_all_alignments(seed: int, blank: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 5, 3, generator=rng)
    lengths = torch.tensor([5, 3])
    targets = [[1, 1], [1 - blank // 2]]
    expected = 0.0
    for row, frames, target in zip(logits, lengths.tolist(), targets, strict=True):
        p = row.softmax(-1).tolist()
        paths = alignments(frames, target, 3, blank)
        total = sum(math.prod(p[t][k] for t, k in enumerate(path)) for path in paths)
        expected += -math.log(total) / len(target) / 2
    given = [torch.tensor(t) for t in targets]
    assert ctc_loss(logits, lengths, given, blank).item() == pytest.approx(expected, abs=1e-5)


def test_target_order_and_blank_matter() -> None:
    """Negative control: the loss of a well-aligned batch grows when either is wrong."""
    path = [4, 0, 5, 0, 6, 0]
    logits = 8 * logits_of(path, 32)
    target, lengths = torch.tensor([4, 5, 6]), torch.tensor([6])
    good = ctc_loss(logits, lengths, [target], 0)
    assert ctc_loss(logits, lengths, [target.flip(0)], 0) > good + 1
    assert ctc_loss(logits, lengths, [target], 1) > good + 1


def test_too_few_frames_cost_nothing_and_low_precision_is_summed_in_fp32() -> None:
    logits = torch.randn(1, 3, 32, requires_grad=True)
    loss = ctc_loss(logits, torch.tensor([3]), [torch.tensor([4, 4, 4])], 0)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    half = torch.randn(1, 9, 32).bfloat16()
    assert ctc_loss(half, torch.tensor([9]), [torch.tensor([4, 5])], 0).dtype == torch.float32
