"""Pronunciation lexica, and words to phones by the first pronunciation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ssft_bench.errors import MissingError

Lexicon = Mapping[str, tuple[str, ...]]
"""Word -> phones of its first pronunciation."""

_ALTERNATIVE = re.compile(r"\(\d+\)$")  # Sphinx writes further pronunciations as WORD(2)


def read_lexicon(*paths: Path) -> dict[str, tuple[str, ...]]:
    """Read files of lines `WORD PH PH ...`; of several pronunciations the first one counts.

    A line without phones gives no pronunciation: the word stays unknown, which is an error where
    the word is needed. Raises MissingError naming the file that cannot be read.
    """
    lexicon: dict[str, tuple[str, ...]] = {}
    for path in paths:
        for _, line in numbered_lines(path):
            word, *phones = line.split()
            if phones and not word.startswith(";;;") and not _ALTERNATIVE.search(word):
                lexicon.setdefault(word, tuple(phones))
    return lexicon


def pronounce(words: Iterable[str], lexicon: Lexicon) -> tuple[tuple[str, ...], list[str]]:
    """Phones of the words one after another, without silence, and the words that are unknown."""
    phones: list[str] = []
    unknown: list[str] = []
    for word in words:
        if word in lexicon:
            phones.extend(lexicon[word])
        else:
            unknown.append(word)
    return tuple(phones), unknown


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """Lines of a text file that are not blank, stripped, with their 1-based numbers.

    Raises MissingError when the file is absent, unreadable or not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise MissingError(f"cannot read {path}: {error.strerror}; mend --data FOLDER") from error
    except UnicodeDecodeError as error:
        raise MissingError(f"{path} is not UTF-8 text; get the file again") from error
    lines = enumerate(text.split("\n"), start=1)
    return [(number, line.strip()) for number, line in lines if line.strip()]
