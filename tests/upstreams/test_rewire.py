"""Rewiring against loops and pytorch-metric-learning, and who learns."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ssft_bench import encoder
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import MissingError
from ssft_bench.tuning.batches import Packs
from ssft_bench.tuning.learner import TuneLearner
from ssft_bench.tuning.spec import TuneData, resolve
from ssft_bench.upstreams.rewire.method import Rewire, RewireOptions, nt_xent
from tests.upstreams.tiny import moved, tiny, view_batch


def plain_nt_xent(a: np.ndarray, b: np.ndarray, t: float) -> float:
    z = np.concatenate([a, b])
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    n, total = len(a), 0.0
    for i in range(2 * n):
        positive = (i + n) % (2 * n)
        others = [math.exp(z[i] @ z[j] / t) for j in range(2 * n) if j != i]
        total -= math.log(math.exp(z[i] @ z[positive] / t) / sum(others))
    return total / (2 * n)


def test_nt_xent() -> None:
    from pytorch_metric_learning.losses import NTXentLoss

    rng = np.random.default_rng()
    a, b = rng.standard_normal((4, 6)), rng.standard_normal((4, 6))
    got = nt_xent(torch.from_numpy(a), torch.from_numpy(b), 0.04).item()
    assert got == pytest.approx(plain_nt_xent(a, b, 0.04), rel=1e-5)
    labels = torch.arange(4).repeat(2)
    official = NTXentLoss(0.04)(torch.from_numpy(np.concatenate([a, b])).float(), labels)
    assert got == pytest.approx(official.item(), rel=1e-5)
    assert got != pytest.approx(plain_nt_xent(a, b[::-1].copy(), 0.04), rel=1e-3)  # the control


def test_closed_forms() -> None:
    eye = torch.eye(8, dtype=torch.float64)
    assert nt_xent(eye[:4], eye[4:], 0.04).item() == pytest.approx(math.log(7), rel=1e-6)
    pairs = nt_xent(eye[:4], eye[:4], 0.04).item()
    assert pairs == pytest.approx(math.log(1 + 6 * math.exp(-25)), rel=1e-3, abs=1e-10)


def build(folder: Path, kind: str = "wav2vec2", **options: object) -> tuple[TuneLearner, Rewire]:
    student = tiny(folder, kind, seed=4)
    method = Rewire(RewireOptions(**{"positive": "twin", **options}), student, 5)
    return TuneLearner(student, method), method


def test_the_vector_is_the_plain_mean_of_all_states(tmp_path: Path) -> None:
    learner, method = build(tmp_path)
    batch = view_batch(3, np.random.default_rng())
    learner.eval()
    vectors = []
    for view in batch.views:
        rows = []
        for wave in view:
            states = learner.student([wave]).states
            total = sum(s[0].detach().double() for s in states) / len(states)
            rows.append(total.mean(0).numpy())
        vectors.append(np.stack(rows))
    got = encoder.mean_states(learner.student, batch.views[0])
    assert np.allclose(got.detach().numpy(), vectors[0], atol=1e-5)
    loss, logs = method.loss(learner.student, None, batch)
    assert loss.item() == pytest.approx(plain_nt_xent(*vectors, 0.04), rel=1e-3)
    assert list(method.parameters()) == []
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in vectors]
    assert logs["positive_cosine"] == pytest.approx(np.mean(np.sum(unit[0] * unit[1], 1)), abs=1e-4)


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
def test_everything_that_a_state_depends_on_learns(tmp_path: Path, kind: str) -> None:
    learner, _ = build(tmp_path, kind)
    loss, _ = learner(view_batch(2, np.random.default_rng()), torch.Generator())
    loss.backward()
    names = {n for n, _ in learner.student.expert.named_parameters()}
    heads = ("final_proj", "label_embs", "mask_emb", "quantizer", "project_q")
    expected = {n for n in names if not n.removeprefix("model.").startswith(heads)}
    assert any("feature_extractor.conv_layers.0" in n for n in expected)
    assert set(learner.trained) == expected
    quiet = {n for n in expected if n.endswith("k_proj.bias")}
    assert expected - quiet <= moved(learner.student) | {n for n in expected if "bias" in n}
    assert moved(learner.student) <= expected
    assert "model.feature_extractor.conv_layers.0.0.weight" in moved(learner.student)


@pytest.mark.parametrize(("gradients", "times"), [("zeroed", 1), ("summed", 2)])
def test_faithful_gradients_add_up(tmp_path: Path, gradients: str, times: int) -> None:
    learner, _ = build(tmp_path, gradients=gradients)
    learner.eval()
    batch = view_batch(2, np.random.default_rng())
    name = "student.expert.model.encoder.layers.1.fc1.weight"
    found = []
    for _ in range(2):
        learner.zero_grad(set_to_none=True)
        learner(batch, torch.Generator())[0].backward()
        found.append(dict(learner.named_parameters())[name].grad.clone())
    assert torch.allclose(found[1], times * found[0], rtol=1e-4, atol=1e-7)
    if times == 2:  # a resumed run still knows the sum
        assert any(k.startswith("_gradient_sum") for k in learner.state_dict())


def test_updates_of_a_pass() -> None:
    spec = resolve(method="rewire", base="wav2vec2_large_ll60k")
    assert spec.data.max_seconds == 180_000 / 16_000
    seconds = [5.0] * 6659 + [11.2501] * 3
    packs = Packs(seconds, spec.data, 1)
    assert packs.per_pass == 1664
    used = {i for n in range(1664) for i, _ in packs[n]}
    assert len(used) == 6656
    assert spec.train.steps == 7 * packs.per_pass
    for name, passes in (("twin", 1), ("mixed", 3)):
        other = resolve(method="rewire", base="hubert", recipe=f"wav2vec2_large_ll60k_{name}")
        assert other.method.options["positive"] == name
        assert other.train.steps == passes * 1664
    loose = TuneData(corpus="mini", batch_size=4)
    assert Packs(seconds, loose, 1).per_pass == 1666  # the control


class Voice:
    """Stands for the cache of synthesised speech."""

    engine_id = "test voice"

    def read(self, text: str, who: str = "") -> np.ndarray:
        return np.full(100 * len(text), 0.5, np.float32)


def test_positives(tmp_path: Path) -> None:
    rng = np.random.default_rng()
    row = Utterance("u", Path("u"), "train", text="A WORD OR TWO")
    wave = (rng.standard_normal(2000) * 0.1).astype(np.float32)
    _, method = build(tmp_path, positive="mixed", halve_samples=1500)
    method.speech = Voice()  # type: ignore[assignment]
    read = 0
    for place in range(1000):
        first, second = method.views(wave, row, rng, place)
        assert np.array_equal(first, wave[:999] if place % 2 == 0 else wave[999:-1])
        synthetic = bool((second == 0.5).all())
        read += synthetic
        if synthetic:
            assert len(second) == 649 if place % 2 == 0 else 650  # halves of 1300 at its own middle
        else:
            zeros = (second == 0) & (first != 0)
            assert zeros.sum() == len(first) // 5
    assert 421 < read < 579  # five standard deviations around 500
    _, twin = build(tmp_path, halve_samples=90_000)
    first, second = twin.views(wave, row, rng, 1)
    assert np.array_equal(first, wave)
    assert (second == 0).sum() >= 400


def test_neutral_needs_text(tmp_path: Path) -> None:
    _, method = build(tmp_path, positive="neutral")
    rows = [Utterance("a", Path("a"), "train", text="HI"), Utterance("b", Path("b"), "train")]
    with pytest.raises(MissingError, match=r"'b'.*positive=twin"):
        method.prepare([rows[0], replace(rows[1], text=None)])
