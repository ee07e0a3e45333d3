"""Runs through the store: the same numbers as alone, states computed once, damage and lack survived."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ssft_bench import spec
from ssft_bench.audio import read_utterance
from ssft_bench.corpora.an4 import AN4
from ssft_bench.feature_store import upstream_key
from ssft_bench.features import FrozenFeatures
from ssft_bench.spec import resolve
from ssft_bench.upstream import load_upstream, weights_sha256
from tests.feature_store.conftest import Cells, Store
from tests.feature_store.test_store import to_bfloat16

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("states", ["float32", "bfloat16"])
def test_the_same_numbers_as_alone(cells: Cells, store: Store, states: str) -> None:
    made = cells.spec("hconv", "pr", f"data.states={states}")
    alone = cells.run(made)
    first = cells.run(made, store())
    again = cells.run(made, store())
    without_memory = cells.run(
        cells.spec("hconv", "pr", f"data.states={states}", "data.memory_gib=0")
    )
    for record in (first, again, without_memory):
        assert cells.scores(record) == cells.scores(alone)
    assert alone.cost["states_from"] == first.cost["states_from"] == "computed"
    assert first.cost["speech_hours_encoded"] == alone.cost["speech_hours_encoded"] > 0
    assert without_memory.cost["speech_hours_encoded"] > 3 * alone.cost["speech_hours_encoded"]
    assert again.cost["speech_hours_encoded"] == 0
    assert again.cost["states_from"] == "store"
    n = 24 + 24 + 12 - (24 - alone.data["utterances"]["dev"])
    assert again.cost["utterances_from"] == {"computed": 0, "store": n, "memory": 0}
    assert first.cost["utterances_from"] == {"computed": n, "store": 0, "memory": 0}
    # Another interface, another task: nothing is computed again.
    other = cells.run(cells.spec("last", "asr", f"data.states={states}"), store())
    assert other.cost["speech_hours_encoded"] == 0


def test_rounding_moves_numbers_and_signatures(
    cells: Cells, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: bf16 is another run, with another address and other numbers."""
    plain, rounded = cells.spec(), cells.spec("weighted_sum", "pr", "data.states=bfloat16")
    one, other = cells.run(plain, store()), cells.run(rounded, store())
    assert one.signature != other.signature
    assert other.cost["speech_hours_encoded"] > 0
    assert cells.scores(one)["parameters"] != cells.scores(other)["parameters"]
    hashed: list[Any] = []
    monkeypatch.setattr(spec, "sha256_json", lambda values: hashed.append(values) or "0" * 64)
    spec.signature(plain, {})
    spec.signature(rounded, {})
    assert "states" not in hashed[0]["spec"]["data"]  # signatures of older runs stay
    assert hashed[1]["spec"]["data"]["states"] == "bfloat16"


def test_states_against_plain_computing(cells: Cells, store: Store) -> None:
    """What is stored are the upstream's hidden states, utterance by utterance, in plain torch."""
    made = cells.spec("weighted_sum", "pr", "data.states=bfloat16")
    record = cells.run(made, store())
    model = load_upstream(made.upstream.name, made.upstream.options)
    key = upstream_key(
        model, made.upstream.name, made.upstream.options, record.content["upstream_weights"],
        torch.device("cpu"),
    )  # fmt: skip
    view = store().view(key, "bfloat16", (1, 0), corpus="an4")
    rows = AN4(cells.corpus.parent).utterances("test")
    assert view.missing(rows) == []
    for row in rows:
        wave = torch.from_numpy(read_utterance(row))
        frames = torch.nn.functional.pad(wave, (0, -len(wave) % 320)).view(-1, 320)
        power = torch.fft.rfft(frames).abs()[:, :160].view(-1, 40, 4).sum(-1)
        wanted = [power.tanh(), (power + 1).log()]
        got = view.get(row)
        assert got is not None
        for one, plain in zip(got, wanted, strict=True):
            assert len(one) == max(1, round(len(wave) / 320))
            assert np.array_equal(one.float().numpy(), to_bfloat16(plain[: len(one)].numpy()))


