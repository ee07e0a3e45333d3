"""Tables of SLUE: the tsv files of its archives, or the parquet files of `asapp/slue`.

    slue-voxpopuli/slue-voxpopuli_{fine-tune,dev,test}.tsv    and {split}/{id}.ogg
    slue-voxceleb/slue-voxceleb_{fine-tune,dev,test}.tsv      and {split}_raw/{id}.flac
    slue/{voxpopuli,voxceleb}/{train,validation,test}-*.parquet

The archives (v0.2) are blind: they have `..._test_blind.tsv`, without the labels. Those are public
since 2024-01-08, in the parquet files; a corpus may have both, and each split is read from the first
place of tsv, parquet, blind tsv that has it.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssft_bench.audio import listing
from ssft_bench.digests import cache_folder
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.files import atomic_path, sha256_json, write_json
from ssft_bench.progress import Progress

REPOSITORY = "https://huggingface.co/datasets/asapp/slue"
REVISION = "67f7da031721a14cc391c7fa7c8d96411282d8a3"
"""Revision of `asapp/slue` that the layout was read from."""
OFFICIAL = {"train": "fine-tune", "dev": "dev", "test": "test"}
HUGGING_FACE = {"train": "train", "dev": "validation", "test": "test"}
_MAGIC = {b"OggS": ".ogg", b"fLaC": ".flac", b"RIFF": ".wav"}


@dataclass(frozen=True)
class Record:
    """A row of a table and its recording."""

    values: dict[str, Any]
    """Column -> value: text from a tsv, typed from a parquet file."""
    audio: Path
    where: str
    """File and line, for messages."""

    @property
    def id(self) -> str:
        """Identifier of the utterance."""
        return str(self.values["id"])


@dataclass(frozen=True)
class Table:
    """The rows of one split, from one place."""

    records: list[Record]
    path: Path
    source: str
    """tsv, parquet, or blind for a tsv without test labels."""

    def require(self, *columns: str) -> None:
        """Raises MissingError when the table has no such column, with the way out for blind ones."""
        have = set(self.records[0].values) if self.records else set(columns)
        lacking = [column for column in columns if column not in have]
        if not lacking:
            return
        if self.source == "blind":
            raise MissingError(
                f"{self.path} is the blind version of the test split: no column "
                f"{', '.join(lacking)}. {with_labels()}"
            )
        raise MissingError(
            f"{self.path} has no column {', '.join(lacking)}; it has: {', '.join(sorted(have))}"
        )


def with_labels() -> str:
    """How to get the test labels: accept the terms, then download the parquet files."""
    return (
        f"Test labels are in {REPOSITORY}: accept its terms there, then `hf download asapp/slue "
        f"--repo-type dataset --revision {REVISION[:8]} --local-dir ROOT/slue` and --data ROOT"
    )


def read_table(root: Path | None, part: str, split: str, audio: str) -> Table:
    """One split of `part` (voxpopuli or voxceleb). `audio` is the recordings' place beside a tsv, with
    `{split}` and `{id}`.

    Raises UsageError for an unknown split, MissingError when no place has it or recordings are absent.
    """
    name = f"slue-{part}"
    if split not in OFFICIAL:
        raise UsageError(f"corpus slue_{part} has no split {split!r}; splits: train, dev, test")
    if root is None:
        raise MissingError(f"corpus slue_{part} needs --data FOLDER; get it from {REPOSITORY}")
    official = OFFICIAL[split]
    folders = (root, root / name)
    for folder in folders:
        path = folder / f"{name}_{official}.tsv"
        if path.is_file():
            return _from_tsv(path, official, audio, "tsv")
    for folder in (root / "slue" / part, root / part, root):
        files = sorted(folder.glob(f"{HUGGING_FACE[split]}-*.parquet"))
        if files and folder.name == part:
            return _from_parquet(files)
    for folder in folders:
        path = folder / f"{name}_{official}_blind.tsv"
        if path.is_file():
            return _from_tsv(path, official, audio, "blind")
    raise MissingError(
        f"no split {official} of {name} in {root}: neither {name}/{name}_{official}.tsv nor "
        f"slue/{part}/{HUGGING_FACE[split]}-*.parquet; get it with `ssft-bench data get slue_{part}` "
        f"or from {REPOSITORY}, or mend --data FOLDER"
    )


def _from_tsv(path: Path, official: str, audio: str, source: str) -> Table:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t")
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MissingError(f"cannot read {path}: {error}; get the file again") from error
    if not rows or "id" not in rows[0][1]:
        raise MissingError(f"{path} has no rows with a column id; get the file again")
    records, problems = [], []
    for number, row in rows:
        if None in row or None in row.values():
            problems.append(f"{path}:{number}: not as many fields as the head line has")
            continue
        place = path.parent / audio.format(split=official, id=row["id"])
        if not place.is_file():
            problems.append(f"{path}:{number}: {row['id']} has no audio: no {place}")
        records.append(Record(dict(row), place, f"{path}:{number}"))
    if problems:
        raise MissingError(
            f"{len(problems)} of {len(rows)} rows of {path} are unusable; get the corpus again:"
            f"{listing(problems)}"
        )
    return Table(records, path, source)


def _from_parquet(files: Sequence[Path]) -> Table:
    records = []
    for path in files:
        rows, folder = _unpacked(path)
        for number, row in enumerate(rows):
            values = {k: v for k, v in row.items() if k != "audio"}
            records.append(Record(values, folder / row["audio"], f"{path} row {number}"))
    return Table(records, files[0], "parquet")


def _unpacked(path: Path) -> tuple[list[dict[str, Any]], Path]:
    """Rows of a parquet file and the folder with their recordings, which are written out once.

    libsndfile reads files, and a run hashes and checks them: so they are unpacked into the cache, under
    a name that changes with the parquet file.
    """
    status = path.stat()
    key = sha256_json([str(path.resolve()), status.st_size, status.st_mtime_ns])[:16]
    folder = cache_folder() / "slue" / key
    listed = folder / "rows.json"  # written last: where it is, the recordings are whole
    if listed.is_file():
        rows = json.loads(listed.read_text(encoding="utf-8"))
        if all((folder / row["audio"]).is_file() for row in rows):
            return rows, folder
    rows = list(_unpack(path, folder))
    write_json(listed, rows)
    return rows, folder


def _unpack(path: Path, folder: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingError(
            f"{path}: reading parquet files needs pyarrow; pip install 'ssft-bench[hf]'"
        ) from error
    try:
        file = pyarrow.parquet.ParquetFile(path)
        with Progress(f"unpacking {path.name}", file.metadata.num_rows, unit="row") as bar:
            for batch in file.iter_batches(batch_size=64):
                for row in batch.to_pylist():
                    yield {**row, "audio": _write(path, row, folder)}
                    bar.advance()
    except (OSError, pyarrow.ArrowException) as error:
        raise MissingError(f"cannot read {path}: {error}; get the file again") from error


def _write(path: Path, row: dict[str, Any], folder: Path) -> str:
    """Write a row's recording out; the name of its file."""
    audio = row.get("audio") or {}
    data = audio.get("bytes")
    if "id" not in row or not data:
        raise MissingError(f"{path}: a row has no id or no audio bytes; get {REPOSITORY} again")
    named = Path(str(audio.get("path") or "")).suffix.lower()
    suffix = _MAGIC.get(data[:4], named if named in (".ogg", ".flac", ".wav", ".opus") else "")
    name = re.sub(r"[^\w:.+-]", "_", str(row["id"])) + suffix
    with atomic_path(folder / name) as temporary:
        temporary.write_bytes(data)
    return name
