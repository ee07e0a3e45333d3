"""QUESST 2014, the English part: spoken queries and the recordings that they are looked for in.

The layout is that of `quesst14Database.tgz`:

    quesst14Database/Audio/*.wav  dev_queries/*.wav  eval_queries/*.wav        8 kHz
    quesst14Database/scoring/language_key_{utterances,dev,eval}.lst            <path> <language>
    quesst14Database/scoring/groundtruth_quesst14_{dev,eval}/quesst14_{dev,eval}.rttm
    quesst14Database/scoring/groundtruth_quesst14_{dev,eval}/*.ecf.xml  *.tlist.xml

A match is a line `LEXEME <document> 1 <begin> <length> <query> ...` of the rttm file. The lists are read
as s3prl 0.4.18 reads them (`quesst14_dtw/dataset.py`), the rttm file as its `quesst14_embedding` does.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from ssft_bench.audio import listing
from ssft_bench.corpora.base import Corpus
from ssft_bench.corpora.figures import Figure
from ssft_bench.corpora.lexicon import numbered_lines
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import MissingError, UsageError

LANGUAGE = "nnenglish"
GAIN_DB = -3.0
"""s3prl reads every recording with sox's `gain -3.0`, after `channels 1` and `rate 16000`."""
LISTS = {"dev": "dev", "test": "eval"}
_RECALLED = "s3prl's test/test_quesst14.py has 2,714 for all three; the parts are recalled"


