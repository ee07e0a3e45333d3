"""Decoding with an n-gram: every path scored one by one, s3prl's own decoder, what can go wrong."""

from __future__ import annotations

import itertools
import math
import re
import secrets
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.downstreams.asr.task import ASR, SYMBOLS, ASROptions
from ssft_bench.downstreams.beam_search import beam_search
from ssft_bench.downstreams.pr.task import PR, PROptions
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.language_model import LanguageModelSpec
from ssft_bench.ngram import estimate

pytest.importorskip(
    "flashlight.lib.text.decoder.kenlm", reason="the decoder: pip install 'ssft-bench[lm]'"
)

SEEDS = [1, secrets.randbelow(2**31)]
OUTPUTS = ("<s>", "|", "A", "B", "'")
WORDS = ("A", "AB", "B'A", "BA")  # BA is in no sentence of TEXT
TEXT = ["A AB A", "AB", "B'A AB", "A A", "C A B'A", "AB B'A"]  # C is in no lexicon
EVERYTHING: dict[str, Any] = {"beam_size": 100_000, "beam_threshold": 1e6}
"""A beam that drops nothing."""


@pytest.fixture(scope="module")
def arpa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm") / "lm.arpa"
    estimate([line.split() for line in TEXT], 2).write(path)
    return path


def log10(arpa: Path, words: list[str]) -> float:
    """An n-gram's score of a whole sentence, by hand from the file: bigrams, backing off to words."""
    table = {}
    for line in arpa.read_text().splitlines():
        if line.count("\t"):
            number, gram, *backoff = line.split("\t")
            table[tuple(gram.split())] = (float(number), float(backoff[0]) if backoff else 0.0)
    sentence = ["<s>", *(w if (w,) in table else "<unk>" for w in words), "</s>"]
    total = 0.0
    for before, word in itertools.pairwise(sentence):
        if (before, word) in table:
            total += table[before, word][0]
        else:
            total += table[before,][1] + table[word,][0]
    return total


def every_hypothesis(
    log_probs: Tensor, lexicon: tuple[str, ...], silence: str, sil_score: float
) -> dict[tuple[str, ...], float]:
    """The best path's score of each word sequence, by walking through all paths of outputs."""
    frames, outputs = log_probs.shape
    rows = log_probs.tolist()
    best: dict[tuple[str, ...], float] = {}
    for path in itertools.product(range(outputs), repeat=frames):
        text = "".join(OUTPUTS[k] for k, _ in itertools.groupby(path) if k)
        if silence == "gap":
            spelled = re.fullmatch(r"\|*((?:[^|]+\|+)*)", text)
        else:  # each frame of gap ends a word: none is repeated, none stands alone
            spelled = re.fullmatch(r"((?:[^|]+\|)*)", text)
            gaps = [k == OUTPUTS.index("|") for k in path]
            if any(a and b for a, b in itertools.pairwise(gaps)):
                continue
        words = tuple(spelled[1].replace("|", " ").split()) if spelled else ("?",)
        if spelled and set(words) <= set(lexicon):
            score = sum(row[k] for row, k in zip(rows, path, strict=True))
            score += sil_score * path.count(OUTPUTS.index("|"))
            best[words] = max(best.get(words, -math.inf), score)
    return best


def worst_loss(arpa: Path, spec: LanguageModelSpec, used: LanguageModelSpec, seed: int) -> float:
    """How far below the best word sequence by `spec` a search with `used` ends, at worst of 8 draws."""
    rng = torch.Generator().manual_seed(seed)
    search = beam_search(used, OUTPUTS, WORDS, blank="<s>", gap="|")
    losses = []
    for _ in range(8):
        logits = 2 * torch.randn(1, 6, len(OUTPUTS), generator=rng)
        logits[..., 1:] += 1.5  # letters above blank, or most hypotheses would be empty
        paths = every_hypothesis(logits[0].log_softmax(-1), WORDS, spec.silence, spec.sil_score)
        total = {
            words: score + spec.lm_weight * log10(arpa, list(words)) + spec.word_score * len(words)
            for words, score in paths.items()
        }
        losses.append(max(total.values()) - total[tuple(search(logits, torch.tensor([6]))[0])])
    return max(losses)


