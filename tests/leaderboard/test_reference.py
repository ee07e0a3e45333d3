"""adopt and verify: what is committed holds, and whoever changes it by hand is found out by name."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssft_bench import results, spec
from ssft_bench.errors import CheckFailed, MissingError, UsageError
from ssft_bench.leaderboard.adopt import adopt, without_paths
from ssft_bench.leaderboard.boards import BOARDS, stale_boards, write_boards
from ssft_bench.regression import committed
from ssft_bench.regression.against import Rules
from ssft_bench.regression.reference import FLOOR, Reference, same_cell, tolerance
from ssft_bench.regression.rescore import rescore
from ssft_bench.regression.verify import Request, verify
from ssft_bench.results import MetricValue
from tests.leaderboard.conftest import Bench, Derive
from tests.leaderboard.test_table import damaged, speakers


@pytest.fixture(scope="session")
def adopted(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference folder of the real runs; do not change it."""
    folder = tmp_path_factory.mktemp("adopted") / "reference"
    adopt(runs, "mini", folder)
    return folder


@pytest.fixture
def reference(adopted: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return Path(shutil.copytree(adopted, tmp_path / "reference"))


def failing(folder: Path) -> list[str]:
    return [f"{c.name}: {c.text}" for c in verify(Request(reference=folder)).failing]


def edit(path: Path, change: Callable[[Any], None]) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def test_real_runs_become_records_that_hold(runs: Path, adopted: Path) -> None:
    assert failing(adopted) == []
    found = {r.signature: (f, r) for f, r in results.find_all(adopted / "records")}
    for folder, record in results.find_all(runs):
        place, kept = found.pop(record.signature)
        assert sorted(p.name for p in place.iterdir()) == ["predictions.jsonl", "result.json"]
        assert results.load_predictions(place) == results.load_predictions(folder)
        assert kept.metrics == record.metrics
        assert kept.learning_curve == record.learning_curve
        assert rescore(place, kept) == []
    assert found == {}
    rows = Reference(adopted).rows("mini")
    assert len(rows) == sum(len(r.metrics) // 2 for _, r in results.find_all(runs))
    assert {r.tolerance_from for r in rows} <= {"ci", "floor"}
    assert all(r.tolerance >= FLOOR for r in rows)


def test_a_changed_prediction_is_named(reference: Path) -> None:
    path = next(p for p in sorted(reference.rglob("predictions.jsonl")) if "/pr/" in str(p))
    lines = path.read_text(encoding="utf-8").splitlines()
    row = json.loads(lines[0])
    row["hypothesis"] = row["reference"]
    path.write_text("\n".join([json.dumps(row), *lines[1:]]) + "\n", encoding="utf-8")
    told = failing(reference)
    assert any(str(path) in t and "not those that were scored" in t for t in told)
    assert any("test per is recorded as" in t for t in told)


def test_a_changed_prediction_with_its_digest_made_to_fit_is_named(reference: Path) -> None:
    path = next(p for p in sorted(reference.rglob("predictions.jsonl")) if "/pr/" in str(p))
    rows = results.load_predictions(path.parent)
    better = [rows[0].__class__(**{**vars(rows[0]), "hypothesis": rows[0].reference}), *rows[1:]]
    kept = results.save_predictions(path.parent, better)
    edit(path.parent / "result.json", lambda v: v.update(predictions=kept))
    told = failing(reference)
    assert any("test per is recorded as" in t for t in told)
    assert any("result.json was changed after mini.csv was written" in t for t in told)


@pytest.mark.parametrize("split", ["test", "dev"])
def test_a_changed_metric_is_named(reference: Path, split: str) -> None:
    path = next(p for p in sorted(reference.rglob("result.json")) if "/pr/" in str(p))

    def change(values: Any) -> None:
        metric = next(m for m in values["metrics"] if m["split"] == split)
        metric["value"] -= 1.0

    edit(path, change)
    told = failing(reference)
    assert any(str(path) in t and f"{split} per is recorded as" in t for t in told)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v["metrics"][0].update(ci95=[1.0, 2.0]), "the interval is recorded as"),
        (lambda v: v["spec"]["train"].update(steps=9), "the specification or the digests are not"),
        (lambda v: v["content"].update(corpus="0"), "the specification or the digests are not"),
        (lambda v: v["time"].update(started="yesterday"), "was changed after mini.csv"),
    ],
)
def test_what_else_is_changed_is_named(
    reference: Path, change: Callable[[Any], None], words: str
) -> None:
    path = next(p for p in sorted(reference.rglob("result.json")) if "/pr/" in str(p))
    edit(path, change)
    assert any(words in t for t in failing(reference))


