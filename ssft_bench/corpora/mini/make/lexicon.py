"""Pronunciations: PocketSphinx' `cmudict-en-us.dict` (BSD), first pronunciation, no stress."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path

PHONES = frozenset(
    "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V "
    "W Y Z ZH".split()
)  # the 39 ARPAbet phones of CMUdict


def load_pocketsphinx() -> dict[str, list[str]]:
    """The whole dictionary of the installed package `pocketsphinx`, upper case."""
    spec = importlib.util.find_spec("pocketsphinx")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the package pocketsphinx is not installed: see make/__init__.py")
    path = Path(spec.submodule_search_locations[0]) / "model/en-us/cmudict-en-us.dict"
    words: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        word, *phones = line.split()
        if "(" not in word:  # WORD(2), WORD(3), ... are further pronunciations
            words[word.upper()] = phones
    return words


def read(path: Path) -> dict[str, list[str]]:
    """A sub-lexicon with lines `WORD  PH PH ...`."""
    lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    return {word: phones for word, *phones in (line for line in lines if line)}


def write(path: Path, words: Iterable[str], lexicon: Mapping[str, list[str]]) -> None:
    """Write the entries of `words`, sorted."""
    lines = [f"{word}  {' '.join(lexicon[word])}\n" for word in sorted(set(words))]
    path.write_text("".join(lines), encoding="utf-8")


def phones_of(text: str, lexicon: Mapping[str, list[str]]) -> list[str]:
    """Phones of a sentence, word by word; an unknown word is a KeyError that names it."""
    return [phone for word in text.split() for phone in lexicon[word]]
