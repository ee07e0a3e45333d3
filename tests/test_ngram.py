"""N-grams: KenLM's own numbers, sums to one by KenLM's scoring, a plain recursion, the command."""

from __future__ import annotations

import math
import random
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from ssft_bench.errors import UsageError
from ssft_bench.ngram import FALLBACK, NGram, estimate

SEEDS = [1, secrets.randbelow(2**31)]
LINES = ["the the", "cat sat", "sat on mat", "the", "cat", "cat", "on the cat sat"]
# What `lmplz -o 3 --discount_fallback` of kpu/kenlm 4cb443e wrote for LINES: log10 probability, words,
# log10 backoff. Discounts of words and pairs are estimated, those of triples are the fallback.
LMPLZ = """
-0.9670924 <unk> 0;        0 <s> -0.09497553;          -0.6573472 </s> 0
-0.827724 the -0.1829307;  -0.92783904 cat -0.17609124; -0.92783904 sat -0.20412
-0.92783904 on -0.20412;   -0.7718661 mat -0.20412
-0.52186435 the </s> 0;    -0.5658394 cat </s> 0;      -0.48801926 sat </s> 0
-0.29024437 mat </s> 0;    -0.6803378 <s> the -0.30103; -0.7182248 the the -0.30103
-0.5521755 on the -0.30103; -1.0228146 <s> cat -0.30103; -0.76640177 the cat -0.30103
-0.8284088 <s> sat -0.30103; -0.5420416 cat sat -0.30103; -0.8284088 <s> on -0.30103
-0.582865 sat on -0.30103; -0.5328581 on mat -0.30103
-0.39755934 <s> the </s>;  -0.18685235 the the </s>;   -0.32863685 <s> cat </s>
-0.17879023 cat sat </s>;  -0.12131368 on mat </s>;    -0.4613468 <s> the the
-0.19367413 <s> on the;    -0.23238513 on the cat;     -0.5083695 <s> cat sat
-0.19143441 the cat sat;   -0.20021251 <s> sat on;     -0.18936929 sat on mat
"""


def split(lines: list[str]) -> list[list[str]]:
    return [line.split() for line in lines]


def draw(seed: int, sentences: int, words: int = 8) -> list[list[str]]:
    """Sentences in which some words are frequent and the one before matters."""
    rng = random.Random(seed)
    names = [f"w{i}" for i in range(words)]
    out = []
    for _ in range(sentences):
        sentence = [rng.choice(names)]
        while rng.random() < 0.75:
            at = names.index(sentence[-1])
            sentence.append(names[min(words - 1, (at + rng.choice([0, 1, 1, 1, 2, 5])) % words)])
        out.append(sentence)
    return out


def read_arpa(path: Path) -> dict[tuple[str, ...], tuple[float, float]]:
    rows = {}
    for line in path.read_text().splitlines():
        if line.count("\t"):
            number, words, *backoff = line.split("\t")
            rows[tuple(words.split())] = (float(number), float(backoff[0]) if backoff else 0.0)
    return rows


def test_equals_lmplz(tmp_path: Path) -> None:
    expected = {}
    for row in LMPLZ.replace("\n", ";").split(";"):
        fields = row.split()
        if fields:
            last = fields.pop() if fields[-1].lstrip("-").replace(".", "").isdigit() else "0"
            expected[tuple(fields[1:])] = (float(fields[0]), float(last))
    estimate(split(LINES), 3).write(tmp_path / "lm.arpa")
    found = read_arpa(tmp_path / "lm.arpa")
    assert found.keys() == expected.keys()
    assert len(found) == 34
    for words, numbers in expected.items():
        assert found[words] == pytest.approx(numbers, abs=2e-6), words


def sums(path: Path, contexts: list[list[str]], vocabulary: list[str]) -> list[float]:
    """By KenLM: the sum of all words' probabilities after each context, which begins a sentence."""
    kenlm = pytest.importorskip(
        "kenlm", reason="kenlm scores n-grams: pip install 'ssft-bench[lm]'"
    )
    model = kenlm.Model(str(path))
    totals = []
    for context in contexts:
        state, after = kenlm.State(), kenlm.State()
        model.BeginSentenceWrite(state)
        for word in context:
            model.BaseScore(state, word, after)
            state, after = after, kenlm.State()
        totals.append(sum(10 ** model.BaseScore(state, word, after) for word in vocabulary))
    return totals


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("order", "sentences"), [(2, 4), (3, 200), (4, 2000), (6, 300)])
def test_probabilities_sum_to_one_by_kenlm(
    tmp_path: Path, seed: int, order: int, sentences: int
) -> None:
    text = draw(seed, sentences)
    made = estimate(text, order)
    made.write(tmp_path / "lm.arpa")
    words = sorted({w for sentence in text for w in sentence})
    rng = random.Random(seed)
    contexts = [rng.choices([*words, "unheard"], k=rng.randint(0, 5)) for _ in range(30)]
    for total in sums(tmp_path / "lm.arpa", contexts, [*words, "</s>", "<unk>"]):
        assert total == pytest.approx(1.0, abs=1e-4)


def test_wrong_backoffs_do_not_sum_to_one(tmp_path: Path) -> None:
    """Negative control."""
    text = draw(3, 200)
    made = estimate(text, 3)
    NGram(made.probabilities, {}, made.discounts).write(tmp_path / "lm.arpa")
    words = sorted({w for sentence in text for w in sentence})
    totals = sums(tmp_path / "lm.arpa", [[w] for w in words], [*words, "</s>", "<unk>"])
    assert max(abs(total - 1) for total in totals) > 0.05