def test_a_changed_reference_value_is_named(reference: Path) -> None:
    path = reference / "mini.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    value = float(rows[0]["value"])
    rows[0]["value"] = str(value + 0.25)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (told,) = failing(reference)
    assert f"value is {value + 0.25}, the record has {value}" in told
    assert rows[0]["metric"] in told


def test_records_that_come_or_go_are_named(reference: Path, adopted: Path) -> None:
    gone = next(p for p in sorted(reference.rglob("result.json")) if "/sa/" in str(p)).parent
    shutil.rmtree(gone)
    assert any("no committed record has this number" in t for t in failing(reference))
    shutil.rmtree(reference)
    shutil.copytree(adopted, reference)
    rows = (reference / "mini.csv").read_text().splitlines()
    (reference / "mini.csv").write_text("\n".join(rows[:-1]) + "\n")
    assert any("lacks this number of a committed record" in t for t in failing(reference))


def test_a_run_beside_the_reference(reference: Path, runs: Path, tmp_path: Path) -> None:
    report = verify(Request(runs=runs, reference=reference))
    assert report.failing == []
    moved = [c for c in report.checks if c.area == "against the reference"]
    assert {c.status for c in moved} == {"identical"}
    empty = tmp_path / "some"
    shutil.copytree(next(runs.rglob("sa")), empty / "sa")
    report = verify(Request(runs=empty, reference=reference))
    counted = [c.status for c in report.checks if c.area == "against the reference"]
    assert "not run" in counted
    assert report.failing == []


def test_tolerance_decides_and_utterances_are_named(derive: Derive, tmp_path: Path) -> None:
    rows, folder = speakers(6, 2), tmp_path / "reference"
    derive(tmp_path / "old", "pr", damaged(2, 2), rows)
    adopt(tmp_path / "old", "mini", folder)
    (row,) = Reference(folder).rows("mini")

    stored = results.load_predictions(next(folder.rglob("predictions.jsonl")).parent)
    said = {p.id: p.hypothesis for p in stored}
    said["u01-0"] = said["u01-0"].replace("L", "R")
    said["u03-1"] = "ZH AA"

    def worse(p: Any) -> str:
        return said[p.id]

    derive(tmp_path / "new", "pr", worse, rows)
    report = verify(Request(runs=tmp_path / "new", reference=folder))
    (check,) = [c for c in report.checks if c.area == "against the reference"]
    assert check.details[0] == "2 of 12 utterances changed"
    assert check.details[1].startswith("u01-0: reference 'AA B K D IY S T N M L' | was 'ZH ZH ")
    assert check.details[1].endswith("M R'")
    assert check.details[2].startswith("u03-1: ")
    assert check.details[2].endswith("is 'ZH AA'")
    few = Request(runs=tmp_path / "new", reference=folder, rules=Rules(limit=1))
    (short,) = [c for c in verify(few).checks if c.area == "against the reference"]
    assert short.details[2] == "... and 1 more"
    assert any("paired difference in per: " in line for line in check.details)
    within = {0.01: "outside", 100.0: "within"}
    for allowed, status in within.items():
        by_hand(folder / "mini.csv", allowed)
        (check,) = [
            c for c in verify(Request(runs=tmp_path / "new", reference=folder)).checks
            if c.area == "against the reference"
        ]  # fmt: skip
        assert check.status == status, (allowed, check.text)
    assert row.tolerance_from in ("ci", "floor")


