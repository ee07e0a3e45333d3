"""Decoding of CTC letters with a word n-gram: flashlight-text's lexicon decoder, from torchaudio.

Collobert et al., "Wav2Letter" (2016) §3.3, as s3prl 0.4.18 calls it (`downstream/asr/w2l_decoder.py`):
emissions are log probabilities, equal hypotheses merge by maximum (Viterbi), the n-gram starts after
`<s>` and ends with `</s>`, and a part of a word counts the best unigram that it can become.
"""

from __future__ import annotations

import importlib
import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ssft_bench.errors import MissingError, UsageError
from ssft_bench.language_model import LanguageModelSpec


def beam_search(
    spec: LanguageModelSpec, symbols: Sequence[str], words: Iterable[str], *, blank: str, gap: str
) -> Callable[[Tensor, Tensor], list[list[str]]]:
    """A function of logits [B,T,V] and lengths [B] in frames that gives the words of B utterances.

    `symbols` are the V outputs; among them `blank` is CTC's, and `gap` ends every word. `words` are the
    lexicon where `spec` names none: each is spelled by its characters, so a tag that is one character
    is a word of its own.

    Raises MissingError when a file or the decoder is not there, UsageError for a lexicon that these
    outputs cannot spell or that has no word in common with the n-gram.
    """
    spec.check()
    lexicon = _lexicon(spec, words, gap)
    _check_spellings(spec, lexicon, symbols, gap)
    decoder = _decoder(spec, lexicon, symbols, blank, gap)
    _check_vocabulary(spec, lexicon, decoder)

    def search(logits: Tensor, lengths: Tensor) -> list[list[str]]:
        emissions = logits.float().log_softmax(-1).cpu().contiguous()
        # Not even one hypothesis is left where an emission is NaN.
        return [best[0].words if best else [] for best in decoder(emissions, lengths.cpu().int())]

    return search


Lexicon = list[list[str]]
"""A word and the outputs that spell it, a row; a word may have several rows."""


def _lexicon(spec: LanguageModelSpec, words: Iterable[str], gap: str) -> Lexicon:
    """Of fairseq's file, `WORD W O R D |` a line, or of the words."""
    if spec.lexicon is None:
        return [[word, *word, gap] for word in sorted(set(words))]
    lines = Path(spec.lexicon).read_text(encoding="utf-8").splitlines()
    return [line.split() for line in lines if line.strip()]


def _check_spellings(
    spec: LanguageModelSpec, lexicon: Lexicon, symbols: Sequence[str], gap: str
) -> None:
    where = f"--lexicon {spec.lexicon}" if spec.lexicon else "lexicon of the training transcripts"
    if not lexicon:
        raise UsageError(f"{where}: it has no words")
    known = set(symbols)
    for word, *letters in lexicon:
        wrong = [letter for letter in letters if letter not in known]
        if wrong:
            raise UsageError(f"{where}: '{word}' is spelled with {wrong[0]!r}, which is no output")
        if len(letters) < 2 or letters[-1] != gap:
            raise UsageError(f"{where}: '{word}' has no spelling that ends in {gap}: W O R D {gap}")


def _decoder(
    spec: LanguageModelSpec, lexicon: Lexicon, symbols: Sequence[str], blank: str, gap: str
) -> Any:
    try:
        importlib.import_module("flashlight.lib.text.decoder.kenlm")
        from torchaudio.models.decoder import ctc_decoder
    except ImportError as error:
        raise MissingError(
            f"--lm needs flashlight-text and kenlm: pip install 'ssft-bench[lm]' ({error})"
        ) from error
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lexicon.lst"
        file.write_text("".join(f"{' '.join(row)}\n" for row in lexicon), encoding="utf-8")
        try:
            return ctc_decoder(
                lexicon=str(file),
                tokens=list(symbols),
                lm=spec.path,
                nbest=1,
                beam_size=spec.beam_size,
                beam_size_token=spec.beam_size_token,
                beam_threshold=spec.beam_threshold,
                lm_weight=spec.lm_weight,
                word_score=spec.word_score,
                unk_score=-math.inf if spec.unk_score is None else spec.unk_score,
                sil_score=spec.sil_score,
                log_add=False,
                blank_token=blank,
                sil_token=gap if spec.silence == "gap" else blank,
            )
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise MissingError(f"--lm {spec.path}: KenLM cannot read it: {reason}") from error


def _check_vocabulary(spec: LanguageModelSpec, lexicon: Lexicon, decoder: Any) -> None:
    """Raises UsageError when every word of the lexicon scores as an unknown one does."""
    start = decoder.lm.start(False)

    def score(word: str) -> float:
        return float(decoder.lm.score(start, decoder.word_dict.get_index(word))[1])

    unknown = score("<unk>")
    if all(score(word) == unknown for word, *_ in lexicon):
        raise UsageError(
            f"--lm {spec.path} knows no word of the lexicon ('{lexicon[0][0]}', ...): are they in "
            "the same case?"
        )
