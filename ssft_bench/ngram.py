"""Word n-grams with modified Kneser-Ney smoothing, written as ARPA files: what KenLM's `lmplz` makes.

Chen & Goodman, "An Empirical Study of Smoothing Techniques for Language Modeling" (TR-10-98, 1998), §3,
interpolated; Heafield et al., "Scalable Modified Kneser-Ney Language Model Estimation" (ACL 2013) §3.
All counts are in memory: for transcripts, not for gigabytes of text.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ssft_bench.errors import MissingError, UsageError
from ssft_bench.files import atomic_path

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where counts of counts give none, as `lmplz --discount_fallback`."""
ORDERS = range(2, 7)
"""Those that KenLM reads as it is built for Python."""
Words = tuple[str, ...]


@dataclass(frozen=True)
class NGram:
    """Probabilities of n-grams of every length up to the order, and the weights of their backing off."""

    probabilities: list[dict[Words, float]]
    """By length 1, 2, ...: of the last word after the others."""
    backoffs: dict[Words, float]
    """By context: what the probability after its last words is multiplied with for an unseen word."""
    discounts: list[tuple[float, ...]]
    """By length: taken from counts 1, 2, and 3 and more."""

    def write(self, path: Path) -> None:
        """Write an ARPA file, atomically."""
        longest = len(self.probabilities)
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write("\\data\\\n")
            for n, found in enumerate(self.probabilities, 1):
                file.write(f"ngram {n}={len(found)}\n")
            for n, found in enumerate(self.probabilities, 1):
                file.write(f"\n\\{n}-grams:\n")
                for words, probability in found.items():
                    tail = f"\t{_log(self.backoffs.get(words, 1.0))}" if n < longest else ""
                    file.write(f"{_log(probability)}\t{' '.join(words)}{tail}\n")
            file.write("\n\\end\\\n")


def estimate(sentences: Iterable[Sequence[str]], order: int = 4) -> NGram:
    """N-gram of the sentences, each a sequence of words; empty ones are left out.

    The vocabulary is their words, `</s>` and `<unk>`. Raises UsageError for no sentences, a reserved
    word (`<s>`, `</s>`, `<unk>`), or an order that no sentence is long enough for.
    """
    if order not in ORDERS:
        raise UsageError(f"--order {order}: expected {ORDERS[0]} to {ORDERS[-1]}")
    counts = _adjusted(_count(sentences, order))
    if not counts[-1]:
        raise UsageError(f"--order {order}: no sentence has {order - 2} words; take a lower order")
    discounts = [_discounts(found) for found in counts]
    uniform = 1.0 / (len(counts[0]) + 1)  # </s> and <unk> are predicted, <s> is not
    probabilities: list[dict[Words, float]] = []
    backoffs: dict[Words, float] = {}
    for found, discount in zip(counts, discounts, strict=True):
        totals, taken = _mass(found, discount)
        weights = {context: taken[context] / total for context, total in totals.items()}
        shorter = probabilities[-1] if probabilities else {}
        probabilities.append(
            {
                words: (count - _discount(count, discount)) / totals[words[:-1]]
                + weights[words[:-1]] * shorter.get(words[1:], uniform)
                for words, count in found.items()
            }
        )
        backoffs |= weights
    unknown = backoffs.pop(()) * uniform
    probabilities[0] = {(UNKNOWN,): unknown, (BEGIN,): 1.0, **probabilities[0]}
    return NGram(probabilities, backoffs, discounts)


def _count(sentences: Iterable[Sequence[str]], order: int) -> list[Counter[Words]]:
    """How often each n-gram of length 1 to `order` occurs between `<s>` and `</s>`."""
    counts: list[Counter[Words]] = [Counter() for _ in range(order)]
    for number, sentence in enumerate(sentences, 1):
        reserved = {BEGIN, END, UNKNOWN}.intersection(sentence)
        if reserved:
            raise UsageError(f"sentence {number} has the reserved word {min(reserved)}")
        if sentence:
            padded = (BEGIN, *sentence, END)
            for n, found in enumerate(counts, 1):
                found.update(padded[i : i + n] for i in range(len(padded) - n + 1))
    if not counts[0]:
        raise UsageError("there is no sentence to count words of")
    del counts[0][BEGIN,]  # it is a context, and never predicted
    return counts


def _adjusted(counts: list[Counter[Words]]) -> list[Counter[Words]]:
    """Below the longest: how many different words come before an n-gram, unless it begins a sentence."""
    adjusted = []
    for found, longer in itertools.pairwise(counts):
        before = Counter(words[1:] for words in longer)
        adjusted.append(
            Counter({w: count if w[0] == BEGIN else before[w] for w, count in found.items()})
        )
    return [*adjusted, counts[-1]]