def test_what_else_changed_is_told(derive: Derive, tmp_path: Path) -> None:
    """A number that moved with the threads or the weights is not one that moved with the code."""
    rows, folder = speakers(6, 2), tmp_path / "reference"
    derive(tmp_path / "old", "pr", damaged(2), rows)
    adopt(tmp_path / "old", "mini", folder)
    place, record = derive(tmp_path / "new", "pr", damaged(2), rows)
    threads = record.env["threads"]
    packages = {**record.env["packages"], "torch": "0.1"}
    record.env.update(threads=threads + 1, packages=packages)
    record.content["upstream_weights"] = "other"
    results.save(place, record)
    report = verify(Request(runs=tmp_path / "new", reference=folder))
    (check,) = [c for c in report.checks if c.area == "against the reference"]
    assert "changed since: upstream_weights, " in check.text
    assert f"threads {threads} -> {threads + 1}" in check.text
    assert " -> 0.1" in check.text


def by_hand(path: Path, allowed: float) -> None:
    """Set every tolerance of a reference file."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row |= {"tolerance": str(allowed), "tolerance_from": "hand"}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize(
    ("errors", "rules", "status"),
    [
        (2, Rules(), "identical"),
        (2, Rules(exact=True), "identical"),
        (1, Rules(), "outside"),
        (1, Rules(worse_only=True), "within"),
        (3, Rules(worse_only=True), "outside"),
    ],
)
def test_worse_and_exact(
    derive: Derive, tmp_path: Path, errors: int, rules: Rules, status: str
) -> None:
    rows, folder = speakers(6, 2), tmp_path / "reference"
    derive(tmp_path / "old", "pr", damaged(2), rows)
    adopt(tmp_path / "old", "mini", folder)
    derive(tmp_path / "new", "pr", damaged(errors), rows)
    report = verify(Request(runs=tmp_path / "new", reference=folder, rules=rules))
    (check,) = [c for c in report.checks if c.area == "against the reference"]
    assert check.status == status
    assert bool(report.failing) == (status == "outside")


def test_exact_lets_nothing_move(derive: Derive, tmp_path: Path) -> None:
    rows, folder = speakers(20, 10), tmp_path / "reference"
    derive(tmp_path / "old", "pr", damaged(2), rows)
    adopt(tmp_path / "old", "mini", folder)
    wrong = damaged(2)
    one_more = lambda p: wrong(p) + (" ZH" if p.id == "u00-0" else "")  # type: ignore[operator]  # noqa: E731
    derive(tmp_path / "new", "pr", one_more, rows)
    for exact, status in ((False, "within"), (True, "outside")):
        request = Request(runs=tmp_path / "new", reference=folder, rules=Rules(exact=exact))
        (check,) = [c for c in verify(request).checks if c.area == "against the reference"]
        assert check.status == status


def test_adopting_again_replaces_the_cell_and_keeps_tolerances_by_hand(
    derive: Derive, tmp_path: Path
) -> None:
    rows, folder = speakers(6, 2), tmp_path / "reference"
    _, record = derive(tmp_path / "old", "pr", damaged(2), rows)
    derive(tmp_path / "old", "pr", damaged(1), rows, seed=9)
    adopt(tmp_path / "old", "mini", folder)
    by_hand(folder / "mini.csv", 0.125)
    place, new = derive(tmp_path / "new", "pr", damaged(3), rows)
    changed = new.model_copy(update={"content": {**new.content, "upstream_weights": "other"}})
    signature = spec.signature(changed.spec, changed.content)
    moved = place.rename(place.with_name(signature))
    results.save(moved, changed.model_copy(update={"signature": signature}))
    (done,) = adopt(tmp_path / "new", "mini", folder)
    assert done.replaced == (record.signature,)
    found = Reference(folder).rows("mini")
    assert {(r.seed, r.value, r.tolerance, r.tolerance_from) for r in found} == {
        (1, 30.0, 0.125, "hand"), (9, 10.0, 0.125, "hand"),
    }  # fmt: skip
    assert failing(folder) == []
    adopt(tmp_path / "new", "mini", folder, prune=True)
    assert [r.seed for r in Reference(folder).rows("mini")] == [1]


def test_another_chosen_file_is_another_cell(derive: Derive, tmp_path: Path) -> None:
    _, record = derive(tmp_path, "pr", damaged(1), speakers(4, 1))
    one, other = (
        record.model_copy(update={"content": {**record.content, "interface_tensors": digest}})
        for digest in ("1", "2")
    )
    moved = record.model_copy(update={"content": {**record.content, "upstream_weights": "3"}})
    assert len({same_cell(r) for r in (record, one, other)}) == 3
    assert same_cell(moved) == same_cell(record)


def test_paths_of_the_machine_go(runs: Path) -> None:
    record = next(r for _, r in results.find_all(runs) if r.spec.task.name == "pr")
    local = record.model_copy(
        update={
            "args_passed": {
                "data": "/home/me/corpora",
                "lm": "/home/me/a.arpa",
                "upstream": "fbank",
            },
            "events": [
                {"kind": "audio", "text": "read '/home/me/x/y.wav' twice; C:\\me\\z.wav too"}
            ],
        }
    )
    values = local.spec.model_dump(mode="json")
    values["data"]["root"] = "/home/me/corpora"
    values["upstream"]["options"]["ckpt"] = "/home/me/tuned.safetensors"
    local = local.model_copy(update={"spec": spec.RunSpec.model_validate(values)})
    clean = without_paths(local)
    text = clean.model_dump_json()
    assert "/home" not in text
    assert "C:" not in text
    assert clean.spec.data.root is None
    assert clean.spec.upstream.options["ckpt"] == "tuned.safetensors"
    assert clean.args_passed == {"lm": "a.arpa", "upstream": "fbank"}
    assert clean.events[0]["text"] == "read 'y.wav' twice; z.wav too"
    assert spec.signature(clean.spec, clean.content) == record.signature
    assert without_paths(record) == record  # 1/2 or a/b are no paths


def test_what_cannot_be_a_reference(derive: Derive, runs: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no finished run there"):
        adopt(tmp_path, "mini", tmp_path / "reference")
    with pytest.raises(UsageError, match="--into Mini/x"):
        adopt(runs, "Mini/x", tmp_path / "reference")
    plugin = {"name": f"{tmp_path}/mine.py:Mine", "options": {}}
    derive(tmp_path / "plugin", "pr", damaged(1), speakers(4, 1), interface=plugin)
    with pytest.raises(UsageError, match="nobody else could repeat it"):
        adopt(tmp_path / "plugin", "mini", tmp_path / "reference")
    folder, _ = derive(tmp_path / "spoilt", "pr", damaged(1), speakers(4, 1))
    edit(folder / "result.json", lambda v: v["metrics"][0].update(value=1.0))
    with pytest.raises(CheckFailed, match="cannot be a reference"):
        adopt(tmp_path / "spoilt", "mini", tmp_path / "reference")
    assert not (tmp_path / "reference").exists()


def metric(value: float, ci95: tuple[float, float] | None) -> MetricValue:
    return MetricValue(
        name="wer", split="test", value=value, unit="%", higher_is_better=False, n=9, ci95=ci95,
        ci_method=None, primary=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("found", "seeds", "wanted"),
    [
        (metric(50, (47, 52)), [50.0], (3.0, "ci")),
        (metric(50, (49.9, 50.1)), [50.0, 51.0], (FLOOR, "floor")),
        (metric(50, None), [50.0], (FLOOR, "floor")),
        (metric(50, (49, 52)), [50.0, 54.0, 58.0], (8.0, "seeds")),
    ],
)
def test_tolerances(found: MetricValue, seeds: list[float], wanted: tuple[float, str]) -> None:
    assert tolerance(found, seeds) == wanted


def test_boards_rebuild_byte_for_byte(reference: Path, runs: Path, tmp_path: Path) -> None:
    adopt(runs, "ci", reference)  # on no board
    folder = tmp_path / "boards"
    assert {p.name for p in write_boards(reference, folder)} == set(BOARDS)
    assert stale_boards(reference, folder) == []
    with (folder / "pr.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2  # not those of ci
    with (folder / "overall.csv").open(encoding="utf-8", newline="") as file:
        (row,) = [r for r in csv.DictReader(file) if r["interface"] == "weighted_sum"]
    assert float(row["pr"]) == pytest.approx(sum(float(r["value"]) for r in rows) / 2, abs=1e-3)
    assert (row["pr_seeds"], row["asr_seeds"], row["qbe_interface"]) == ("2", "", "layer")
    text = (folder / "pr.csv").read_text(encoding="utf-8")
    (folder / "pr.csv").write_text(text.replace(",fbank,", ",abank,", 1), encoding="utf-8")
    (told,) = stale_boards(reference, folder)
    assert told.endswith(
        "pr.csv:2: does not follow from the committed records: upstream is abank, they give fbank"
    )
    (folder / "qbe.csv").unlink()
    assert any("qbe.csv is missing" in t for t in stale_boards(reference, folder))


@pytest.mark.slow
def test_what_is_committed_in_the_package_holds() -> None:
    """Every committed prediction rescored, the six boards rebuilt byte for byte."""
    report = verify(Request(against=("reference",)))
    assert [f"{c.area}: {c.name}: {c.text}" for c in report.failing] == []


def test_the_published_numbers_of_the_package_hold() -> None:
    report = verify(Request(against=("published",)))
    assert [f"{c.area}: {c.name}: {c.text}" for c in report.failing] == []
    listed = [c.text for c in report.checks if c.status == "listed"]
    assert any("pr: 3.58 % quoted" in text for text in listed)
    assert {c.area for c in report.checks} >= {
        committed.PUBLISHED,
        committed.SCORES,
        committed.CLAIMS,
    }


def test_the_command(bench: Bench, reference: Path, runs: Path, tmp_path: Path) -> None:
    code, out, err = bench("leaderboard", "verify", "--reference", reference, "--runs", runs)
    assert code == 0, err
    assert "nothing moved" in out
    edit(next(reference.rglob("result.json")), lambda v: v["metrics"][0].update(value=0.5))
    code, out, _ = bench("leaderboard", "verify", "--reference", reference, "--json")
    assert code == 1
    assert json.loads(out)["ok"] is False
    code, _, err = bench("leaderboard", "verify", "--reference", tmp_path / "none")
    assert code == 3
    code, _, err = bench("leaderboard", "verify", "--against", "gossip")
    assert code == 2
    assert "--against gossip" in err
    code, out, err = bench(
        "leaderboard", "adopt", runs, "--into", "mine", "--reference", tmp_path / "r"
    )
    assert code == 0, err
    assert (tmp_path / "r/mine.csv").is_file()


def test_the_boards_command(
    bench: Bench, adopted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssft_bench.published.rows.leaderboards_folder", lambda: tmp_path)
    code, _, err = bench("leaderboard", "boards")
    assert code == 3
    assert "adopt" in err
    shutil.copytree(adopted, tmp_path / "reference")
    code, _, err = bench("leaderboard", "boards", "--check")
    assert code == 1
    assert "pr.csv is missing" in err
    assert bench("leaderboard", "boards")[0] == 0
    assert bench("leaderboard", "boards", "--check")[0] == 0


def test_cells_are_run_again(reference: Path, bench: Bench) -> None:
    """From scratch, by the recorded specification: on this machine the same number."""
    options = ("--reference", reference, "--rerun", "--set", "mini", "--exact")
    code, out, err = bench("leaderboard", "verify", *options, "--task", "pr", "--all")
    assert code == 0, out + err
    assert "run again: 2 identical" in out
    code, _, err = bench("leaderboard", "verify", *options, "--task", "asr")
    assert code == 3
    assert "set mini has no cell of asr; it has: pr, qbe, sa" in err