WEIGHTS: list[dict[str, Any]] = [
    {"lm_weight": 2.0, "word_score": -1.0},
    {"lm_weight": 0.7, "word_score": 1.5, "sil_score": -0.4},
    {"lm_weight": 1.0, "word_score": 0.5, "silence": "blank"},
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_equals_a_search_over_all_paths(arpa: Path, seed: int, weights: dict[str, Any]) -> None:
    spec = LanguageModelSpec(path=str(arpa), **EVERYTHING, **weights)
    assert worst_loss(arpa, spec, spec, seed) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("other", [{"lm_weight": 0.0}, {"word_score": 2.0}, {"sil_score": -3.0}])
def test_every_weight_counts(arpa: Path, other: dict[str, Any]) -> None:
    """Negative control: a search with another weight misses the best sequence in some draw."""
    spec = LanguageModelSpec(path=str(arpa), **EVERYTHING, **WEIGHTS[0])
    assert worst_loss(arpa, spec, spec.model_copy(update=other), seed=1) > 0.1


def frames(*outputs: str, sure: float = 8.0) -> Tensor:
    """Logits [1,T,V] with one likely output a frame, of ASR's 32."""
    path = torch.tensor([[SYMBOLS.index(o) for o in outputs]])
    return sure * torch.nn.functional.one_hot(path, len(SYMBOLS)).float()


def asr(train: list[str], spec: LanguageModelSpec, logits: Tensor) -> str:
    rows = [Utterance(t, Path(), "train", text=t) for t in train]
    search = ASR(ASROptions()).beam_search(spec, rows)
    return search(logits, torch.tensor([logits.shape[1]]))[0]


@pytest.fixture(scope="module")
def ships(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ships") / "lm.arpa"
    text = ["THE SEA", "THE SEA", "THE SEA", "I SEE", "IT'S THE SEA", "IT'S"]
    estimate([line.split() for line in text], 3).write(path)
    return path


def test_the_language_model_picks_between_words_that_sound_alike(ships: Path) -> None:
    logits = torch.cat([frames(*"THE|SE"), frames("<s>"), frames("E"), frames("|", "</s>")], 1)
    logits[0, 7, SYMBOLS.index("A")] = 7.5  # E is a little likelier
    train = ["THE SEA", "I SEE"]
    assert asr(train, LanguageModelSpec(path=str(ships)), logits) == "THE SEA"
    # Negative controls: without weight the likelier letters win, and so they do after another word.
    assert asr(train, LanguageModelSpec(path=str(ships), lm_weight=0), logits) == "THE SEE"
    after_i = torch.cat([frames("I", "|"), logits[:, 4:]], 1)
    assert asr(train, LanguageModelSpec(path=str(ships)), after_i) == "I SEE"


def test_apostrophes_and_the_end_symbol(ships: Path) -> None:
    logits = frames(*"|IT'S|", "<s>", "|", *"THE|", "</s>", "</s>")
    spec = LanguageModelSpec(path=str(ships))
    assert asr(["IT'S", "THE", "ITS"], spec, logits) == "IT'S THE"


def test_only_words_of_the_lexicon_are_found(ships: Path, tmp_path: Path) -> None:
    said = frames(*"SHE|")
    spec = LanguageModelSpec(path=str(ships))
    assert asr(["SEE", "THE"], spec, said) in ("", "SEE", "THE")
    # In the lexicon, but unknown to the n-gram: it counts as <unk> and can be found.
    assert asr(["SHE", "THE"], spec, said) == "SHE"
    lexicon = tmp_path / "words.lst"
    lexicon.write_text("SHE S H E |\nSHE S E E |\n\nSEA\tS E A |\n")
    own = LanguageModelSpec(path=str(ships), lexicon=str(lexicon))
    assert asr(["THE"], own, said) == "SHE"
    assert asr(["THE"], own, frames(*"SE", "<s>", *"E|")) == "SHE"
    unknown = LanguageModelSpec(path=str(ships), unk_score=20.0)
    assert "<unk>" in asr(["SEA"], unknown, frames(*"SE"))


def test_nothing_said(ships: Path) -> None:
    spec = LanguageModelSpec(path=str(ships))
    for logits in (frames(*["<s>"] * 5), frames("|"), frames("</s>"), frames("A")[:, :0]):
        assert asr(["SEA"], spec, logits) == ""
    assert asr(["SEA"], spec, frames("S").fill_(math.nan)) == ""


@pytest.mark.parametrize("seed", SEEDS)
def test_frames_past_the_length_are_not_read(arpa: Path, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    search = beam_search(LanguageModelSpec(path=str(arpa)), OUTPUTS, WORDS, blank="<s>", gap="|")
    logits = 4 * torch.randn(5, 30, len(OUTPUTS), generator=rng)
    lengths = torch.tensor([30, 21, 9, 1, 0])
    batch = search(logits, lengths)
    alone = [search(logits[i : i + 1, :n], lengths[i : i + 1])[0] for i, n in enumerate(lengths)]
    assert batch == alone
    assert search(logits.half().float(), lengths) == search(logits.half(), lengths)
    if seed == 1:  # negative control
        assert batch != search(logits, torch.full((5,), 30))


def test_what_is_missing_is_named(ships: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = frames("A")
    with pytest.raises(MissingError, match=r"--lm absent\.arpa: there is no such file.*openslr"):
        asr(["SEA"], LanguageModelSpec(path="absent.arpa"), logits)
    with pytest.raises(MissingError, match=r"--lexicon absent\.lst"):
        LanguageModelSpec(path=str(ships), lexicon="absent.lst").sha256()
    with pytest.raises(MissingError, match=r"KenLM cannot read it: .*not \\data\\"):
        asr(["SEA"], LanguageModelSpec(path=__file__), logits)
    with pytest.raises(UsageError, match="task pr is decoded without a language model"):
        PR(PROptions()).beam_search(LanguageModelSpec(path=str(ships)), [])
    monkeypatch.setitem(sys.modules, "flashlight.lib.text.decoder.kenlm", None)
    with pytest.raises(MissingError, match=r"pip install 'ssft-bench\[lm\]'"):
        asr(["SEA"], LanguageModelSpec(path=str(ships)), logits)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("SEA S E a |", r"'SEA' is spelled with 'a', which is no output"),
        ("SEA S E A", r"'SEA' has no spelling that ends in \|"),
        ("SEA", r"'SEA' has no spelling"),
        ("", "it has no words"),
        ("NAUTICAL S E A |", r"knows no word of the lexicon \('NAUTICAL'"),
    ],
)
def test_lexica_that_cannot_be_used(ships: Path, tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "words.lst").write_text(f"{line}\n")
    spec = LanguageModelSpec(path=str(ships), lexicon=str(tmp_path / "words.lst"))
    with pytest.raises(UsageError, match=message):
        asr(["SEA"], spec, frames("A"))


def test_digest_is_of_the_bytes(ships: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.arpa"
    copy.write_bytes(ships.read_bytes())
    first = LanguageModelSpec(path=str(ships)).sha256()
    assert LanguageModelSpec(path=str(copy)).sha256() == first
    with_lexicon = LanguageModelSpec(path=str(copy), lexicon=str(copy)).sha256()
    assert with_lexicon != first
    copy.write_bytes(ships.read_bytes() + b"\n")
    assert LanguageModelSpec(path=str(copy)).sha256() not in (first, with_lexicon)
