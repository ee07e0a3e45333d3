"""Which runs are found, told apart and put beside each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ssft_bench.errors import CheckFailed, MissingError, UsageError
from ssft_bench.report.collect import collect
from tests.report.runs import finish, several, texts


def test_groups_hold_what_differs_in_upstream_interface_and_seed_only(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    several(tmp_path, rng, {"hubert_mini": 0.4, "fbank": 0.6}, interfaces=("weighted_sum", "hconv"))
    predictions = texts(rng, 24, 0.5)
    finish(tmp_path, predictions, sets=["train.steps=77"])
    finish(tmp_path, predictions, sets=["train.steps=77"], upstream="fbank")
    found = collect(tmp_path)
    assert [len(group.runs) for group in found.groups] == [12, 2]
    short, long = (group.settings for group in found.groups[::-1])
    assert short == "steps=77"
    assert long.startswith("steps=")
    assert long != short
    assert found.upstreams == ("hubert_mini", "fbank")
    cell = found.groups[0].cell("fbank", "hconv")
    assert [run.seed for run in cell] == [1, 2, 3]
    assert [run.number for run in found.runs] == list(range(14))


def test_the_same_recipe_needs_no_settings(tmp_path: Path, rng: np.random.Generator) -> None:
    several(tmp_path, rng, {"hubert_mini": 0.4, "fbank": 0.6})
    (group,) = collect(tmp_path).groups
    assert group.settings == ""


def test_other_bytes_of_a_corpus_are_another_group(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    predictions = texts(rng, 12, 0.5)
    for digest in ("1" * 64, "2" * 64):
        content = {"upstream_weights": "w", "corpus": digest}
        finish(tmp_path, predictions, seed=int(digest[0]), content=content)
    settings = [group.settings for group in collect(tmp_path).groups]
    assert settings == ["corpus bytes=11111111", "corpus bytes=22222222"]


def test_one_name_with_two_weights_is_two_upstreams(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    for seed, weights in ((1, "aaaaaaaa"), (2, "bbbbbbbb")):
        content = {"upstream_weights": weights, "corpus": "c"}
        finish(tmp_path, texts(rng, 12, 0.5), seed=seed, content=content)
    content = {"upstream_weights": "bbbbbbbb", "corpus": "c"}
    finish(tmp_path, texts(rng, 12, 0.5), seed=3, content=content)
    found = collect(tmp_path)
    assert found.upstreams == ("hubert_mini @bbbbbb", "hubert_mini @aaaaaa")
    assert found.base == "hubert_mini @bbbbbb"  # it has more runs


def test_a_copy_counts_once_and_is_named(tmp_path: Path, rng: np.random.Generator) -> None:
    predictions = texts(rng, 12, 0.5)
    for place in ("a", "b"):
        finish(tmp_path / place, predictions)
    (run,) = collect(tmp_path).runs
    assert run.path.startswith("a/")
    assert [copy[:2] for copy in run.copies] == ["b/"]


def test_what_has_no_score_is_listed_with_its_reason(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    finish(tmp_path, texts(rng, 12, 0.5))
    finish(tmp_path, texts(rng, 12, 0.5), seed=2, status="failed", error="ValueError: <b>no</b>")
    finish(tmp_path, texts(rng, 12, 0.5), seed=3, status="running")
    broken = tmp_path / "zzz" / "result.json"
    broken.parent.mkdir()
    broken.write_text('{"schema_version": 99}')
    found = collect(tmp_path)
    assert len(found.runs) == 1
    assert sorted(one.status for one in found.unfinished) == ["failed", "running", "unreadable"]
    told = {one.status: one.reason for one in found.unfinished}
    assert told["failed"] == "ValueError: <b>no</b>"
    assert "not a result record" in told["unreadable"]


def test_mistakes_of_a_user(tmp_path: Path, rng: np.random.Generator) -> None:
    with pytest.raises(MissingError, match="no run there"):
        collect(tmp_path)
    with pytest.raises(MissingError, match="no run there"):
        collect(tmp_path / "nowhere")
    finish(tmp_path, texts(rng, 12, 0.5), upstream="fbank")
    assert collect(tmp_path).base == ""  # the default base may be absent
    assert collect(tmp_path, "fbank").base == "fbank"
    with pytest.raises(UsageError, match=r"--base wavlm: no finished run.*there are: fbank"):
        collect(tmp_path, "wavlm")


def test_predictions_must_be_those_that_were_scored(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    folder = finish(tmp_path, texts(rng, 12, 0.5))
    (run,) = collect(tmp_path).runs
    assert len(run.predictions()) == 12
    path = folder / "predictions.jsonl"
    path.write_text(path.read_text().replace("u000", "u999"))
    with pytest.raises(CheckFailed, match="not the file that was scored"):
        run.predictions()
    path.unlink()
    with pytest.raises(CheckFailed, match="missing"):
        run.predictions()
