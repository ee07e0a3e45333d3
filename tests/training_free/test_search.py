"""What is searched: mistakes, absent parts of the ground truth, the digest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ssft_bench import results
from ssft_bench.corpora.mini_corpus import Mini
from ssft_bench.corpora.quesst14 import Quesst14
from ssft_bench.corpora.search import searches
from ssft_bench.data import prepare
from ssft_bench.downstreams.qbe.mtwv import MAP
from ssft_bench.errors import MissingError
from ssft_bench.metric import Prediction
from ssft_bench.spec import DataSpec
from tests.corpora.test_quesst14 import archive
from tests.training_free.toy import Bench, Run, folder_of, values


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--protocol", "frozen"), "task qbe supports: training-free"),
        (("--lr-grid", "1e-3,1e-4"), "lr-grid goes with"),
        (("--control", "matched-head"), "has no head"),
        (("--devices", "2"), "one device"),
        (("--set", "task.options.min_query_frames=0"), "min_query_frames"),
        (("--set", "train.steps=3"), "train.steps"),
    ],
)
def test_what_makes_no_sense(
    bench: Bench, common: list[str], more: tuple[str, ...], told: str
) -> None:
    code, _, err = bench(*common, "--interface", "last", "--task", "qbe", *more)
    assert code == 2, err
    assert told in err
    assert "Traceback" not in err


def test_a_corpus_without_queries(
    bench: Bench, common: list[str], tones: Path, toy_an4: Path
) -> None:
    place = common.index("--corpus")
    an4 = [*common[:place], "--corpus", "an4", "--data", str(toy_an4), *common[place + 2 :]]
    code, _, err = bench(*an4, "--interface", "last", "--task", "qbe")
    assert (code, "no labels for task qbe" in err) == (2, True)
    manifest = tones / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    sentences = [r for r in rows if r["kind"] == "utterance"]
    manifest.write_text("\n".join(json.dumps(r) for r in sentences))
    code, _, err = bench(*common, "--interface", "last", "--task", "qbe")
    assert (code, "split dev has no spoken queries" in err) == (2, True)
    nowhere = [r for r in rows if r["kind"] == "utterance" or r["text"] == "EEEEE"]
    manifest.write_text("\n".join(json.dumps(r) for r in nowhere))
    code, _, err = bench(*common, "--interface", "last", "--task", "qbe")
    assert (code, "nothing to find" in err) == (3, True)


def test_absent_queries_and_documents_count(
    run: Run, tones: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = run("layer:index=0")
    monkeypatch.setattr(Mini, "unsearched", lambda self, split: 88)
    monkeypatch.setattr(Mini, "unasked", lambda self, split: 18)
    partial = run("layer:index=0")
    assert partial["signature"] != whole["signature"]
    folder = folder_of(tmp_path, partial)
    rows = results.load_predictions(folder)
    assert rows[0].reference.startswith("# 100 documents, 24 queries for 6\n")
    plain = [Prediction(r.id, r.reference.partition("\n")[2], r.hypothesis) for r in rows]
    assert MAP.value(plain) == MAP.value(rows) == values(whole, "test")["map"]
    # At most a quarter of the queries can be found, and false alarms are a smaller share.
    assert values(whole, "test")["mtwv"] / 4 < values(partial, "test")["mtwv"] <= 25
    left_out = run("layer:index=0", "--set", "task.options.count_absent=false")
    assert values(left_out, "test") == values(whole, "test")


def test_suite_full_reads_quesst14(bench: Bench, toy_plugins: Path, tmp_path: Path) -> None:
    """Its documents are the same in dev and test, so they are encoded once."""
    root = archive(tmp_path / "data", 3)
    corpus = Quesst14(root)
    code, out, err = bench(
        "run", "--suite", "full", "--data", root, "--task", "qbe", "--interface", "layer",
        "--upstream", f"{toy_plugins}/spectrum.py:Spectrum", "--out", tmp_path / "runs", "--json",
    )  # fmt: skip
    assert code == 0, err
    record = json.loads(out)
    rows = results.load_predictions(folder_of(tmp_path, record))
    assert [row.id for row in rows] == sorted(query.id for query in corpus.queries("test"))
    truth, absent = corpus.matches("test"), corpus.unasked("test")
    found = sum(map(bool, truth.values()))
    for row in rows:
        header, *matches = row.reference.splitlines()
        assert header == f"# 12 documents, {found + absent} queries for {found}"
        assert set(matches) == truth[row.id]
    recordings = len(corpus.documents("dev")) + sum(len(corpus.queries(s)) for s in ("dev", "test"))
    assert record["cost"]["speech_hours_encoded"] == pytest.approx(
        recordings * 0.1 / 3600, abs=5e-5
    )


def test_what_the_digest_knows(tones: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = DataSpec(corpus=f"mini:folder={tones}")
    data = prepare(spec, "qbe", training=False)
    assert set(data.splits) == {"dev", "test"}
    assert prepare(spec, "qbe", training=False).sha256 == data.sha256
    few = prepare(spec.model_copy(update={"max_utterances": 5}), "qbe", training=False)
    assert [len(few.searches["dev"].queries), len(few.searches["dev"].documents)] == [5, 5]
    assert few.sha256 != data.sha256
    truth = Mini.matches

    def less(self: Mini, split: str) -> dict[str, set[str]]:
        return {query: set(list(found)[1:]) for query, found in truth(self, split).items()}

    monkeypatch.setattr(Mini, "matches", less)
    assert prepare(spec, "qbe", training=False).sha256 != data.sha256
    monkeypatch.setattr(Mini, "matches", lambda self, split: {})
    with pytest.raises(MissingError, match="there is nothing to find"):
        searches(Mini(folder=tones))
