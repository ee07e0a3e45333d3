"""Markdown, LaTeX, HTML, CSV and pivots: well formed, escaped, the same bytes every time."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from lxml import html

from ssft_bench import leaderboard
from ssft_bench.leaderboard import formats
from ssft_bench.leaderboard.formats import latex_escape
from ssft_bench.leaderboard.pivot import pivot_table
from ssft_bench.leaderboard.sections import Cell, Section
from tests.leaderboard.conftest import Bench, Derive
from tests.leaderboard.test_table import damaged, speakers


@pytest.fixture
def table(derive: Derive, tmp_path: Path) -> pd.DataFrame:
    """Two upstreams by two interfaces on two tasks."""
    rows = speakers(8, 2)
    for upstream, interface, errors in (("a_1", "last", 3), ("a_1", "mean", 1), ("b&c", "last", 2)):
        for task in ("pr", "sa"):
            given = rows if task == "pr" else None
            derive(
                tmp_path, task, damaged(errors) if task == "pr" else lambda p: "neutral", given,
                upstream={"name": upstream, "options": {}}, interface={"name": interface, "options": {}},
            )  # fmt: skip
    return leaderboard.build(tmp_path)


@pytest.mark.parametrize("form", leaderboard.FORMATS)
@pytest.mark.parametrize("pivot", [None, "task", "interface", "upstream"])
def test_the_same_bytes_again(
    table: pd.DataFrame, form: str, pivot: leaderboard.Pivot | None
) -> None:
    shuffled = table.sample(frac=1, random_state=1).sort_index()
    assert leaderboard.render(table, form, pivot) == leaderboard.render(shuffled, form, pivot)


def test_csv_can_be_read_again(table: pd.DataFrame) -> None:
    text = leaderboard.render(table, "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == list(leaderboard.COLUMNS)
    assert [row["signature"] for row in rows] == list(table["signature"])
    assert "\r" not in text


def test_html_is_well_formed_and_needs_nothing(table: pd.DataFrame) -> None:
    text = leaderboard.render(table, "html")
    page = html.fromstring(text)
    assert not page.xpath("//script | //link | //img | //*[@src]")
    (first, *_) = page.xpath("//section[contains(h2, 'pr on mini')]//tbody/tr")
    assert [c.text_content() for c in first][:3] == ["a_1", "mean", "10.00"]
    assert first.xpath(".//strong")[0].text == "10.00"
    assert page.xpath("//section[contains(h2, 'pr on mini')]//u")[0].text == "20.00"
    for row in page.xpath("//tr"):
        assert len(row) == len(row.xpath("ancestor::table//thead/tr")[0])
    assert "b&amp;c" in text
    assert "b&c" not in text.replace("b&amp;c", "")


def test_latex_is_balanced_and_escaped(table: pd.DataFrame) -> None:
    text = leaderboard.render(table, "latex")
    assert text.count("\\begin{table}") == text.count("\\end{table}") == 2
    body = next(part for part in text.split("\\begin{tabular}") if "PER" in part)
    columns = re.match(r"\{([lr]+)\}", body)
    assert columns is not None
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert {len(re.split(r"(?<!\\)&", line)) for line in rows} == {len(columns.group(1))}
    assert r"a\_1" in text
    assert r"b\&c" in text
    assert r"\textbf{10.00}" in text
    assert r"\underline{20.00}" in text
    assert r"PER $\downarrow$ \%" in text
    assert text.isascii()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
def test_latex_compiles(table: pd.DataFrame, tmp_path: Path) -> None:
    body = leaderboard.render(table, "latex").replace("\\centering", "\\centering\\tiny")
    source = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}{body}\\end{{document}}"
    (tmp_path / "t.tex").write_text(source)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]


def test_letters_that_mean_something_elsewhere() -> None:
    assert latex_escape(r"50% & a_b \x {~^} #$") == (
        r"50\% \& a\_b \textbackslash{}x \{\textasciitilde{}\textasciicircum{}\} \#\$"
    )
    part = Section("t", (Cell("a|b"),), ((Cell("<x|y>"),),))
    assert "| <x\\|y> |" in formats.markdown([part])
    assert "&lt;x|y&gt;" in formats.html([part])


def test_pivots_hold_every_number_once(table: pd.DataFrame) -> None:
    for pivot, rows in (("task", 3), ("interface", 4), ("upstream", 4)):
        wide = pivot_table(table, pivot)  # type: ignore[arg-type]
        assert len(wide) == rows, pivot
        numbers = sorted(v for v in wide.select_dtypes("number").to_numpy().ravel() if v == v)
        assert numbers == sorted(table["value"]), pivot


def test_a_pivot_marks_the_best_across_the_page(table: pd.DataFrame) -> None:
    text = leaderboard.render(table, "md", "interface")
    assert "| a_1 | *30.00 [30.0, 30.0]* | **10.00 [10.0, 10.0]** |" in text
    assert "| b&c | 20.00 [20.0, 20.0] |  |" in text
    by_task = leaderboard.render(table, "md", "task")
    assert (
        "| upstream | interface | pr on mini, PER ↓ % | sa on mini_phrases, MACRO F1 ↑ % |"
        in by_task
    )
    assert "superb" not in by_task.lower()  # no corpus of SUPERB's


def test_partial_points_only_on_superbs_corpora(derive: Derive, tmp_path: Path) -> None:
    rows, own = speakers(8, 2), {"suite": "full", "data__corpus": "librispeech"}
    derive(tmp_path, "pr", damaged(1), rows, **own)
    table = leaderboard.build(tmp_path, significance=False)
    text = leaderboard.render(table, "md", "task")
    points = 1000 * (10.0 - 82.01) / (3.53 - 82.01)
    assert f"| {points:.0f} (pr) |" in text
    assert "it is no superb_s" in text
    assert "superb_s " not in text.replace("it is no superb_s", "")


def test_the_command_writes_what_is_asked_for(bench: Bench, derive: Derive, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    derive(out, "pr", damaged(1), speakers(8, 2))
    code, _, err = bench("leaderboard", "build", "--runs", out)
    assert code == 0, err
    assert {p.name for p in out.glob("leaderboard*")} == {"leaderboard.csv", "leaderboard.md"}
    options = ("--format", "csv,md,latex,html", "--pivot", "task", "--to", tmp_path / "to")
    code, _, err = bench("leaderboard", "build", "--runs", out, *options)
    assert code == 0, err
    assert {p.name for p in (tmp_path / "to").iterdir()} == {
        f"leaderboard-by-task.{suffix}" for suffix in ("csv", "md", "tex", "html")
    }
    code, _, err = bench("leaderboard", "build", "--runs", out, "--format", "pdf")
    assert code == 2
    assert "--format pdf: give any of csv, md, latex, html" in err
    code, _, err = bench("leaderboard", "build", "--runs", out, "--base", "nobody")
    assert code == 2
    assert "--base nobody: no run of that upstream; there are: fbank" in err
