"""`run --lm`: the test split is decoded a second time; nothing else changes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ssft_bench import results
from ssft_bench.corpora.an4 import AN4
from ssft_bench.ngram import estimate
from tests.conftest import SMALL

Bench = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def command(toy_an4: Path, toy_plugins: Path, tmp_path: Path) -> list[str]:
    return [
        "run", "--upstream", f"{toy_plugins}/spectrum.py:Spectrum", "--interface", "weighted_sum",
        "--task", "asr", "--corpus", "an4", "--data", str(toy_an4), *SMALL,
        "--set", "task.options.hidden_dim=32", "--set", "task.options.project_dim=32",
        "--set", "train.steps=300", "--out", str(tmp_path / "runs"),
    ]  # fmt: skip


@pytest.fixture
def lm(toy_an4: Path, tmp_path: Path) -> Path:
    text = [(u.text or "").split() for u in AN4(toy_an4).utterances("train")]
    estimate(text, 2).write(tmp_path / "lm.arpa")
    return tmp_path / "lm.arpa"


def test_both_decodings_are_scored(
    bench: Bench, command: list[str], lm: Path, toy_an4: Path, tmp_path: Path
) -> None:
    pytest.importorskip("flashlight.lib.text.decoder.kenlm", reason="pip install 'ssft-bench[lm]'")
    assert bench(*command)[0] == 0
    ((plain_folder, plain),) = results.find_all(tmp_path / "runs")
    code, _, err = bench(*command, "--lm", lm)
    assert code == 0, err
    both = dict(results.find_all(tmp_path / "runs"))
    ((folder, record),) = [(f, r) for f, r in both.items() if f != plain_folder]
    values = {(m.split, m.name): m for m in record.metrics}
    assert values.keys() == {
        *((split, name) for split in ("dev", "test") for name in ("wer", "cer")),
        ("test", "wer_lm"),
        ("test", "cer_lm"),
    }
    # Greedy scores and the choice of the step are those of the run without a language model.
    assert [m for m in record.metrics if not m.name.endswith("_lm")] == plain.metrics
    assert record.selection["step"] == plain.selection["step"]
    assert not values["test", "wer_lm"].primary
    rows = [json.loads(x) for x in (folder / "predictions.jsonl").read_text().splitlines()]
    words = {w for u in AN4(toy_an4).utterances("train") for w in (u.text or "").split()}
    assert all(set(row["hypothesis_lm"].split()) <= words for row in rows)
    assert any(row["hypothesis_lm"] != row["hypothesis"] for row in rows)
    wrong = sum(row["hypothesis_lm"].split() != row["reference"].split() for row in rows)
    assert (values["test", "wer_lm"].value > 0) == (wrong > 0)
    # The bytes of the model count, its path does not.
    moved = lm.rename(lm.with_name("moved.arpa"))
    code, _, err = bench(*command, "--lm", moved)
    assert code == 0
    assert len(list(results.find_all(tmp_path / "runs"))) == 2
    moved.write_bytes(moved.read_bytes() + os.linesep.encode())
    assert bench(*command, "--lm", moved, "--set", "lm.beam_size=50")[0] == 0
    assert len(list(results.find_all(tmp_path / "runs"))) == 3


def test_what_is_missing_is_told_before_training(
    bench: Bench, command: list[str], lm: Path, tmp_path: Path
) -> None:
    code, _, err = bench(*command, "--lm", tmp_path / "absent.arpa")
    assert (code, "absent.arpa: there is no such file" in err) == (3, True)
    code, _, err = bench(*command, "--lexicon", tmp_path / "absent.lst")
    assert (code, "goes with --lm" in err) == (2, True)
    (tmp_path / "words.lst").write_text("A a |\n")
    code, _, err = bench(*command, "--lm", lm, "--lexicon", tmp_path / "words.lst")
    assert (code, "'A' is spelled with 'a'" in err) == (2, True)
    pr = [*command[:6], "pr", *command[7 : 11 + len(SMALL)]]
    code, _, err = bench(*pr, "--lm", lm, "--out", tmp_path / "pr")
    assert (code, "task pr is decoded without a language model" in err) == (2, True)
    assert not list(tmp_path.glob("**/log.jsonl"))


def test_parameters_are_taken_from_the_run_without_it(
    bench: Bench, command: list[str], lm: Path, tmp_path: Path
) -> None:
    pytest.importorskip("flashlight.lib.text.decoder.kenlm", reason="pip install 'ssft-bench[lm]'")
    command += ["--set", "train.steps=20", "--set", "train.eval_every=10"]
    assert bench(*command, "--lm", lm, "--out", tmp_path / "alone")[0] == 0
    ((_, alone),) = results.find_all(tmp_path / "alone")
    assert not [e for e in alone.events if e["kind"] == "parameters_taken"]
    assert bench(*command)[0] == 0
    ((_, plain),) = results.find_all(tmp_path / "runs")
    code, _, err = bench(*command, "--lm", lm)
    assert code == 0
    assert "step 10/20" not in err  # nothing was trained
    (taken,) = [r for _, r in results.find_all(tmp_path / "runs") if r.spec.lm is not None]
    assert {"kind": "parameters_taken", "from": plain.signature} in taken.events
    assert taken.signature == alone.signature
    assert taken.metrics == alone.metrics
    assert taken.learning_curve == alone.learning_curve
