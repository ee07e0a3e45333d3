"""SUPERB's automatic speech recognition: a BiLSTM over the features, letters by CTC, no LM.

Yang et al., "SUPERB" (Interspeech 2021) §3.1; numbers and details as s3prl 0.4.18 runs it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.downstreams.ctc import ctc_loss, greedy, min_frames
from ssft_bench.downstreams.edit_distance import error_rate_metric
from ssft_bench.downstreams.heads import LSTMHead
from ssft_bench.downstreams.specaugment import SpecAugment
from ssft_bench.errors import MissingError
from ssft_bench.metric import Metric
from ssft_bench.task import Task, TaskOptions

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
SYMBOLS = (*SPECIALS, *"|ETAONIHSRDLUMCWFGYPBVK'XJQZ")
"""The 32 outputs; letters by frequency in LibriSpeech, as in s3prl's `char.dict`."""
BLANK = SYMBOLS.index("<s>")
END = SYMBOLS.index("</s>")
_TEXT = re.compile(r"[A-Z']+(?: [A-Z']+)*")


class ASROptions(TaskOptions):
    """Sizes of the head and the augmentation; the defaults are SUPERB's."""

    project_dim: int = Field(default=1024, ge=1)
    """Width of the first linear layer."""
    hidden_dim: int = Field(default=1024, ge=1)
    """LSTM cells per direction and layer."""
    total_rate: int | None = Field(default=None, ge=1)
    """Samples at 16 kHz from one output to the next, by joining frames; null: as the features."""
    layers: int = Field(default=2, ge=1)
    """Bidirectional LSTM layers."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout after each LSTM layer."""
    specaugment: SpecAugment | None = SpecAugment()
    """Augmentation of the features in training; null switches it off."""


class ASR(Task):
    """Letters with `|` for the gap between words; blank is `<s>`, targets end in `| </s>`."""

    name = "asr"
    size_options = ("hidden_dim", "project_dim")
    metrics: ClassVar[tuple[Metric, ...]] = (
        error_rate_metric("wer", primary=True),
        error_rate_metric("cer", primary=False, characters=True),
    )
    Options = ASROptions
    options: ASROptions

    def prepare(self, splits: Mapping[str, Sequence[Utterance]]) -> None:
        """Check every text. Raises MissingError naming the first utterance that has none, or one
        with other characters than A-Z, apostrophe and single spaces."""
        for split, utterances in splits.items():
            for u in utterances:
                if not u.text:
                    raise MissingError(
                        f"asr needs a transcript, but utterance '{u.id}' ({split}) has none. "
                        "Add it to the corpus' transcripts, or take the recording out."
                    )
                if not _TEXT.fullmatch(u.text):
                    wrong = "".join(sorted(set(re.sub(r"[A-Z' ]", "", u.text)))) or "extra spaces"
                    raise MissingError(
                        f"asr cannot spell the transcript of utterance '{u.id}' ({split}): only "
                        f"A-Z, apostrophe and single spaces between words are known, found "
                        f"{wrong!r} in {u.text!r}. Normalise the transcript."
                    )

    def reference(self, utterance: Utterance) -> str:
        """The text, words separated by single spaces."""
        if not utterance.text:
            raise MissingError(f"asr: utterance '{utterance.id}' has no transcript.")
        return utterance.text

    def encode(self, utterance: Utterance) -> Tensor:
        """Letters, `|` between words, then `| </s>`, int64 [S]."""
        spelled = self.reference(utterance).replace(" ", "|") + "|"
        return torch.tensor([*(SYMBOLS.index(c) for c in spelled), END])

    def output_stride(self, input_stride: int) -> int:
        """The features' stride times the number of frames that are joined."""
        return input_stride * self._stack(input_stride)

    def _stack(self, input_stride: int) -> int:
        return max(1, round((self.options.total_rate or input_stride) / input_stride))

    def head(self, input_dim: int, input_stride: int = 320) -> nn.Module:
        """`LSTMHead` with 32 outputs: [B,T,D] to [B,T',32]."""
        o = self.options
        sizes = (o.project_dim, o.hidden_dim, o.layers)
        return LSTMHead(input_dim, len(SYMBOLS), *sizes, o.dropout, self._stack(input_stride))

    def loss(self, logits: Tensor, lengths: Tensor, targets: Sequence[Tensor]) -> Tensor:
        """CTC, see `ctc_loss`."""
        return ctc_loss(logits, lengths, targets, BLANK)

    def min_frames(self, target: Tensor) -> int:
        """CTC's bound, see `ctc.min_frames`."""
        return min_frames(target)

    def decode(self, logits: Tensor, lengths: Tensor) -> list[str]:
        """Greedy words, `|` to space; as in s3prl, `</s>` is dropped wherever it is."""
        return [spell(path) for path in greedy(logits, lengths, BLANK)]

    def augment(self, features: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
        """SpecAugment, see there."""
        augment = self.options.specaugment
        return features if augment is None else augment(features, lengths, generator)

    def describe(self) -> dict[str, Any]:
        """Outputs, blank and decoding."""
        return {"outputs": len(SYMBOLS), "blank": SYMBOLS[BLANK], "decoding": "greedy, no LM"}


def spell(path: Sequence[int]) -> str:
    """Words of a path of output indices without blanks and repeats."""
    letters = "".join(SYMBOLS[i] for i in path if i != END)
    return " ".join(letters.replace("|", " ").split())
