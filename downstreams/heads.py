"""Heads: features [B,T,D] and lengths [B] in frames go in, logits [B,T,V] and lengths come out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class LinearHead(nn.Module):
    """`Linear(D, project_dim)`, `Linear(project_dim, V)`, nothing in between.

    SUPERB's PR head: s3prl's `ctc` expert with `FrameLevel`.
    """

    def __init__(self, input_dim: int, output_dim: int, project_dim: int = 256) -> None:
        """`input_dim` D of the features, `output_dim` V classes."""
        super().__init__()
        self.project = nn.Linear(input_dim, project_dim)
        self.output = nn.Linear(project_dim, output_dim)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B,T,V] of features [B,T,D]; the lengths [B] stay as they are."""
        return self.output(self.project(features)), lengths

    __call__: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class LSTMHead(nn.Module):
    """`Linear(D, project_dim)`, bidirectional LSTM layers with dropout after each, `Linear(2H, V)`.

    SUPERB's ASR head: s3prl's `asr` expert with `RNNs`. `stack` neighbouring frames are joined into
    one before the first LSTM (`sample_style: concat` there); SUPERB's recipe leaves it at 1.

    Each direction is an LSTM of its own, and the backward one reads every utterance reversed
    within its length. That equals a bidirectional LSTM over packed sequences, parameter for
    parameter, but packed sequences miss torch's oneDNN kernels and are 4-5 times slower on a CPU.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        project_dim: int = 1024,
        hidden_dim: int = 1024,
        layers: int = 2,
        dropout: float = 0.2,
        stack: int = 1,
    ) -> None:
        """`hidden_dim` H per direction; `dropout` is a probability; `stack` frames become one."""
        super().__init__()
        self.stack = stack
        self.project = nn.Linear(input_dim, project_dim)
        sizes = [project_dim * stack] + [2 * hidden_dim] * (layers - 1)
        self.forwards = nn.ModuleList(nn.LSTM(n, hidden_dim, batch_first=True) for n in sizes)
        self.backwards = nn.ModuleList(nn.LSTM(n, hidden_dim, batch_first=True) for n in sizes)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * hidden_dim, output_dim)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B,T//stack,V] of features [B,T,D]; those past an utterance's length mean nothing."""
        x, lengths = stacked(self.project(features), lengths, self.stack)
        order = reversal(lengths, x.shape[1])
        for ahead, back in zip(self.forwards, self.backwards, strict=True):
            x = torch.cat([ahead(x)[0], reorder(back(reorder(x, order))[0], order)], dim=-1)
            x = self.dropout(x)
        return self.output(x), lengths

    __call__: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class OutputLayer(nn.Module):
    """`Linear(D, V)` and nothing else: fairseq's `wav2vec_ctc`, for upstreams that learn too."""

    def __init__(self, input_dim: int, output_dim: int) -> None:
        """Starts as there: Xavier uniform, bias 0."""
        super().__init__()
        self.output = nn.Linear(input_dim, output_dim)
        nn.init.xavier_uniform_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B,T,V] of features [B,T,D]; the lengths [B] stay as they are."""
        return self.output(features), lengths

    __call__: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class AttentionPoolHead(nn.Module):
    """One vector per utterance by learned attention over its frames, then a two-layer classifier.

    SLUE's sentiment model (`SelfAttnPooler` and `classifier` of slue-toolkit's `wav2vec2_cls.py`):
    weights `softmax_t(Linear(D, 1))`; dropout, `Linear(D, D)`, GELU, dropout, `Linear(D, V)`.
    """

    def __init__(
        self, input_dim: int, output_dim: int, hidden_dim: int | None = None, dropout: float = 0.2
    ) -> None:
        """`hidden_dim` of the classifier, null: D; `dropout` is a probability."""
        super().__init__()
        hidden = input_dim if hidden_dim is None else hidden_dim
        self.attention = nn.Linear(input_dim, 1)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(input_dim, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, output_dim),
        )

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B,1,V] of features [B,T,D], and lengths [B] of 1."""
        real = torch.arange(features.shape[1], device=features.device) < lengths[:, None]
        # fp32 whatever the precision of the head: a softmax over hundreds of frames.
        scores = self.attention(features).squeeze(-1).float().masked_fill(~real, -torch.inf)
        weights = scores.softmax(-1)
        frames = features.float().masked_fill(
            ~real[..., None], 0.0
        )  # 0 x inf in the padding is NaN
        pooled = torch.einsum("bt,btd->bd", weights, frames).to(features.dtype)
        return self.classifier(pooled)[:, None], torch.ones_like(lengths)

    __call__: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def stacked(x: Tensor, lengths: Tensor, stack: int) -> tuple[Tensor, Tensor]:
    """Every `stack` frames of [B,T,D] joined: [B,T//stack,D*stack], and the lengths [B] divided.

    As in s3prl, frames left over at the end are dropped; an utterance shorter than `stack` keeps one,
    filled up with zeros.
    """
    if stack == 1:
        return x, lengths
    x = nn.functional.pad(x, (0, 0, 0, max(0, stack - x.shape[1])))
    frames = x.shape[1] // stack
    joined = x[:, : frames * stack].reshape(len(x), frames, stack * x.shape[2])
    return joined, (lengths // stack).clamp(min=1)


def reversal(lengths: Tensor, frames: int) -> Tensor:
    """Frame indices [B,T] that turn each utterance round and leave its padding where it is.

    Doing it twice gives the original order.
    """
    position = torch.arange(frames, device=lengths.device).expand(len(lengths), frames)
    ends = lengths[:, None]
    return torch.where(position < ends, ends - 1 - position, position)


def reorder(x: Tensor, order: Tensor) -> Tensor:
    """Frames of `x` [B,T,D] in the order of `order` [B,T]."""
    return x.gather(1, order.to(x.device)[:, :, None].expand(-1, -1, x.shape[2]))