def test_a_group_stores_all_its_layers_in_one_pass(cells: Cells, store: Store) -> None:
    first = cells.run(cells.spec("last"), store(), group_layers=(0, 1))
    assert first.cost["speech_hours_encoded"] > 0
    other = cells.run(cells.spec("layer:index=0"), store())
    assert other.cost["speech_hours_encoded"] == 0
    assert cells.scores(other) == cells.scores(cells.run(cells.spec("layer:index=0")))


def test_layers_that_are_missing_are_added(cells: Cells, store: Store) -> None:
    cells.run(cells.spec("last"), store())
    small = store().bytes
    more = cells.run(cells.spec("weighted_sum"), store())
    assert more.cost["speech_hours_encoded"] > 0
    assert 1.8 * small < store().bytes < 2.2 * small
    assert cells.run(cells.spec("layer:index=0"), store()).cost["speech_hours_encoded"] == 0


def test_damage_in_the_store_is_computed_around(cells: Cells, store: Store) -> None:
    made = cells.spec()
    whole = cells.run(made, store())
    path = next(store().root.glob("*/*/an4-dev/data"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(bytes(data))
    again = cells.run(made, store())
    assert cells.scores(again) == cells.scores(whole)
    (event,) = [e for e in again.events if e["kind"] == "feature_store"]
    assert event["what"] == "damaged hidden states"
    assert again.cost["utterances_from"]["computed"] == 1
    assert 0 < again.cost["speech_hours_encoded"] < whole.cost["speech_hours_encoded"] / 10
    mended = cells.run(made, store())
    assert mended.cost["speech_hours_encoded"] == 0
    assert mended.events == []


def test_a_full_disk_in_a_run(cells: Cells, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = cells.spec("weighted_sum", "pr", "data.memory_gib=0")
    alone = cells.run(made)
    plain, written = os.pwrite, [0]

    def full(file: int, data: bytes, place: int) -> int:
        written[0] += len(data)
        if written[0] > 200_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain(file, data, place)

    monkeypatch.setattr(os, "pwrite", full)
    record = cells.run(made, store())
    assert cells.scores(record) == cells.scores(alone)
    told = [e["what"] for e in record.events if e["kind"] == "feature_store"]
    assert len(told) == 1
    assert "No space left on device; computing without it" in told[0]
    assert 0 < record.cost["speech_hours_encoded"] < alone.cost["speech_hours_encoded"]


def test_a_small_quota_in_a_run(cells: Cells, store: Store) -> None:
    made = cells.spec()
    alone = cells.run(made)
    record = cells.run(made, store(200_000 / 2**30))
    assert cells.scores(record) == cells.scores(alone)
    assert any("quota" in e.get("what", "") for e in record.events)
    assert record.cost["speech_hours_encoded"] == alone.cost["speech_hours_encoded"]  # in memory
    assert 100_000 < store().bytes < 200_000


def test_another_upstream_is_another_address(cells: Cells, store: Store) -> None:
    cells.run(cells.spec(), store())
    place = f"{cells.plugins}/spectrum.py"
    louder = cells.spec(upstream=f"{place}:Spectrum:gain=2")
    assert cells.run(louder, store()).cost["speech_hours_encoded"] > 0
    source = Path(place).read_text()
    Path(place).write_text(source.replace("self.gain * power", "1.5 * self.gain * power"))
    changed = cells.run(cells.spec(), store())
    assert changed.cost["speech_hours_encoded"] > 0
    assert cells.scores(changed) == cells.scores(cells.run(cells.spec()))
    Path(place).write_text(source)
    assert cells.run(cells.spec(), store()).cost["speech_hours_encoded"] == 0
    elsewhere = cells.plugins.rename(cells.plugins.with_name("moved"))
    moved = cells.spec(upstream=f"{elsewhere}/spectrum.py:Spectrum")
    assert cells.run(moved, store()).cost["speech_hours_encoded"] == 0


def test_what_an_upstreams_key_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    model = load_upstream("hubert_mini", {})
    weights = weights_sha256(model)

    def key(name: str = "hubert_mini", weights: str = weights, device: torch.device = cpu,
            **options: Any) -> str:  # fmt: skip
        return upstream_key(model, name, options, weights, device)

    same = {key(), key(ckpt="/a/file.pt"), key(ckpt="/another.pt")}
    assert len(same) == 1
    others = {
        key("score_hubert"), key(weights="0" * 64), key(device=torch.device("cuda:1")),
        key(layer_norm=True),
    }  # fmt: skip
    assert len(others) == 4
    assert not same & others
    from ssft_bench.feature_store import address

    monkeypatch.setattr(address, "_version", lambda package: "another")
    assert key() not in same


def test_qbe_reads_what_training_stored(
    cells: Cells, store: Store, toy_plugins: Path, tmp_path: Path
) -> None:
    from tests.training_free.toy import corpus_of_tones

    (tmp_path / "tones").mkdir()
    corpus = f"mini:folder={corpus_of_tones(tmp_path / 'tones')}"
    given = {"corpus": corpus, "data": None}
    training = cells.spec("last", "pr", **given)
    query = resolve(
        upstream=f"{toy_plugins}/spectrum.py:Spectrum", interface="layer", task="qbe", corpus=corpus
    )
    alone = cells.run(query)
    assert cells.run(training, store(), group_layers=(0, 1)).status == "done"
    record = cells.run(query, store())
    assert cells.scores(record) == cells.scores(alone)
    assert record.trials == alone.trials
    counts = record.cost["utterances_from"]
    assert counts == {"computed": 7 + 7, "store": 14 + 12, "memory": 0}  # queries are new
    assert 0 < record.cost["speech_hours_encoded"] < alone.cost["speech_hours_encoded"] / 2
    again = cells.run(query, store())
    assert cells.scores(again) == cells.scores(alone)
    assert again.cost["speech_hours_encoded"] == 0
    rounded = query.model_copy(
        update={"data": query.data.model_copy(update={"states": "bfloat16"})}
    )
    one, other = cells.run(rounded), cells.run(rounded, store())
    assert cells.scores(one) == cells.scores(other)
    assert one.signature != alone.signature


def test_states_handed_on_in_memory_are_told_apart(cells: Cells) -> None:
    kept: dict[Any, Any] = {}
    plain, rounded = cells.spec(), cells.spec("weighted_sum", "pr", "data.states=bfloat16")
    cells.run(plain, states=kept)
    other = cells.run(rounded, states=kept)
    assert cells.scores(other) == cells.scores(cells.run(rounded))
    again = cells.run(plain, states=kept)
    assert again.cost["speech_hours_encoded"] == 0
    assert again.cost["states_from"] == "memory"


def test_states_do_not_depend_on_who_asks(cells: Cells) -> None:
    """Scoring runs under autocast and in inference mode; training on its states must still work."""
    made = cells.spec()
    model = load_upstream(made.upstream.name, made.upstream.options).eval()
    (row, *_) = AN4(cells.corpus.parent).utterances("test")
    features = FrozenFeatures(model, (0, 1), torch.device("cpu"), 1.0)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        inside = features.states(row)
    outside = FrozenFeatures(model, (0, 1), torch.device("cpu"), 0.0).states(row)
    assert all(torch.equal(a, b) for a, b in zip(inside, outside, strict=True))
    assert not any(state.is_inference() for state in inside)


def test_the_source_of_an_upstream_is_found() -> None:
    """Built-in ones too: their files' bytes are part of the key."""
    from ssft_bench.feature_store.address import _source_files

    files = {path.name for path in _source_files(load_upstream("hubert_mini", {}))}
    assert {"upstream.py", "expert.py"} <= files
    assert any("hubert" in str(path) for path in _source_files(load_upstream("hubert_mini", {})))
