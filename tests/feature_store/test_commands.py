"""`ssft-bench cache show`, `prune` and `verify`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ssft_bench.feature_store import FeatureStore
from tests.feature_store.recordings import same, states_of, utterances

Bench = Callable[..., tuple[int, str, str]]
NAMES = {"a" * 64: "hubert_mini", "b" * 64: "score_hubert"}


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """Two upstreams, one with two splits, used in the order of their names."""
    root = tmp_path / "store"
    for age, (key, split) in enumerate([("a", "dev"), ("a", "train"), ("b", "train")]):
        name = NAMES[key * 64]
        view = FeatureStore(root, 1.0).view(
            key * 64, "bfloat16", (0, 1, 2), corpus="mini", about={"upstream": name}
        )
        for n, row in enumerate(utterances(tmp_path / "audio", 5, split)):
            view.put(row, states_of(n, (0, 1, 2), age, 2000))
        view.close()
        (used,) = root.glob(f"{key}*/*/mini-{split}/used")
        os.utime(used, (1e9 + age, 1e9 + age))
    return root


def test_show(bench: Bench, filled: Path) -> None:
    code, out, err = bench("cache", "show", "--cache", filled, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [(v["upstream"], v["states"], v["split"]) for v in found["volumes"]] == [
        ("hubert_mini", "bfloat16", "mini-dev"), ("hubert_mini", "bfloat16", "mini-train"),
        ("score_hubert", "bfloat16", "mini-train"),
    ]  # fmt: skip
    assert all(v["layers"] == [0, 1, 2] and v["utterances"] == 5 for v in found["volumes"])
    assert not any(v["in_use"] for v in found["volumes"])
    files = [p for p in filled.rglob("*") if p.name in ("data", "index")]
    assert found["bytes"] == sum(p.stat().st_size for p in files)
    code, out, _ = bench("cache", "show", "--cache", filled)
    assert code == 0
    for text in ("score_hubert", "mini-train", "0-2", "2001-09-09", "GiB", str(filled)):
        assert text in out


def test_the_default_folder(bench: Bench, tmp_path: Path) -> None:
    code, out, _ = bench("cache", "show", "--json")
    assert code == 0
    assert json.loads(out) == {
        "folder": str(tmp_path / "cache" / "features"), "volumes": [], "bytes": 0,
        "quota_gib": json.loads(out)["quota_gib"],
    }  # fmt: skip
    assert bench("cache", "verify")[1].startswith("nothing is stored")
    assert bench("cache", "prune")[0] == 0


def test_prune_takes_the_oldest_first(bench: Bench, filled: Path) -> None:
    sizes = {v.folder.name: v.bytes for v in FeatureStore(filled, 1.0).volumes()}
    keep = (FeatureStore(filled, 1.0).bytes - 1) / 2**30
    code, out, _ = bench("cache", "prune", "--cache", filled, "--cache-gib", keep, "--json")
    assert code == 0
    found = json.loads(out)
    assert [(v["upstream"], v["split"]) for v in found["removed"]] == [("hubert_mini", "mini-dev")]
    assert found["bytes"] == FeatureStore(filled, 1.0).bytes > 0
    assert sizes["mini-dev"] > 0
    using = FeatureStore(filled, 1.0).view("b" * 64, "bfloat16", (0,), corpus="mini")
    (row,) = utterances(filled.parent / "audio", 1, "train")
    assert using.get(row) is not None
    code, out, _ = bench("cache", "prune", "--cache", filled, "--cache-gib", 0)
    assert code == 0
    assert "removed: hubert_mini bfloat16 mini-train" in out
    assert "kept, a process uses it: score_hubert" in out
    using.close()
    code, out, _ = bench("cache", "prune", "--cache", filled, "--upstream", "score_hubert")
    assert code == 0
    assert list(filled.glob("*/*/*")) == []
    assert list(filled.glob("*/about.json")) == []
    code, _, err = bench("cache", "prune", "--cache", filled, "--upstream", "score_huber")
    assert code == 2
    assert "score_huber" in err
    assert bench("cache", "prune", "--cache-gib", 1, "--upstream", "x")[0] == 2


def test_an_upstream_keeps_its_name_while_anything_of_it_is_left(
    bench: Bench, filled: Path, tmp_path: Path
) -> None:
    """Its states of one type are gone, those of the other are there."""
    about = {"upstream": "hubert_mini"}
    view = FeatureStore(filled, 1.0).view("a" * 64, "float32", (0,), corpus="mini", about=about)
    view.put(utterances(tmp_path / "audio", 1, "dev")[0], states_of(0, (0,)))
    view.close()
    for split in ("dev", "train"):
        os.utime(next(filled.glob(f"a*/bfloat16/mini-{split}/used")), (1e9, 1e9))
    keep = sum(
        v.bytes for v in FeatureStore(filled, 1.0).volumes() if "a" * 32 not in str(v.folder)
    )
    assert (
        bench("cache", "prune", "--cache", filled, "--cache-gib", (keep + 10_000) / 2**30)[0] == 0
    )
    found = json.loads(bench("cache", "show", "--cache", filled, "--json")[1])["volumes"]
    assert [(v["upstream"], v["states"]) for v in found] == [
        ("hubert_mini", "float32"), ("score_hubert", "bfloat16"),
    ]  # fmt: skip


def test_verify(bench: Bench, filled: Path, tmp_path: Path) -> None:
    code, out, _ = bench("cache", "verify", "--cache", filled)
    assert code == 0
    assert out.count("whole: ") == 3
    (data,) = filled.glob("a*/*/mini-train/data")
    (index,) = filled.glob("a*/*/mini-dev/index")
    (unreadable,) = filled.glob("b*/*/mini-train/data")
    damaged = bytearray(data.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    data.write_bytes(bytes(damaged))
    text = index.read_bytes()
    index.write_bytes(text[:20] + bytes([text[20] ^ 4]) + text[21:-30])
    unreadable.write_bytes(b"not ours")
    code, out, err = bench("cache", "verify", "--cache", filled, "--json")
    assert code == 1
    assert "--repair" in err
    rows = {(v["upstream"], v["split"]): v for v in json.loads(out)["volumes"]}
    assert rows["hubert_mini", "mini-train"]["damaged"] == 1
    assert rows["hubert_mini", "mini-dev"]["broken_lines"] == 2  # one bit, and one half line
    assert rows["score_hubert", "mini-train"]["unreadable"] == 1
    assert {row["status"] for row in rows.values()} == {"damaged"}
    code, out, _ = bench("cache", "verify", "--cache", filled, "--repair")
    assert code == 0
    assert out.count("mended: ") == 3
    code, out, _ = bench("cache", "verify", "--cache", filled)
    assert code == 0, out
    view = FeatureStore(filled, 1.0).view("a" * 64, "bfloat16", (0, 1, 2), corpus="mini")
    rows_of = utterances(tmp_path / "audio", 5, "train")
    assert len(view.missing(rows_of)) == 1
    for n, row in enumerate(rows_of):
        got = view.get(row)
        assert got is None or same(got, [s.bfloat16() for s in states_of(n, (0, 1, 2), 1, 2000)])
    assert len(view.missing(utterances(tmp_path / "audio", 5, "dev"))) == 2
    assert view.events == []
