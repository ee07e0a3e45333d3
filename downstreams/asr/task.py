"""SUPERB's automatic speech recognition: a BiLSTM over the features, letters by CTC, no LM.

Yang et al., "SUPERB" (Interspeech 2021) §3.1; numbers and details as s3prl 0.4.18 runs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.downstreams.edit_distance import error_rate_metric
from ssft_bench.downstreams.letters import (
    BLANK,
    END,
    LETTERS,
    SPECIALS,
    LetterOptions,
    LetterTask,
    check_text,
    read_words,
)
from ssft_bench.downstreams.superb_batches import asr_batches
from ssft_bench.errors import MissingError
from ssft_bench.metric import Metric
from ssft_bench.upstream import SAMPLE_RATE

__all__ = ["ASR", "BLANK", "END", "SYMBOLS", "ASROptions", "spell"]

SYMBOLS = (*SPECIALS, *LETTERS)
"""The 32 outputs."""


class ASROptions(LetterOptions):
    """Sizes of the head and the augmentation; the defaults are SUPERB's."""


class ASR(LetterTask):
    """Letters with `|` for the gap between words; blank is `<s>`, targets end in `| </s>`."""

    name = "asr"
    metrics: ClassVar[tuple[Metric, ...]] = (
        error_rate_metric("wer", primary=True),
        error_rate_metric("cer", primary=False, characters=True),
    )
    Options = ASROptions
    symbols = SYMBOLS
    ends_in = (END,)

    def prepare(self, splits: Mapping[str, Sequence[Utterance]]) -> None:
        """Check every text. Raises MissingError naming the first utterance that has none, or one
        with other characters than A-Z, apostrophe and single spaces."""
        for split, utterances in splits.items():
            for utterance in utterances:
                check_text(self.name, utterance, split)

    def words(self, utterance: Utterance) -> list[str]:
        """The text's. Raises MissingError where there is none."""
        if not utterance.text:
            raise MissingError(f"asr: utterance '{utterance.id}' has no transcript.")
        return utterance.text.split()

    def published_batches(
        self, utterances: Sequence[Utterance], seconds: Sequence[float]
    ) -> list[list[int]]:
        """SUPERB's batches of one pass, as indices of the rows; see `asr_batches`."""
        return asr_batches([round(s * SAMPLE_RATE) for s in seconds])


def spell(path: Sequence[int]) -> str:
    """Words of a path of output indices without blanks and repeats."""
    return " ".join(read_words(path, SYMBOLS, {END}))