class Quesst14(Corpus):
    """QUESST 2014, SUPERB's English subset: non-native English terms to find in 8 kHz recordings.

    dev and test (the official eval) have queries of their own and the same documents; there is no train
    split. Recordings are read 3 dB softer, as s3prl does.
    """

    name = "quesst14"
    licence = "as its publishers' (MediaEval 2014); for research"
    source = "https://speech.fit.vutbr.cz/files/quesst14Database.tgz"
    tasks = ("qbe",)

    def utterances(self, split: str) -> list[Utterance]:
        """The documents of dev or test, which are the same; nothing for train."""
        return self.documents(split)

    def documents(self, split: str) -> list[Utterance]:
        """English recordings that are searched, in the order of `language_key_utterances.lst`.

        Raises MissingError naming a list or recordings that are absent.
        """
        return [] if _official(split) is None else self._rows("utterances", split, "utterance")

    def queries(self, split: str) -> list[Utterance]:
        """English spoken queries of dev or test, in the order of the list. Raises MissingError."""
        official = _official(split)
        return [] if official is None else self._rows(official, split, "query")

    def matches(self, split: str) -> dict[str, set[str]]:
        """For every query, the identifiers of the documents that it occurs in.

        Raises MissingError when the rttm file is absent or names none of the queries.
        """
        found: dict[str, set[str]] = {query.id: set() for query in self.queries(split)}
        documents = {document.id for document in self.documents(split)}
        for query, document in self._occurrences(split):
            if query in found and document in documents:
                found[query].add(document)
        if found and not any(found.values()):
            raise MissingError(
                f"{self._rttm(split)}: no LEXEME line names an English query of {split} and an English "
                f"document; get the corpus again from {self.source}"
            )
        return found

    def unsearched(self, split: str) -> int:
        """Documents of the ground truth's ecf file that are not English, and so are not searched.

        The organisers' scorer counts them as trials with the default score (its README of 2015: a system
        is filled up to all queries times all files of the ecf file).
        """
        if _official(split) is None:
            return 0
        path = self._ground_truth(split, "ecf.xml")
        try:
            names = {
                Path(str(excerpt.get("audio_filename"))).stem
                for excerpt in ET.parse(path).getroot().iter("excerpt")
            }
        except (OSError, ET.ParseError) as error:
            raise MissingError(f"cannot read {path}: {error}; get the corpus again") from error
        return len(names - {document.id for document in self.documents(split)})

    def unasked(self, split: str) -> int:
        """Queries of the ground truth with a match that are not English, and so are not asked.

        The organisers' scorer counts them too, with the default score for all of their trials.
        """
        asked = {query.id for query in self.queries(split)}
        return len({query for query, _ in self._occurrences(split)} - asked)

    def figures(self) -> list[Figure]:
        """Sizes of the English subset: recalled, so they are shown and not compared."""
        return [
            Figure("queries", ("dev",), 138, _RECALLED, "unverified"),
            Figure("queries", ("test",), 138, _RECALLED, "unverified"),
            Figure("documents", ("dev",), 2438, _RECALLED, "unverified"),
        ]

    def remarks(self, split: str) -> list[str]:
        """Queries without a match, occurrences outside the searched documents, unsearched documents."""
        if _official(split) is None:
            return []
        matches = self.matches(split)
        documents = {document.id for document in self.documents(split)}
        outside = sum(q in matches and d not in documents for q, d in self._occurrences(split))
        none = sum(not found for found in matches.values())
        return [
            f"{none} of {len(matches)} queries have no match; {outside} matches are in documents that are "
            f"not searched; the ground truth has {self.unsearched(split)} such documents"
        ]

    def _folder(self) -> Path:
        if self.root is None:
            raise MissingError(f"corpus quesst14 needs --data FOLDER; get it from {self.source}")
        for folder in (self.root, self.root / "quesst14Database"):
            if (folder / "scoring").is_dir():
                return folder
        raise MissingError(
            f"no QUESST 2014 in {self.root}: neither scoring nor quesst14Database/scoring is a folder there; "
            f"get it with `ssft-bench data get quesst14` or from {self.source}, or mend --data FOLDER"
        )

    def _rows(self, which: str, split: str, kind: str) -> list[Utterance]:
        folder = self._folder()
        path = folder / "scoring" / f"language_key_{which}.lst"
        rows, absent = [], []
        for number, relative in _listed(path):
            audio = folder / relative
            if not audio.is_file():
                absent.append(f"{path}:{number}: no {audio}")
            rows.append(Utterance(audio.stem, audio, split, kind=kind, gain_db=GAIN_DB))
        if absent:
            raise MissingError(
                f"{len(absent)} of {len(rows)} recordings are missing; get {self.source} again:"
                f"{listing(absent)}"
            )
        if not rows:
            raise MissingError(f"{path} has no line with language {LANGUAGE}; get the corpus again")
        return rows

    def _occurrences(self, split: str) -> list[tuple[str, str]]:
        return [] if _official(split) is None else _lexemes(self._rttm(split))

    def _rttm(self, split: str) -> Path:
        return self._ground_truth(split, "rttm")

    def _ground_truth(self, split: str, suffix: str) -> Path:
        """The split's file of that kind: by its usual name, else the only one there is."""
        official = _official(split)
        folder = self._folder() / "scoring" / f"groundtruth_quesst14_{official}"
        usual = folder / f"quesst14_{official}.{suffix}"
        found = [usual] if usual.is_file() else sorted(folder.glob(f"*.{suffix}"))
        if len(found) != 1:
            there = ", ".join(path.name for path in found) or "none"
            raise MissingError(
                f"{folder} should hold one *.{suffix}, found: {there}; get {self.source} again"
            )
        return found[0]


def _official(split: str) -> str | None:
    """Name of a split in the archive's files; None for train, which it does not have."""
    if split not in ("train", *LISTS):
        raise UsageError(f"corpus quesst14 has no split {split!r}; splits: train, dev, test")
    return LISTS.get(split)


def _listed(path: Path) -> list[tuple[int, str]]:
    """Line numbers and paths of the English recordings of a list, without their first folder."""
    found = []
    for number, line in numbered_lines(path):
        fields = line.split()
        if len(fields) != 2:
            raise MissingError(
                f"{path}:{number} is not `<path> <language>`: {line!r}; get it again"
            )
        if fields[1] == LANGUAGE:
            found.append((number, fields[0].partition("/")[2] or fields[0]))
    return found


def _lexemes(path: Path) -> list[tuple[str, str]]:
    """(query, document) of every LEXEME line of an rttm file."""
    found = []
    for number, line in numbered_lines(path):
        fields = line.split()
        if fields[0] != "LEXEME":
            continue
        if len(fields) < 6:
            raise MissingError(f"{path}:{number} has no sixth field, the query: {line!r}")
        if fields[5] != "NO_KEYWORD":
            found.append((Path(fields[5]).stem, Path(fields[1]).stem))
    return found
