"""The heat map's numbers: sign, mean over seeds, significance, correction."""

from __future__ import annotations

from pathlib import Path

import jiwer
import numpy as np
import pytest

from ssft_bench import registry, results
from ssft_bench.comparison import paired
from ssft_bench.report import gains
from ssft_bench.report.collect import collect
from tests.report.runs import finish, labels, several, texts


def wer(folder: Path) -> float:
    rows = results.load_predictions(folder)
    return 100 * jiwer.wer([r.reference for r in rows], [r.hypothesis for r in rows])


def test_gain_is_the_difference_of_mean_error_rates(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    several(tmp_path, rng, {"hubert_mini": 0.5, "score_hubert": 0.2})
    (found,) = gains.maps(collect(tmp_path))
    cell = found.cells["score_hubert", "weighted_sum"]
    mean = {
        name: np.mean([wer(p.parent) for p in tmp_path.rglob(f"{name}/**/result.json")])
        for name in ("hubert_mini", "score_hubert")
    }
    assert cell.gain == pytest.approx(mean["hubert_mini"] - mean["score_hubert"])
    assert cell.gain > 0  # fewer errors: better, though the metric went down
    assert found.base_values["weighted_sum"] == pytest.approx(mean["hubert_mini"])
    assert cell.ci95 is not None
    assert cell.ci95[0] < cell.gain < cell.ci95[1]
    assert cell.significant
    assert cell.level == gains.LEVELS


def test_higher_is_better_is_not_turned_round(tmp_path: Path, rng: np.random.Generator) -> None:
    finish(tmp_path, labels(rng), task="sa")
    right = [p.__class__(p.id, p.reference, p.reference, p.speaker) for p in labels(rng)]
    finish(tmp_path, right, task="sa", upstream="fbank")
    (found,) = gains.maps(collect(tmp_path))
    cell = found.cells["fbank", "weighted_sum"]
    assert cell.value == 100
    assert cell.gain == pytest.approx(100 - cell.base_value)
    assert cell.gain > 0
    assert cell.paired is not None
    assert cell.ci95 == cell.paired.ci95


def test_one_seed_gives_what_compare_gives(tmp_path: Path, rng: np.random.Generator) -> None:
    a, b = texts(rng, 30, 0.3), texts(rng, 30, 0.5)
    finish(tmp_path, b)
    finish(tmp_path, a, upstream="fbank")
    (found,) = gains.maps(collect(tmp_path))
    cell = found.cells["fbank", "weighted_sum"]
    wanted = paired(registry.load("tasks", "asr").primary(), a, b, seed=gains.SEED)
    assert cell.paired == wanted
    assert wanted.ci95 is not None
    assert cell.ci95 == (-wanted.ci95[1], -wanted.ci95[0])
    assert cell.p_corrected == wanted.p  # one cell: nothing to correct


def test_correction_is_over_the_cells_of_a_map(tmp_path: Path, rng: np.random.Generator) -> None:
    names = ("fbank", "score_hubert", "spin_hubert", "laser_hubert")
    several(tmp_path, rng, {"hubert_mini": 0.5, **dict.fromkeys(names, 0.45)}, seeds=(1,))
    (found,) = gains.maps(collect(tmp_path))
    raw = sorted((found.cells[n, "weighted_sum"].paired.p, n) for n in names)  # type: ignore[union-attr]
    highest = 0.0
    for place, (p, name) in enumerate(raw):  # Holm's step-down, written out
        highest = max(highest, min(1.0, (len(raw) - place) * p))
        assert found.cells[name, "weighted_sum"].p_corrected == pytest.approx(highest)
    assert found.tested == 4


def test_the_same_predictions_are_no_gain(tmp_path: Path, rng: np.random.Generator) -> None:
    predictions = texts(rng, 24, 0.5)
    finish(tmp_path, predictions)
    finish(tmp_path, predictions, upstream="fbank")
    cell = gains.maps(collect(tmp_path))[0].cells["fbank", "weighted_sum"]
    assert (cell.gain, cell.level, cell.significant) == (0.0, 0, False)


def test_changed_predictions_are_shown_but_not_tested(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    finish(tmp_path, texts(rng, 24, 0.5))
    folder = finish(tmp_path, texts(rng, 24, 0.2), upstream="fbank")
    path = folder / "predictions.jsonl"
    path.write_text(path.read_text().replace("THE", "AAA", 1))
    cell = gains.maps(collect(tmp_path))[0].cells["fbank", "weighted_sum"]
    assert cell.paired is None
    assert "not the file that was scored" in cell.why_not
    assert not cell.significant


def test_only_runs_with_the_same_recipe_and_interface_meet(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    finish(tmp_path, texts(rng, 24, 0.5))
    finish(tmp_path, texts(rng, 24, 0.5), upstream="fbank", interface="hconv")
    finish(tmp_path, texts(rng, 24, 0.5), upstream="fbank", sets=["train.steps=50"])
    assert gains.maps(collect(tmp_path)) == []
