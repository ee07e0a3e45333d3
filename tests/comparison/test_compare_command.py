"""`ssft-bench compare` on folders of runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssft_bench import results
from ssft_bench.comparison import paired, paired_seeds
from ssft_bench.comparison.corrections import benjamini_hochberg, holm
from ssft_bench.comparison.mapsswe import mapsswe
from ssft_bench.metric import Prediction
from ssft_bench.results import ResultRecord
from ssft_bench.spec import resolve, signature
from tests.comparison.sctk import WER, texts

Bench = Callable[..., tuple[int, str, str]]
CONTENT = {"upstream_weights": "1" * 64, "corpus": "2" * 64}


def finished(
    out: Path, upstream: str, rows: list[Prediction], *, interface: str = "hconv", task: str = "asr",
    content: dict[str, Any] | None = None, status: str = "done", **given: Any,
) -> Path:  # fmt: skip
    """A run's folder as `run` leaves it, without the training."""
    spec = resolve(upstream=upstream, interface=interface, task=task, **given)
    content = {**CONTENT, **(content or {})}
    name = signature(spec, content)
    folder = results.run_folder(out, spec, name)
    folder.mkdir(parents=True)
    record = ResultRecord(
        status=status, signature=name, spec=spec, content=content, data={"synthetic": True},
        predictions=results.save_predictions(folder, rows),
    )  # fmt: skip
    results.save(folder, record)
    return folder


@pytest.fixture
def three(tmp_path: Path) -> tuple[list[Path], list[list[Prediction]]]:
    """Three systems, the last one worse; 24 speakers."""
    rng = np.random.default_rng(11)
    a, b = texts(rng, 72, (0.2, 0.2))
    rng = np.random.default_rng(11)
    _, c = texts(rng, 72, (0.2, 0.6))
    c = [Prediction(p.id, p.reference, q.hypothesis) for p, q in zip(a, c, strict=True)]
    rows = [[Prediction(p.id, p.reference, p.hypothesis, f"s{i % 24}") for i, p in enumerate(side)]
            for side in (a, b, c)]  # fmt: skip
    names = ("score_hubert", "hubert_mini", "fbank")
    return [finished(tmp_path / "runs", n, r) for n, r in zip(names, rows, strict=True)], rows


def test_numbers_are_those_of_the_functions(
    bench: Bench, three: tuple[list[Path], list[list[Prediction]]]
) -> None:
    folders, rows = three
    code, out, _ = bench("compare", *folders, "--json")
    assert code == 0
    told = json.loads(out)
    assert (told["metric"], told["unit"], told["higher_is_better"]) == ("wer", "%", False)
    assert [(c["a"]["letter"], c["b"]["letter"]) for c in told["comparisons"]] == [
        ("A", "B"),
        ("A", "C"),
    ]
    own = [paired(WER, rows[0], other, seed=1) for other in rows[1:]]
    matched = [mapsswe(WER, rows[0], other) for other in rows[1:]]
    for c, p, m, adjusted in zip(
        told["comparisons"], own, matched, holm([p.p for p in own]), strict=True
    ):
        assert (c["difference"], c["p"], c["n"], c["clusters"]) == (p.difference, p.p, 72, 24)
        assert tuple(c["ci95"]) == p.ci95
        assert c["probability_of_improvement"] == p.probability_of_improvement
        assert (c["mapsswe"]["segments"], c["mapsswe"]["p"]) == (m.segments, m.p)
        assert c["p_corrected"] == adjusted
        assert (c["a"]["value"], c["b"]["value"]) == p.values
        assert c["a"]["runs"] == [str(folders[0])]
    assert [c["better"] for c in told["comparisons"]] == [None, "a"]
    assert holm([m.p for m in matched]) == [
        c["mapsswe"]["p_corrected"] for c in told["comparisons"]
    ]


def test_all_pairs_and_corrections(bench: Bench, three: tuple[list[Path], Any]) -> None:
    def asked(*flags: str) -> tuple[list[str], list[float], list[float]]:
        found = json.loads(bench("compare", *three[0], "--all-pairs", "--json", *flags)[1])
        rows = found["comparisons"]
        names = [c["a"]["letter"] + c["b"]["letter"] for c in rows]
        return names, [c["p"] for c in rows], [c["p_corrected"] for c in rows]

    names, p, corrected = asked()
    assert names == ["AB", "AC", "BC"]
    assert corrected == holm(p)
    assert asked("--correction", "bh")[2] == benjamini_hochberg(p) != corrected
    assert asked("--correction", "none")[2] == p


def test_the_table(bench: Bench, three: tuple[list[Path], Any], tmp_path: Path) -> None:
    code, out, _ = bench(
        "compare", "fbank/hconv/asr", "mini/score_hubert/hconv/asr", "--runs", tmp_path / "runs"
    )
    assert code == 0
    for part in ("fbank/hconv", "WER ↓ %", "A - B", "(synthetic", "MAPSSWE p", "speakers"):
        assert part in out
    assert "Holm" not in out, "one comparison needs no correction"
    assert "72 utterances of 24 speakers" in out
    row = next(line for line in out.splitlines() if "A - B" in line)
    assert row.rstrip(" │").endswith(" B"), "B is better: fewer errors"


