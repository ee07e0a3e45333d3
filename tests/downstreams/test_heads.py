"""Heads: sizes, padding, and the LSTM against torch's own bidirectional one on packed sequences."""

from __future__ import annotations

import secrets

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ssft_bench.downstreams.asr.task import ASR, ASROptions
from ssft_bench.downstreams.heads import LinearHead, LSTMHead, reorder, reversal
from ssft_bench.downstreams.pr.task import PR, PROptions

SEEDS = [1, secrets.randbelow(2**31)]


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("dim", "expected"), [(768, 42_828_832), (1024, 43_090_976)])
def test_asr_parameters(dim: int, expected: int) -> None:
    with torch.device("meta"):
        assert parameters(ASR(ASROptions()).head(dim)) == expected


@pytest.mark.parametrize(
    ("dim", "phone_set", "expected"),
    [(768, "superb71", 215_882), (1024, "superb71", 281_418), (768, "arpabet39", 207_658)],
)
def test_pr_parameters(dim: int, phone_set: str, expected: int) -> None:
    assert parameters(PR(PROptions(), phone_set).head(dim)) == expected


def packed(head: LSTMHead, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The same weights in torch's bidirectional LSTM over packed sequences."""
    x = head.project(x)
    for ahead, back in zip(head.forwards, head.backwards, strict=True):
        both = nn.LSTM(ahead.input_size, ahead.hidden_size, bidirectional=True, batch_first=True)
        weights = {f"{k}_reverse": v for k, v in back.state_dict().items()}
        both.load_state_dict({**ahead.state_dict(), **weights})
        out, _ = both(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        x, _ = pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])
    return head.output(x)


@pytest.mark.parametrize("seed", SEEDS)
def test_lstm_equals_packed_bidirectional_lstm(seed: int) -> None:
    torch.manual_seed(seed)
    head = LSTMHead(7, 5, project_dim=6, hidden_dim=4, layers=3, dropout=0.2).eval()
    x, lengths = torch.randn(4, 11, 7), torch.tensor([11, 3, 1, 8])
    logits, out_lengths = head(x, lengths)
    expected = packed(head, x, lengths)
    assert torch.equal(out_lengths, lengths)
    for row, other, n in zip(logits, expected, lengths.tolist(), strict=True):
        torch.testing.assert_close(row[:n], other[:n], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", [LSTMHead, LinearHead])
@pytest.mark.parametrize("seed", SEEDS)
def test_padded_batch_equals_single_utterances(kind: type[nn.Module], seed: int) -> None:
    """Whatever lies in the padding, it does not reach an utterance."""
    torch.manual_seed(seed)
    head = kind(6, 5).eval() if kind is LinearHead else LSTMHead(6, 5, 8, 8).eval()
    x, lengths = 100 * torch.randn(3, 9, 6), torch.tensor([9, 4, 6])
    batch, _ = head(x, lengths)
    for i, n in enumerate(lengths.tolist()):
        single, _ = head(x[i : i + 1, :n], lengths[i : i + 1])
        torch.testing.assert_close(batch[i, :n], single[0], atol=1e-5, rtol=1e-5)


def test_plain_flip_would_fail() -> None:
    """Negative control: turning the padded batch round as a whole lets padding in."""
    x, lengths = torch.arange(6.0).view(1, 6, 1), torch.tensor([4])
    order = reversal(lengths, 6)
    assert reorder(x, order).flatten().tolist() == [3, 2, 1, 0, 4, 5]
    assert torch.equal(reorder(reorder(x, order), order), x)
    assert not torch.equal(reorder(x, order), x.flip(1))


def test_dropout_only_in_training() -> None:
    head = LSTMHead(6, 5, 8, 8, dropout=0.5)
    x, lengths = torch.randn(2, 9, 6), torch.tensor([9, 9])
    assert not torch.equal(head(x, lengths)[0], head(x, lengths)[0])
    head.eval()
    assert torch.equal(head(x, lengths)[0], head(x, lengths)[0])


@pytest.mark.parametrize("stack", [1, 2, 3, 7])
def test_joined_frames_equal_s3prl(stack: int) -> None:
    from s3prl.downstream.asr.model import downsample

    from ssft_bench.downstreams.heads import stacked

    x = torch.randn(3, 20, 5)
    lengths = torch.tensor([20, 15, 8])
    mine, mine_lengths = stacked(x, lengths, stack)
    theirs, their_lengths = downsample(x, lengths, stack, "concat")
    assert torch.equal(mine, theirs)
    assert torch.equal(mine_lengths, their_lengths)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(stacked(x.flip(1), lengths, stack)[0], theirs)


def test_a_recording_shorter_than_a_joined_frame_keeps_one() -> None:
    head = ASR(ASROptions(project_dim=4, hidden_dim=3, layers=1, total_rate=1280)).head(6, 160)
    logits, lengths = head(torch.randn(2, 5, 6), torch.tensor([5, 2]))
    assert logits.shape == (2, 1, 32)
    assert lengths.tolist() == [1, 1]
