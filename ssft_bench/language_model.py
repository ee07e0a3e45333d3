"""Which word n-gram helps in decoding, and how much it has to say."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ssft_bench.digests import file_digests
from ssft_bench.errors import MissingError
from ssft_bench.files import sha256_json


class LanguageModelSpec(BaseModel):
    """A KenLM n-gram over words, a lexicon that spells them, and the weights of the beam search.

    The score of a hypothesis is the sum over frames of the best alignment's log probabilities (natural
    logarithm), plus `lm_weight` times the n-gram's log10 probability, plus `word_score` for each word.
    Defaults are s3prl's for SUPERB's ASR (`downstream/asr/config.yaml`, datarc.decoder_args).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    """The n-gram: an ARPA file, or KenLM's binary of one. Its bytes count in the signature, not the path."""
    lexicon: str | None = None
    """Words and their letters, `WORD W O R D |` a line; null: the words of the training transcripts."""
    beam_size: int = Field(default=5, ge=1)
    """Hypotheses kept after each frame."""
    beam_threshold: float = Field(default=25.0, gt=0)
    """Hypotheses this far below the best one are dropped."""
    beam_size_token: int | None = Field(default=None, ge=1)
    """Outputs tried in each frame, the likeliest first; null for all of them."""
    lm_weight: float = 2.0
    """Weight of the n-gram's log10 probability."""
    word_score: float = -1.0
    """Added for each word; above 0 it favours many short words."""
    sil_score: float = 0.0
    """Added for each frame of silence."""
    silence: Literal["gap", "blank"] = "gap"
    """What may fill the time between two words: any frames of gap (`|`) and blank, or, as in older
    decoders, blanks beside the one frame of gap that ends a word."""
    unk_score: float | None = None
    """Added for each `<unk>` that stands for letters outside the lexicon; null: minus infinity, none."""

    def check(self) -> None:
        """Raises MissingError for a file that is not there."""
        if not Path(self.path).is_file():
            raise MissingError(
                f"--lm {self.path}: there is no such file. `ssft-bench lm make` estimates an n-gram from "
                "text; SUPERB's is LibriSpeech's official 4-gram (openslr.org/11)."
            )
        if self.lexicon is not None and not Path(self.lexicon).is_file():
            raise MissingError(
                f"--lexicon {self.lexicon}: there is no such file; without --lexicon the words of the "
                "training split are taken"
            )

    def sha256(self) -> str:
        """Digest over the bytes of both files. Raises MissingError for one that is not there."""
        self.check()
        paths = [None if name is None else Path(name) for name in (self.path, self.lexicon)]
        digests = file_digests([path for path in paths if path is not None])
        return sha256_json([path and digests[path] for path in paths])
