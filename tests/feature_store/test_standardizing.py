"""Standardised states: the formula, the same numbers wherever states come from, and what it is blind to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ssft_bench.corpora.an4 import AN4
from ssft_bench.features import FrozenFeatures
from ssft_bench.standardizing import Standardizer
from ssft_bench.upstream import load_upstream
from tests.feature_store.conftest import Cells, Store
from tests.feature_store.test_fan_out import scores, together

pytestmark = pytest.mark.usefixtures("one_thread")
ON = "data.standardize=true"


@pytest.fixture
def rng() -> np.random.Generator:
    seed = int(np.random.default_rng().integers(2**31))
    print(f"seed {seed}")  # shown when the test fails
    return np.random.default_rng(seed)


@pytest.mark.parametrize("offset", [0.0, 3e4])
def test_against_numpy(rng: np.random.Generator, offset: float) -> None:
    """Two layers of other widths and frames; a mean far from 0 costs no digits of the deviation."""
    scales = [rng.uniform(1, 3, width) for width in (5, 3)]
    rows = [
        [
            (offset + rng.normal(size=(rng.integers(1, 40), len(s))) * s).astype(np.float32)
            for s in scales
        ]
        for _ in range(9)
    ]
    found = Standardizer.of([torch.from_numpy(x) for x in row] for row in rows)
    for layer in range(2):
        frames = np.concatenate([row[layer] for row in rows]).astype(np.float64)
        mean, deviation = frames.mean(0), frames.std(0, ddof=1)
        np.testing.assert_allclose(found.means[layer], mean, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(found.deviations[layer], deviation, rtol=1e-5)
        row = rows[4][layer]
        got = found([torch.from_numpy(x) for x in rows[4]])[layer]
        assert got.dtype == torch.float32
        np.testing.assert_allclose(got, (row - mean) / deviation, atol=5e-3 if offset else 1e-5)
        # Control: sums of squares as float32 keeps them lose the deviation where the mean is large.
        rough = np.sqrt(np.abs((frames.astype(np.float32) ** 2).mean(0) - mean**2))
        assert (np.abs(rough / deviation - 1).max() > 0.05) == bool(offset)


def test_a_dimension_that_never_moves(rng: np.random.Generator) -> None:
    frames = torch.from_numpy(rng.normal(size=(20, 2)).astype(np.float32))
    frames[:, 1] = 7.25
    (got,) = Standardizer.of([[frames]])([frames])
    assert torch.equal(got[:, 1], torch.zeros(20))
    with pytest.raises(ValueError, match="no utterance"):
        Standardizer.of([])


def test_states_and_batches_of_a_run(toy_plugins: Path, toy_an4: Path) -> None:
    corpus = AN4(toy_an4)
    train, test = corpus.utterances("train")[:10], corpus.utterances("test")[:3]
    upstream = load_upstream(f"{toy_plugins}/spectrum.py:Spectrum", {})
    features = FrozenFeatures(upstream, (0, 1), torch.device("cpu"), 1.0)
    plain = [[s.numpy().astype(np.float64) for s in features.states(row)] for row in train]
    raw = features.states(test[1])
    features.standardize(train, "means")
    mine = features.states(test[1])
    batch = features.batch(test, [])
    for layer in (0, 1):
        frames = np.concatenate([states[layer] for states in plain])
        wanted = (raw[layer].numpy() - frames.mean(0)) / frames.std(0, ddof=1)
        np.testing.assert_allclose(mine[layer], wanted, atol=1e-4)
        assert torch.equal(batch.hidden.states[layer][1, : len(wanted)], mine[layer])
        assert not batch.hidden.states[layer][1, len(wanted) :].any()


@pytest.mark.parametrize("states", ["float32", "bfloat16"])
def test_the_same_numbers_wherever_states_are_kept(cells: Cells, store: Store, states: str) -> None:
    sets = (f"data.states={states}", ON)
    made = cells.spec("hconv", "pr", *sets)
    alone = cells.run(made)
    plain = cells.run(cells.spec("hconv", "pr", sets[0]), store())
    first = cells.run(made, store())
    without_memory = cells.run(cells.spec("hconv", "pr", *sets, "data.memory_gib=0"))
    for record in (first, without_memory):
        assert cells.scores(record) == cells.scores(alone)
    assert first.cost["speech_hours_encoded"] == 0  # the store keeps what the upstream gave
    # Control: without it the run is another one.
    assert plain.signature != first.signature
    assert cells.scores(plain)["losses"] != cells.scores(first)["losses"]
    assert made.model_copy(
        update={"data": made.data.model_copy(update={"standardize": False})}
    ) == (cells.spec("hconv", "pr", sets[0]))


def test_side_by_side(cells: Cells, tmp_path: Path) -> None:
    """A head on standardised states beside one on plain states, from one forward pass."""
    specs = [
        cells.spec("last", "pr", "data.memory_gib=0", ON), cells.spec("last", "pr", "data.memory_gib=0")
    ]  # fmt: skip
    alone = [cells.scores(cells.run(one)) for one in specs]
    assert scores(cells, together(cells, specs, tmp_path / "both")) == alone


def test_scale_and_offset_no_longer_matter(cells: Cells) -> None:
    """The first layer of the toy upstream is log(gain * power + 1): a large gain is nearly an offset."""
    losses = []
    for gain in (100.0, 1000.0):
        for sets in ((), (ON,)):
            made = cells.spec("layer:index=0", "pr", *sets)
            choice = made.upstream.model_copy(update={"options": {"gain": gain}})
            record = cells.run(made.model_copy(update={"upstream": choice}))
            losses.append(np.array(cells.scores(record)["losses"]))
    plain, standardized = (np.abs(losses[n] - losses[n + 2]).mean() for n in (0, 1))
    assert standardized < 0.3 * plain