def plain(text: list[list[str]], order: int, words: tuple[str, ...]) -> float:
    """Chen & Goodman's interpolated modified Kneser-Ney, straight from the sentences."""
    padded = [["<s>", *s, "</s>"] for s in text]

    def occurrences(gram: tuple[str, ...]) -> list[str | None]:
        """The word before each place where `gram` stands; None at the beginning of a sentence."""
        n = len(gram)
        return [
            s[i - 1] if i else None
            for s in padded
            for i in range(len(s) - n + 1)
            if tuple(s[i : i + n]) == gram
        ]

    def count(gram: tuple[str, ...]) -> int:
        found = occurrences(gram)
        return len(found) if len(gram) == order or gram[0] == "<s>" else len(set(found))

    vocabulary = {w for s in padded for w in s[1:]}
    n = len(words)
    grams = {tuple(s[i : i + n]) for s in padded for i in range(len(s) - n + 1)} - {("<s>",)}
    level = [count(g) for g in grams]
    times = [level.count(j) for j in range(5)]
    discounts = list(FALLBACK)
    if times[1] and times[2] and times[3]:
        y = times[1] / (times[1] + 2 * times[2])
        own = [j - (j + 1) * y * times[j + 1] / times[j] for j in (1, 2, 3)]
        discounts = own if all(0 <= d <= j for j, d in enumerate(own, 1)) else discounts
    after = [count((*words[:-1], w)) for w in vocabulary if (*words[:-1], w) in grams]
    shorter = plain(text, order, words[1:]) if n > 1 else 1 / (len(vocabulary) + 1)
    if not after:
        return shorter
    own_count = count(words) if words in grams else 0
    kept = own_count - (discounts[min(own_count, 3) - 1] if own_count else 0)
    left_over = sum(discounts[min(c, 3) - 1] for c in after)
    return (kept + left_over * shorter) / sum(after)


@pytest.mark.parametrize("seed", SEEDS)
def test_kenlm_scores_what_the_recursion_says(tmp_path: Path, seed: int) -> None:
    kenlm = pytest.importorskip(
        "kenlm", reason="kenlm scores n-grams: pip install 'ssft-bench[lm]'"
    )
    text = draw(seed, 12, words=5)
    estimate(text, 3).write(tmp_path / "lm.arpa")
    model = kenlm.Model(str(tmp_path / "lm.arpa"))
    for sentence in (text[0], ["w0", "w4", "w2"], ["unheard", "w1"]):
        known = {w for s in text for w in s}
        history = ["<s>", *(w if w in known else "<unk>" for w in sentence), "</s>"]
        expected = sum(
            math.log10(plain(text, 3, tuple(history[max(0, i - 2) : i + 1])))
            for i in range(1, len(history))
        )
        assert model.score(" ".join(sentence)) == pytest.approx(expected, abs=1e-4)


def test_mistakes() -> None:
    with pytest.raises(UsageError, match="no sentence"):
        estimate([[], []], 2)
    with pytest.raises(UsageError, match="sentence 2 has the reserved word </s>"):
        estimate([["a"], ["b", "</s>"]], 2)
    with pytest.raises(UsageError, match="no sentence has 2 words"):
        estimate([["a"], ["b"]], 4)
    for order in (1, 7):
        with pytest.raises(UsageError, match="expected 2 to 6"):
            estimate([["a"]], order)


def test_empty_sentences_do_not_count() -> None:
    made = estimate(split(LINES), 2)
    assert estimate([[], *split(LINES), []], 2) == made


def test_command_reads_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], run_lm: Callable[..., int]
) -> None:
    (tmp_path / "text.txt").write_text("\n".join(LINES) + "\n\n")
    assert run_lm("--text", tmp_path / "text.txt", "-o", tmp_path / "lm.arpa", "--order", "3") == 0
    out, err = capsys.readouterr()
    assert "7 sentences, 14 words; n-grams: 8 of 1, 14 of 2, 12 of 3" in out
    assert "discounts of length 3" in err
    other = tmp_path / "other.arpa"
    estimate(split(LINES), 3).write(other)
    assert (tmp_path / "lm.arpa").read_text() == other.read_text()


def test_command_reads_a_tasks_references(
    tmp_path: Path, toy_an4: Path, run_lm: Callable[..., int]
) -> None:
    from ssft_bench.corpora.an4 import AN4

    target = tmp_path / "lm.arpa"
    where = ("--task", "asr", "--corpus", "an4", "--data", toy_an4.parent)
    assert run_lm(*where, "-o", target, "--order", "2") == 0
    words = {w for u in AN4(toy_an4.parent).utterances("train") for w in (u.text or "").split()}
    unigrams = {words for words in read_arpa(target) if len(words) == 1}
    assert unigrams == {(w,) for w in words} | {("<s>",), ("</s>",), ("<unk>",)}


def test_command_refuses(tmp_path: Path, run_lm: Callable[..., int]) -> None:
    out = ("-o", tmp_path / "lm.arpa")
    assert run_lm(*out) == 2
    assert run_lm(*out, "--text", tmp_path / "absent.txt") == 3
    assert run_lm(*out, "--text", tmp_path / "absent.txt", "--task", "asr") == 2
    assert not (tmp_path / "lm.arpa").exists()


@pytest.fixture
def run_lm(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`ssft-bench lm make` in this process: its exit code."""
    import typer

    from ssft_bench.errors import BenchError
    from ssft_bench.ngram import lm_app

    app = typer.Typer()
    app.add_typer(lm_app, name="lm")

    def call(*arguments: object) -> int:
        try:
            app(["lm", "make", *map(str, arguments)], standalone_mode=False)
        except BenchError as error:
            return error.exit_code
        return 0

    return call
