"""What tasks that spell words by CTC have in common: letters as outputs, head, loss, decoding."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.downstreams.beam_search import beam_search
from ssft_bench.downstreams.ctc import CTCTask, greedy
from ssft_bench.downstreams.heads import LSTMHead, OutputLayer
from ssft_bench.downstreams.specaugment import SpecAugment
from ssft_bench.errors import MissingError
from ssft_bench.language_model import LanguageModelSpec
from ssft_bench.task import TaskOptions

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
"""First outputs, in fairseq's order; `<s>` is CTC's blank."""
GAP = "|"
"""Ends every word."""
LETTERS = f"{GAP}ETAONIHSRDLUMCWFGYPBVK'XJQZ"
"""Gap and letters, by frequency in LibriSpeech, as in s3prl's `char.dict`."""
BLANK = SPECIALS.index("<s>")
END = SPECIALS.index("</s>")
_TEXT = re.compile(r"[A-Z']+(?: [A-Z']+)*")


class LetterOptions(TaskOptions):
    """The head and the augmentation; the defaults are those of SUPERB's ASR."""

    project_dim: int = Field(default=1024, ge=1)
    """Width of the first linear layer."""
    hidden_dim: int = Field(default=1024, ge=1)
    """LSTM cells per direction and layer."""
    total_rate: int | None = Field(default=None, ge=1)
    """Samples at 16 kHz from one output to the next, by joining frames; null: as the features."""
    layers: int = Field(default=2, ge=0)
    """Bidirectional LSTM layers; 0: the head is one linear layer, as fairseq fine-tunes with CTC."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout after each LSTM layer."""
    specaugment: SpecAugment | None = SpecAugment()
    """Augmentation of the features in training; null switches it off."""


class LetterTask(CTCTask):
    """Words spelled by CTC, `|` after each; blank is `<s>`. A subclass says which words."""

    size_options = ("hidden_dim", "project_dim")
    Options = LetterOptions
    options: LetterOptions
    ends_in: ClassVar[tuple[int, ...]] = ()
    """Outputs that follow the last `|` of a target."""

    @property
    @abstractmethod
    def symbols(self) -> tuple[str, ...]:
        """All outputs, SPECIALS first."""

    @abstractmethod
    def words(self, utterance: Utterance) -> list[str]:
        """What an utterance is spelled as, each word made of `symbols`."""

    def line(self, words: Sequence[str]) -> str:
        """Words as references, hypotheses and metrics have them."""
        return " ".join(words)

    def reference(self, utterance: Utterance) -> str:
        """The line of the utterance's words."""
        return self.line(self.words(utterance))

    def encode(self, utterance: Utterance) -> Tensor:
        """The words' symbols, `|` after each word, then `ends_in`; int64 [S]."""
        index = {symbol: i for i, symbol in enumerate(self.symbols)}
        spelled = "".join(word + GAP for word in self.words(utterance))
        return torch.tensor([*(index[c] for c in spelled), *self.ends_in])

    def output_stride(self, input_stride: int) -> int:
        """The features' stride times the number of frames that are joined."""
        return input_stride * self._stack(input_stride)

    def _stack(self, input_stride: int) -> int:
        if self.options.layers == 0:
            return 1
        return max(1, round((self.options.total_rate or input_stride) / input_stride))

    def head(self, input_dim: int, input_stride: int = 320) -> nn.Module:
        """`LSTMHead` or `OutputLayer`: [B,T,D] to [B,T',V]."""
        o = self.options
        if o.layers == 0:
            return OutputLayer(input_dim, len(self.symbols))
        sizes = (o.project_dim, o.hidden_dim, o.layers)
        return LSTMHead(input_dim, len(self.symbols), *sizes, o.dropout, self._stack(input_stride))

    def decode(self, logits: Tensor, lengths: Tensor) -> list[str]:
        """Lines of the greedy words; `</s>` is dropped wherever it is, as s3prl does."""
        paths = greedy(logits, lengths, BLANK)
        return [self.line(read_words(path, self.symbols, {END})) for path in paths]

    def beam_search(
        self, spec: LanguageModelSpec, train: Sequence[Utterance]
    ) -> Callable[[Tensor, Tensor], list[str]]:
        """Lines of the best words by letters and n-gram, see `beam_search.beam_search`.

        `</s>` is in no spelling: as in s3prl, a frame on it counts as blank or gap.
        """
        heard = {word for utterance in train for word in self.words(utterance)}
        search = beam_search(spec, self.symbols, heard, blank=self.symbols[BLANK], gap=GAP)
        return lambda logits, lengths: [self.line(words) for words in search(logits, lengths)]

    def augment(self, features: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
        """SpecAugment, see there."""
        augment = self.options.specaugment
        return features if augment is None else augment(features, lengths, generator)

    def describe(self) -> dict[str, Any]:
        """Outputs, blank and decoding."""
        return {
            "outputs": len(self.symbols),
            "blank": self.symbols[BLANK],
            "decoding": "greedy, no LM",
        }


def check_text(task: str, utterance: Utterance, split: str) -> None:
    """Raises MissingError naming an utterance that has no text, or one with other characters than
    A-Z, apostrophe and single spaces."""
    if not utterance.text:
        raise MissingError(
            f"{task} needs a transcript, but utterance '{utterance.id}' ({split}) has none. "
            "Add it to the corpus' transcripts, or take the recording out."
        )
    if not _TEXT.fullmatch(utterance.text):
        wrong = "".join(sorted(set(re.sub(r"[A-Z' ]", "", utterance.text)))) or "extra spaces"
        raise MissingError(
            f"{task} cannot spell the transcript of utterance '{utterance.id}' ({split}): only "
            f"A-Z, apostrophe and single spaces between words are known, found "
            f"{wrong!r} in {utterance.text!r}. Normalise the transcript."
        )


def read_words(path: Sequence[int], symbols: Sequence[str], dropped: Collection[int]) -> list[str]:
    """Words of a path of output indices without blanks and repeats; `dropped` ones are left out."""
    return "".join(symbols[i] for i in path if i not in dropped).replace(GAP, " ").split()
