"""SUPERB's phoneme recognition: two linear layers over the features, phones by CTC.

Yang et al., "SUPERB" (Interspeech 2021) §3.1; numbers and details as s3prl 0.4.18 runs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.downstreams.ctc import CTCTask, greedy
from ssft_bench.downstreams.edit_distance import error_rate_metric
from ssft_bench.downstreams.heads import LinearHead
from ssft_bench.downstreams.superb_batches import pr_batches
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.metric import Metric
from ssft_bench.task import TaskOptions
from ssft_bench.upstream import SAMPLE_RATE

# fmt: off
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = ("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S",
              "SH", "T", "TH", "V", "W", "Y", "Z", "ZH")
# fmt: on
SPECIALS = ("<pad>", "<eos>", "<unk>")
BLANK, END = 0, 1

PHONE_SETS: dict[str, tuple[str, ...]] = {
    # As in s3prl's `downstream/ctc/vocab/phoneme.txt`: silence, noise, then by name.
    "superb71": (
        *("SIL", "SPN"),
        *sorted([*CONSONANTS, *(vowel + stress for vowel in VOWELS for stress in "012")]),
    ),
    "arpabet39": tuple(sorted([*CONSONANTS, *VOWELS])),
}
"""Phone inventories by the name a corpus gives: SUPERB's with stress, ARPAbet's without."""


class PROptions(TaskOptions):
    """Size of the head; the default is SUPERB's."""

    project_dim: int = Field(default=256, ge=1)
    """Width between the two linear layers."""


class PR(CTCTask):
    """Phones of the corpus' phone set; blank is `<pad>`, targets end in `<eos>`."""

    name = "pr"
    size_options = ("project_dim",)
    metrics: ClassVar[tuple[Metric, ...]] = (error_rate_metric("per", primary=True),)
    Options = PROptions
    options: PROptions

    def __init__(self, options: TaskOptions, phone_set: str = "arpabet39") -> None:
        """Raises UsageError for a phone set that is not in PHONE_SETS."""
        super().__init__(options, phone_set)
        if phone_set not in PHONE_SETS:
            known = ", ".join(PHONE_SETS)
            raise UsageError(f"pr does not know the phone set '{phone_set}'; known: {known}.")
        self.symbols = (*SPECIALS, *PHONE_SETS[phone_set])
        self._index = {symbol: i for i, symbol in enumerate(self.symbols)}

    def prepare(self, splits: Mapping[str, Sequence[Utterance]]) -> None:
        """Check every phone. Raises MissingError naming the first utterance that has no phones, or
        one outside the phone set."""
        known = set(PHONE_SETS[self.phone_set])
        for split, utterances in splits.items():
            for u in utterances:
                if not u.phones:
                    raise MissingError(f"{_no_phones(u)} {_way_out(self.phone_set)}")
                wrong = sorted(set(u.phones) - known)
                if wrong:
                    raise MissingError(
                        f"pr: utterance '{u.id}' ({split}) has phones that are not in the phone "
                        f"set '{self.phone_set}': {' '.join(wrong)}. Check the corpus' lexicon."
                    )

    def reference(self, utterance: Utterance) -> str:
        """The phones, separated by single spaces."""
        return " ".join(_phones(utterance))

    def encode(self, utterance: Utterance) -> Tensor:
        """Phones, then `<eos>`, int64 [S]."""
        return torch.tensor([*(self._index[p] for p in _phones(utterance)), END])

    def head(self, input_dim: int, input_stride: int = 320) -> nn.Module:
        """`LinearHead` with 3 outputs more than there are phones: [B,T,D] to [B,T,V]."""
        return LinearHead(input_dim, len(self.symbols), self.options.project_dim)

    def decode(self, logits: Tensor, lengths: Tensor) -> list[str]:
        """Greedy phones; as in s3prl, `<eos>` is dropped wherever it is."""
        paths = greedy(logits, lengths, BLANK)
        return [" ".join(self.symbols[i] for i in path if i != END) for path in paths]

    def published_batches(
        self, utterances: Sequence[Utterance], seconds: Sequence[float]
    ) -> list[list[int]]:
        """SUPERB's batches of one pass, as indices of the rows; see `pr_batches`."""
        samples = [round(s * SAMPLE_RATE) for s in seconds]
        return pr_batches([len(_phones(u)) for u in utterances], samples)

    def describe(self) -> dict[str, Any]:
        """Outputs, phone set, blank and decoding."""
        return {
            "outputs": len(self.symbols),
            "phone_set": self.phone_set,
            "blank": SPECIALS[BLANK],
            "decoding": "greedy",
        }


def _phones(utterance: Utterance) -> tuple[str, ...]:
    if not utterance.phones:
        raise MissingError(_no_phones(utterance))
    return utterance.phones


def _no_phones(utterance: Utterance) -> str:
    return f"pr needs phones, but utterance '{utterance.id}' ({utterance.split}) has none."


def _way_out(phone_set: str) -> str:
    if phone_set != "superb71":
        return "Add its words to the corpus' dictionary, or take the recording out."
    return (
        "LibriSpeech gets them from SUPERB's two lexica, librispeech-lexicon-200k-g2p.txt and "
        "librispeech-lexicon-allothers-g2p.txt: copy both from s3prl's repository (folder "
        "s3prl/downstream/ctc/lexicon) into the folder that holds LibriSpeech."
    )
