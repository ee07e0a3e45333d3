"""The published numbers: schema, digests, citations; and what the loader refuses, by file and line."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from ssft_bench import registry
from ssft_bench.errors import CheckFailed
from ssft_bench.published import checksums
from ssft_bench.published.citations import bibliography, cited_as
from ssft_bench.published.correspondence import correspondence
from ssft_bench.published.rows import COLUMNS, files, load, published_folder
from tests.speech import real_data

ROW = (
    "arXiv:2403.06260,Table 9,hubert_base,score,weighted_sum,frozen,asr,test-clean,wer,%,6.35,false,"
    "verified,"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the published numbers that may be spoilt."""
    return Path(shutil.copytree(published_folder(), tmp_path / "published"))


def append(folder: Path, line: str, name: str = "score_spin_laser.csv") -> int:
    """Add a line; return its number."""
    path = folder / name
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    return len(path.read_text(encoding="utf-8").splitlines())


def test_all_rows_load_and_are_sealed() -> None:
    rows = load()
    assert len(rows) > 850
    assert {row.status for row in rows} == {"verified", "third-party", "derived"}
    assert len({(row.file, row.key) for row in rows}) == len(rows)
    assert checksums.broken(published_folder(), rows) == []


def test_a_sound_row_can_be_added(folder: Path) -> None:
    before = len(load(folder))
    line = append(folder, ROW)
    rows = load(folder)
    assert len(rows) == before + 1
    (told,) = checksums.broken(folder, rows)
    assert f"score_spin_laser.csv:{line}" in told
    assert "not sealed" in told
    checksums.seal(folder, rows)
    assert checksums.broken(folder, load(folder)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("verified", "unverified"), "unverified numbers cannot be added"),
        (("verified", "likely"), "status='likely'"),
        (("6.35", "635"), "not between 0 and 150"),
        (("6.35", "nan"), "value='nan'"),
        (("6.35", "six"), "value='six'"),
        (("false", "no"), "true or false"),
        (("frozen", "melted"), "protocol='melted'"),
        (("%", "percent"), "unit='percent'"),
        (("wer,", "wer_relative_reduction,"), "do not go together"),
        (("hubert_base", ""), "upstream=''"),
        (("arXiv:2403.06260", "hearsay"), "say there how to cite it"),
        (("verified,", "verified"), "13 fields, expected 14"),
    ],
)
def test_a_row_that_breaks_the_schema_is_named(
    folder: Path, change: tuple[str, str], words: str
) -> None:
    line = append(folder, ROW.replace(*change))
    with pytest.raises(CheckFailed) as caught:
        load(folder)
    assert f"score_spin_laser.csv:{line}: " in str(caught.value)
    assert words in str(caught.value)


def test_no_number_twice(folder: Path) -> None:
    first = append(folder, ROW)
    line = append(folder, ROW.replace("6.35", "6.34"))
    with pytest.raises(CheckFailed, match=rf"csv:{line}: .* see line {first}"):
        load(folder)


def test_a_file_with_another_header_is_named(folder: Path) -> None:
    (folder / "more.csv").write_text("upstream,value\nhubert_base,6.42\n")
    with pytest.raises(CheckFailed, match=r"more\.csv:1: expected the header"):
        load(folder)


def test_a_source_needs_an_entry_in_the_bibliography(folder: Path) -> None:
    path = folder / "CITATIONS.bib"
    path.write_text(path.read_text().replace("{meghanani2024score,", "{someone,"))
    with pytest.raises(CheckFailed, match=r"meghanani2024score, which CITATIONS\.bib lacks"):
        load(folder)


def test_the_bibliography_has_what_a_reader_needs() -> None:
    entries, keys = bibliography(published_folder()), cited_as(published_folder())
    assert set(keys.values()) <= set(entries)
    assert len(entries) == (published_folder() / "CITATIONS.bib").read_text().count("\n@")
    for key, fields in entries.items():
        assert fields["title"], key
        if fields["ENTRYTYPE"] == "inproceedings":
            assert fields.keys() >= {"author", "booktitle", "year", "eprint"}, key


@pytest.mark.parametrize("spoil", ["changed", "gone"])
def test_a_changed_value_is_named(folder: Path, spoil: str) -> None:
    path = folder / "superb_leaderboard.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    place = next(
        n for n, line in enumerate(lines) if ",hubert_base,none,weighted_sum,frozen,asr," in line
    )
    assert ",6.42," in lines[place]
    if spoil == "changed":
        lines[place] = lines[place].replace(",6.42,", ",6.41,")
    else:
        del lines[-1]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    told = checksums.broken(folder, load(folder))
    assert len(told) == 1
    wanted = f"superb_leaderboard.csv:{place + 1}: hubert_base none weighted_sum asr test-clean wer = 6.41"
    assert (
        wanted if spoil == "changed" else f"superb_leaderboard.csv:{len(lines) + 1}: gone"
    ) in told[0]


def test_rows_are_those_that_were_collected() -> None:
    """Against the collection that they were taken from, where it is on this machine."""
    collected = real_data("").parent / "published"
    if not collected.is_dir():
        pytest.skip(f"no {collected}")
    for path in sorted(collected.glob("*.csv")):
        texts = [
            one.read_text(encoding="utf-8").splitlines()
            for one in (path, published_folder() / path.name)
        ]
        assert list(csv.reader(texts[0])) == list(csv.reader(texts[1])), path.name


def test_what_rows_correspond_to_exists() -> None:
    names, rows = correspondence(), load()
    published = {(row.upstream, row.method) for row in rows}
    for one in names.upstreams:
        assert (one.upstream, one.method) in published
    hub = set(registry.s3prl_hub().options()) | {p.name for p in registry.plugins("upstreams")}
    assert {name for one in names.upstreams for name in (*one.full, *one.small)} <= hub
    assert set(names.interfaces) <= {row.interface for row in rows}
    interfaces = {p.name for p in registry.plugins("interfaces")}
    labels = [label for of in names.interfaces.values() for label in of]
    assert {label.partition(":")[0].partition(",")[0] for label in labels} <= interfaces
    for task in names.tasks:
        assert any(
            (r.task, r.metric, r.protocol) == (task.task, task.metric, task.protocol) for r in rows
        )
        ours = registry.load("tasks", task.ours)
        assert task.ours_metric.removesuffix("_lm") in {m.name for m in ours.metrics}
        assert (task.ours_protocol or task.protocol) in ours.protocols
        registry.find("corpora", task.corpus)


def test_files_are_found_by_their_kind() -> None:
    assert {path.name for path in files(published_folder())} == {
        "context_rewire.csv", "interface_design.csv", "score_spin_laser.csv", "slue.csv",
        "superb_leaderboard.csv", "superb_scores.csv",
    }  # fmt: skip
    assert COLUMNS[:3] == ("source", "table", "upstream")