def test_seeds_of_a_cell_are_one_system(bench: Bench, tmp_path: Path) -> None:
    sides: list[list[list[Prediction]]] = []
    for upstream, rate in (("score_hubert", 0.2), ("fbank", 0.4)):
        runs = []
        for seed in (1, 2, 3):
            said = texts(np.random.default_rng(1), 60, (rate + seed / 50, 0.5))[0]
            runs.append(
                [
                    Prediction(f"u{i}", "A B C", p.hypothesis, f"s{i % 20}")
                    for i, p in enumerate(said)
                ]
            )
            finished(tmp_path / "runs", upstream, runs[-1], seed=seed)
        sides.append(runs)
    cells = ("score_hubert/hconv/asr", tmp_path / "runs/mini/fbank/hconv/asr")
    code, out, _ = bench("compare", *cells, "--runs", tmp_path / "runs", "--json")
    assert code == 0
    (found,) = json.loads(out)["comparisons"]
    expected = paired_seeds(WER, *sides, seed=1)
    assert found["a"]["seeds"] == found["b"]["seeds"] == [1, 2, 3]
    assert (found["difference"], found["p"]) == (expected.difference, expected.p)
    assert tuple(found["ci95"]) == expected.ci95
    assert found["mapsswe"] is None
    assert "seeds 1, 2, 3" in bench("compare", *cells, "--runs", tmp_path / "runs")[1]


def test_cer_and_what_a_language_model_decoded(bench: Bench, tmp_path: Path) -> None:
    rows = [
        Prediction(f"u{i}", "AB CD", "AB CX", None, "AB CD" if i % 2 else "AB CX")
        for i in range(20)
    ]
    other = [Prediction(p.id, p.reference, "AB CX", None, "AB CX") for p in rows]
    pair = finished(tmp_path, "fbank", rows), finished(tmp_path, "hubert_mini", other)
    values = {}
    for name in ("cer", "wer", "wer_lm", "cer_lm"):
        (found,) = json.loads(bench("compare", *pair, "--json", "--metric", name)[1])["comparisons"]
        values[name] = [found[side]["value"] for side in "ab"]
    assert values == {"cer": [20, 20], "wer": [50, 50], "wer_lm": [25, 50], "cer_lm": [10, 20]}
    code, _, error = bench("compare", *pair, "--metric", "werr")
    assert (code, "Did you mean wer" in error) == (2, True)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"task": "pr"}, "another task: asr and pr"),
        ({"corpus": "an4"}, "another corpus: mini_phrases and an4"),
        ({"content": {"corpus": "3" * 64}}, "corpus digest): 222222222222… and 333333333333…"),
        ({"status": "failed"}, "the run is failed"),
        ({"rows": [Prediction("v", "A", "A")]}, "'u' first"),
        ({"rows": [Prediction("u", "B", "A")]}, "another reference"),
    ],
)
def test_what_cannot_be_compared(
    bench: Bench, tmp_path: Path, other: dict[str, Any], words: str
) -> None:
    first = finished(tmp_path, "fbank", [Prediction("u", "A", "A")])
    rows = other.pop("rows", [Prediction("u", "A", "A")])
    second = finished(tmp_path, "hubert_mini", rows, **other)
    code, out, error = bench("compare", first, second)
    assert (code, out) == (2, "")
    assert words in error
    assert len(error.strip().splitlines()) == 1


def test_names_that_fit_nothing_too_much_or_one(bench: Bench, tmp_path: Path) -> None:
    rows = [Prediction("u", "A", "A")]
    first = finished(tmp_path, "fbank", rows)
    second = finished(tmp_path, "fbank", rows, sets=["train.optimizer.lr=0.5"])
    finished(tmp_path, "hubert_mini", rows, seed=2)
    cell = ["--runs", tmp_path]
    code, _, error = bench("compare", "fbank/hconv/asr", "hubert_mini/hconv/asr", *cell)
    assert (code, "fits several cells" in error) == (2, True)
    assert str(first) in error
    assert "train.optimizer.lr=0.5" in error
    assert "train.steps" not in error, "both have the same"
    code, _, error = bench("compare", first, "hubert/hconv/asr", *cell)
    assert (code, "hubert_mini/hconv/asr" in error) == (3, True)
    code, _, error = bench("compare", first, first)
    assert (code, "given twice" in error) == (2, True)
    code, _, error = bench("compare", "hubert_mini/hconv/asr", *cell)
    assert (code, "give a second cell" in error) == (2, True)
    assert bench("compare", first, second)[0] == 0, "by folder the two are told apart"
    assert second.name[:8] in bench("compare", first, second)[1]


def test_changed_predictions_are_refused(bench: Bench, tmp_path: Path) -> None:
    folders = [finished(tmp_path, u, [Prediction("u", "A", "A")]) for u in ("fbank", "hubert_mini")]
    assert bench("compare", *folders)[0] == 0
    path = folders[1] / "predictions.jsonl"
    path.write_text(path.read_text().replace('"hypothesis": "A"', '"hypothesis": "B"'))
    code, _, error = bench("compare", *folders)
    assert (code, "is not what the run wrote" in error) == (1, True)
    path.unlink()
    assert bench("compare", *folders)[0] == 3
