"""AN4: spelled words, digits and commands read at CMU; 948 training and 130 test recordings.

The layout is that of the original distribution:

    an4/etc/an4_{train,test}.fileids         an4_clstk/fash/an251-fash-b
    an4/etc/an4_{train,test}.transcription   <s> YES </s> (an251-fash-b)
    an4/etc/an4.dic                          WORD PH PH ...
    an4/wav/<fileid>.flac                    or .wav, .sph or .raw, as in the original archives
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from ssft_bench.audio import listing
from ssft_bench.corpora.base import Corpus
from ssft_bench.corpora.figures import Figure
from ssft_bench.corpora.lexicon import Lexicon, numbered_lines, pronounce, read_lexicon
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import MissingError, UsageError

SUFFIXES = (".flac", ".wav", ".sph", ".raw")
DEV_SHARE = 0.1
_LINE = re.compile(r"^(.*)\(([^()\s]+)\)$")
_FILLER = re.compile(r"^(<.*>|\+\+.*\+\+|\[.*\])$")  # <s>, <sil>, ++NOISE++, [NOISE]


class AN4(Corpus):
    """AN4: real recorded spelling, digits and commands (CMU, 16 kHz close talk), 0.8 h.

    Phones: the first pronunciation of each word in `an4.dic`, whose 34 phones (33 and silence) are
    among ARPAbet39. The distribution has no dev split; ours is every tenth speaker of the
    training list, in sorted order, until they hold 10 % of its utterances. None of them is left
    in train, and the test speakers are in neither. Test is the whole official test list.
    """

    name = "an4"
    licence = "CMU BSD-style, any use"
    source = "https://github.com/cmusphinx/an4"
    tasks = ("asr", "pr")
    phone_set = "arpabet39"

    def utterances(self, split: str) -> list[Utterance]:
        """Rows of train, dev or test in the order of the official list.

        Raises MissingError naming file and line of a transcript without audio, an identifier that
        the list does not have there, or a word that the dictionary does not know.
        """
        if split not in ("train", "dev", "test"):
            raise UsageError(f"corpus an4 has no split {split!r}; splits: train, dev, test")
        folder = self._folder()
        official = "test" if split == "test" else "train"
        fileids = folder / "etc" / f"an4_{official}.fileids"
        identifiers = [line for _, line in numbered_lines(fileids)]
        rows = _rows(folder, official, identifiers)
        if split == "test":
            return rows
        dev = dev_speakers([str(row.speaker) for row in rows])
        chosen = [row for row in rows if (row.speaker in dev) == (split == "dev")]
        return [replace(row, split=split) for row in chosen]

    def figures(self) -> list[Figure]:
        """Sizes of the two official lists; our dev split is taken from the first."""
        counted = "counted in github.com/cmusphinx/an4 @ b567d13"
        return [
            Figure("utterances", ("train", "dev"), 948, counted, "derived"),
            Figure("utterances", ("test",), 130, counted, "derived"),
            Figure("speakers", ("train", "dev"), 74, counted, "derived"),
            Figure("speakers", ("test",), 10, counted, "derived"),
        ]

    def _folder(self) -> Path:
        """The folder that holds `etc` and `wav`: the root itself, or `an4` in it."""
        if self.root is None:
            raise MissingError(f"corpus an4 needs --data FOLDER; get it from {self.source}")
        for folder in (self.root, self.root / "an4"):
            if (folder / "etc" / "an4_train.fileids").is_file():
                return folder
        raise MissingError(
            f"no AN4 corpus in {self.root}: neither etc/an4_train.fileids nor "
            f"an4/etc/an4_train.fileids is there; get it from {self.source} or mend --data FOLDER"
        )


def dev_speakers(speakers: list[str]) -> frozenset[str]:
    """Speakers of the dev split: at least 10 % of the utterances.

    `speakers` holds the speaker of every utterance of the training list. In sorted order, every
    tenth speaker is taken, then every tenth from the next on, until it is enough: the names begin
    with f or m, and a run of neighbours would hold only one of the two.
    """
    names = sorted(set(speakers))
    chosen: set[str] = set()
    for place in sorted(range(len(names)), key=lambda i: (i % 10, i)):
        if sum(one in chosen for one in speakers) >= DEV_SHARE * len(speakers):
            break
        chosen.add(names[place])
    return frozenset(chosen)


def _rows(folder: Path, official: str, identifiers: list[str]) -> list[Utterance]:
    """All rows of an official list, checked line by line against transcripts and recordings."""
    path = folder / "etc" / f"an4_{official}.transcription"
    lines = numbered_lines(path)
    if len(lines) != len(identifiers):
        raise MissingError(
            f"{path} has {len(lines)} transcripts, an4_{official}.fileids {len(identifiers)} "
            "recordings; get both files again"
        )
    lexicon = read_lexicon(folder / "etc" / "an4.dic")
    rows, problems = [], []
    for (number, line), identifier in zip(lines, identifiers, strict=True):
        row = _row(folder, line, identifier, official, lexicon)
        if isinstance(row, str):
            problems.append(f"{path}:{number}: {row}")
        else:
            rows.append(row)
    if len(problems) == 1:
        raise MissingError(problems[0])
    if problems:
        raise MissingError(f"{len(problems)} lines of AN4 are unusable:{listing(problems)}")
    return rows


def _row(
    folder: Path, line: str, identifier: str, official: str, lexicon: Lexicon
) -> Utterance | str:
    """One row, or why there is none."""
    name = identifier.rpartition("/")[2]
    found = _LINE.match(line)
    if not found:
        return f"no (identifier) at the end of {line!r}"
    if found[2] != name:
        return f"the transcript is of {found[2]}, but {name} is there in an4_{official}.fileids"
    words = [word.upper() for word in found[1].split() if not _FILLER.match(word)]
    if not words:
        return f"{name} has no words"
    phones, unknown = pronounce(words, lexicon)
    if unknown:
        return f"{name} has words that etc/an4.dic does not: {' '.join(unknown)}"
    base = folder / "wav" / identifier
    # Not with_suffix: an identifier may hold a dot.
    audio = next((a for s in SUFFIXES if (a := Path(f"{base}{s}")).is_file()), None)
    if audio is None:
        return f"{name} has a transcript but no audio: none of {base}{{{','.join(SUFFIXES)}}}"
    speaker = Path(identifier).parent.name
    return Utterance(name, audio, official, speaker=speaker, text=" ".join(words), phones=phones)