def _discounts(found: Mapping[Words, int]) -> tuple[float, ...]:
    """D1, D2, D3+ of Chen & Goodman's equation 26; FALLBACK where they cannot be had."""
    times = Counter(found.values())
    if not (times[1] and times[2] and times[3]):
        return FALLBACK
    y = times[1] / (times[1] + 2 * times[2])
    amounts = tuple(j - (j + 1) * y * times[j + 1] / times[j] for j in (1, 2, 3))
    fits = all(0 <= amount <= j for j, amount in enumerate(amounts, 1))
    return amounts if fits else FALLBACK


def _discount(count: int, amounts: tuple[float, ...]) -> float:
    return amounts[min(count, 3) - 1]


def _mass(
    found: Mapping[Words, int], amounts: tuple[float, ...]
) -> tuple[dict[Words, int], dict[Words, float]]:
    """By context: the sum of its counts, and the sum of what is taken from them."""
    totals: dict[Words, int] = {}
    taken: dict[Words, float] = {}
    for words, count in found.items():
        context = words[:-1]
        totals[context] = totals.get(context, 0) + count
        taken[context] = taken.get(context, 0.0) + _discount(count, amounts)
    return totals, taken


def _log(probability: float) -> str:
    return f"{min(0.0, math.log10(max(probability, 1e-99))):.7g}"


lm_app = typer.Typer(help="Word n-grams for decoding with `run --lm`.", no_args_is_help=True)


@lm_app.command("make")
def make_lm(
    output: Annotated[Path, typer.Option("--output", "-o", help="ARPA file that is written.")],
    text: Annotated[
        list[Path] | None, typer.Option(help="Text, a sentence a line; may be given several times.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Instead of text: a task's training split.")
    ] = None,
    suite: Annotated[str, typer.Option(help="Suite of the task.")] = "mini",
    corpus: Annotated[str | None, typer.Option(help="Another corpus than the suite's.")] = None,
    data: Annotated[str | None, typer.Option(help="Folder that holds the corpus.")] = None,
    order: Annotated[int, typer.Option(help="Longest n-gram, in words.")] = 4,
) -> None:
    """Estimate a word n-gram (modified Kneser-Ney, as KenLM's lmplz) and write it as an ARPA file.

    With --task, from the words of its training split as the task spells them: SLUE's NER is decoded
    with such a 4-gram of tagged transcripts.
    """
    if bool(text) == bool(task):
        raise UsageError("lm make: give --text FILE or --task NAME")
    sentences = _spoken(task, suite, corpus, data) if task else _written(text or [])
    made = estimate(sentences, order)
    made.write(output)
    sizes = ", ".join(f"{len(found)} of {n}" for n, found in enumerate(made.probabilities, 1))
    words = sum(map(len, sentences))
    typer.echo(f"{output}: {sum(map(bool, sentences))} sentences, {words} words; n-grams: {sizes}")
    fallback = [str(n) for n, found in enumerate(made.discounts, 1) if found == FALLBACK]
    if fallback:
        typer.echo(
            f"Too little text for discounts of length {', '.join(fallback)}: "
            f"{FALLBACK[0]}, {FALLBACK[1]}, {FALLBACK[2]} were taken.",
            err=True,
        )


def _written(paths: Sequence[Path]) -> list[list[str]]:
    sentences = []
    for path in paths:
        try:
            sentences += [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise MissingError(f"--text {path}: {error}") from error
    return sentences


def _spoken(name: str, suite: str, corpus: str | None, data: str | None) -> list[list[str]]:
    """What a task spells the training utterances of a corpus as."""
    from ssft_bench import registry
    from ssft_bench.data import open_corpus
    from ssft_bench.downstreams.letters import LetterTask
    from ssft_bench.recipes import task_recipe

    task_class: Any = registry.load("tasks", name)
    if not issubclass(task_class, LetterTask):
        raise UsageError(f"--task {name}: it is decoded without a language model")
    recipe = task_recipe(task_class, suite, corpus, task_class.protocols[0])
    speech = open_corpus(corpus or recipe["corpus"], data).for_task(task_class.name)
    rows = speech.utterances("train")
    task = task_class(
        task_class.Options.model_validate(recipe.get("options", {})), speech.phone_set
    )
    task.prepare({"train": rows})
    return [task.words(row) for row in rows]
