"""Query-by-example from the command line: the layer picked on dev, the record, spilling to disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssft_bench import frame_store, results
from ssft_bench.corpora.mini_corpus import Mini
from ssft_bench.downstreams.qbe.mtwv import MTWV
from tests.training_free.toy import Bench, Run, folder_of, scores, values


def test_dev_picks_the_layer(run: Run, tmp_path: Path) -> None:
    record = run("layer")
    folder = folder_of(tmp_path, record)
    each = [run(f"layer:index={n}") for n in (0, 1)]
    assert [t["layer"] for t in record["trials"]] == [0, 1]
    for trial, own in zip(record["trials"], each, strict=True):
        assert values(own, "dev") == {k: trial[k] for k in ("mtwv", "map", "atwv")}
        assert own["trials"] == []
        assert "layer" not in own["selection"]
    best = max((0, 1), key=lambda n: (record["trials"][n]["mtwv"], record["trials"][n]["map"]))
    assert record["selection"]["layer"] == best
    assert record["selection"]["value"] == record["trials"][best]["mtwv"]
    assert values(record, "test") == values(each[best], "test")
    assert scores(folder) == scores(folder_of(tmp_path, each[best]))
    assert record["interface_state"]["options"] == {"index": best}
    assert record["trials"][0]["map"] != record["trials"][1]["map"]
    assert len({r["signature"] for r in (record, *each)}) == 3
    last = run("last")
    assert values(last, "test") == values(each[1], "test")
    assert values(run("mean"), "test") != values(last, "test")


def test_the_record_is_like_that_of_other_runs(
    run: Run, bench: Bench, common: list[str], tones: Path, tmp_path: Path
) -> None:
    record = run("layer")
    folder = folder_of(tmp_path, record)
    assert record["status"] == "done"
    assert record["spec"]["protocol"] == "training-free"
    assert record["spec"]["train"] is None
    primary = [m for m in record["metrics"] if m["primary"]]
    assert [(m["name"], m["split"], m["unit"]) for m in primary] == [
        ("mtwv", "test", "x100"), ("mtwv", "dev", "x100"),
    ]  # fmt: skip
    assert primary[0]["n"] == 7
    assert primary[0]["ci95"][0] <= primary[0]["value"] <= primary[0]["ci95"][1]
    assert "queries" in primary[0]["ci_method"]
    assert values(record, "test")["map"] > 50  # tones are found; at random about 30
    rows = results.load_predictions(folder)
    assert [r.id for r in rows] == [f"test-q{n}" for n in range(7)]
    assert MTWV.value(rows) == primary[0]["value"]
    corpus = Mini(folder=tones)
    for row in rows:
        word = next(q.text for q in corpus.queries("test") if q.id == row.id)
        truth = [d.id for d in corpus.utterances("test") if f" {word} " in f" {d.text} "]
        assert row.reference.splitlines() == truth
        assert len(row.hypothesis.splitlines()) == 12
    assert rows[-1].reference == ""
    assert record["data"]["queries"]["test"] == {
        "asked": 7, "occurring": 6, "absent": 0, "absent_documents": 0,
    }  # fmt: skip
    assert set(record["cost"]["seconds"]) == {"hidden_states", "matching", "scoring"}
    seconds = sum(
        len(spell_of) / 16000
        for split in ("dev", "test")
        for spell_of in (
            np.zeros(_samples(u.text or ""))
            for u in (*corpus.utterances(split), *corpus.queries(split))
        )
    )
    assert record["cost"]["speech_hours_encoded"] == pytest.approx(seconds / 3600, abs=1e-4)
    assert record["cost"]["parameters"]["head"] == {"total": 0, "trainable": 0}
    assert sorted(p.name for p in folder.iterdir()) == [
        ".lock", "benchmark.stdlist.xml", "predictions.jsonl", "result.json",
    ]  # fmt: skip
    stamp = (folder / "result.json").stat().st_mtime_ns
    run("layer")
    assert (folder / "result.json").stat().st_mtime_ns == stamp
    code, out, err = bench("leaderboard", "build", "--runs", tmp_path / "runs")
    assert code == 0, err
    assert "MTWV" in out


def _samples(text: str) -> int:
    """Of `spell`."""
    return 960 + 2240 * len(text)


def test_no_memory_gives_the_same_numbers(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = run("layer")
    before = scores(folder_of(tmp_path, kept))
    spilt: list[int] = []
    add = frame_store.FrameStore.add

    def watched(self: Any, *given: Any) -> None:
        add(self, *given)
        spilt.append(len(self._spilt))

    monkeypatch.setattr(frame_store.FrameStore, "add", watched)
    # Room for some of it.
    again = run("layer", "--set", "data.memory_gib=0.0001", "--overwrite", "always")
    assert 0 < max(spilt) < len(spilt)
    assert again["signature"] == kept["signature"]
    assert again["metrics"] == kept["metrics"]
    assert again["trials"] == kept["trials"]
    folder = folder_of(tmp_path, again)
    assert scores(folder) == before
    assert not (folder / frame_store.FOLDER).exists()


def test_a_full_disk_is_told_before_work(
    run: Run, bench: Bench, common: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(frame_store.shutil, "disk_usage", lambda place: full)
    arguments = [*common, "--interface", "layer", "--task", "qbe"]
    code, _, err = bench(*arguments, "--set", "data.memory_gib=0")
    assert code == 2
    assert "data.memory_gib" in err
    assert "layer:index=N" in err
    ((folder, record),) = results.find_all(tmp_path / "runs")
    assert record.status == "failed"
    assert not (folder / frame_store.FOLDER).exists()
    assert run("layer")["status"] == "done"  # in memory it fits, and the failed run is tried again


def test_scratch_files_of_a_killed_run_are_removed(run: Run, tmp_path: Path) -> None:
    record = run("last")
    folder = folder_of(tmp_path, record)
    killed = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**killed, "status": "running", "metrics": []}))
    (folder / frame_store.FOLDER).mkdir()
    (folder / frame_store.FOLDER / "0.f32").write_bytes(b"left behind")
    again = run("last", "--set", "data.memory_gib=0")
    assert again["metrics"] == record["metrics"]
    assert not (folder / frame_store.FOLDER).exists()
