"""SPIN against plain loops, and who learns."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import UsageError
from ssft_bench.tuning.learner import TuneLearner
from ssft_bench.tuning.spec import resolve
from ssft_bench.upstreams.spin import method as spin
from ssft_bench.upstreams.spin.method import Spin, SpinOptions, sinkhorn, swapped_prediction
from tests.upstreams.tiny import moved, tiny, view_batch

Array = NDArray[np.float64]


def plain_sinkhorn(scores: Array, iterations: int) -> Array:
    q = np.exp(scores.astype(np.float64)).T
    codes, count = q.shape
    q /= q.sum()
    for _ in range(iterations):
        for k in range(codes):
            q[k] /= codes * q[k].sum()
        for b in range(count):
            q[:, b] /= count * q[:, b].sum()
    return (count * q).T


def cosines(rng: np.random.Generator, count: int = 30, codes: int = 6) -> Array:
    z, c = (rng.standard_normal((n, 5)) for n in (count, codes))
    z, c = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (z, c))
    return z @ c.T


def plain_loss(one: Array, two: Array, *, swap: bool = True) -> float:
    q = [plain_sinkhorn(s / 0.02, 3) for s in (one, two)]
    if not swap:
        q.reverse()
    total = 0.0
    for scores, target in ((one, q[1]), (two, q[0])):
        for row, t in zip(scores / 0.1, target, strict=True):
            log_sum = math.log(sum(math.exp(v) for v in row))
            total += sum(w * (log_sum - v) for w, v in zip(t, row, strict=True)) / len(scores)
    return total / 2


def test_sinkhorn_against_a_loop() -> None:
    scores = cosines(np.random.default_rng())
    got = sinkhorn(torch.from_numpy(scores).float() / 0.02, 3)
    assert np.allclose(got.numpy(), plain_sinkhorn(scores / 0.02, 3), atol=1e-5)
    assert torch.allclose(got.sum(1), torch.ones(30), atol=1e-5)
    many = sinkhorn(torch.from_numpy(scores) / 0.02, 3000)
    assert torch.allclose(many.sum(0), torch.full((6,), 30 / 6), atol=0.05)
    assert torch.allclose(sinkhorn(torch.from_numpy(scores) / 0.02 + 7.0, 3), got, atol=1e-5)
    extreme = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]) / 0.02
    assert bool(sinkhorn(extreme, 3).isfinite().all())
    assert not np.allclose(got.numpy(), plain_sinkhorn(scores / 0.02, 1), atol=1e-3)  # the control


def test_the_loss_is_the_plain_one_and_swapped() -> None:
    rng = np.random.default_rng()
    one, two = cosines(rng), cosines(rng)
    a, b = (torch.from_numpy(s).float() for s in (one, two))
    got = swapped_prediction(a, b, 0.1, 0.02, 3).item()
    assert got == pytest.approx(plain_loss(one, two), rel=1e-4)
    assert swapped_prediction(b, a, 0.1, 0.02, 3).item() == pytest.approx(got, rel=1e-6)
    assert got != pytest.approx(plain_loss(one, two, swap=False), rel=1e-2)  # the control
    same = swapped_prediction(a, a, 0.1, 0.02, 3).item()
    assert same == pytest.approx(plain_loss(one, one, swap=False), rel=1e-4)


def test_the_target_carries_no_gradient() -> None:
    rng = np.random.default_rng()
    a, b = (torch.from_numpy(cosines(rng)).float().requires_grad_() for _ in range(2))
    swapped_prediction(a, b, 0.1, 0.02, 3).backward()
    q = sinkhorn(b.detach() / 0.02, 3)
    p = torch.softmax(a.detach() / 0.1, 1)
    assert a.grad is not None
    assert torch.allclose(a.grad, (p - q) / 0.1 / len(a) / 2, atol=1e-6)


def build(folder: Path, **options: object) -> tuple[TuneLearner, Spin]:
    student = tiny(folder, seed=4, dropout=0.3)
    method = Spin(SpinOptions(codes=7, width=5, **options), student, 5)
    return TuneLearner(student, method), method


def test_the_methods_loss_is_that_of_its_parts(tmp_path: Path) -> None:
    learner, method = build(tmp_path)
    learner.eval()
    batch = view_batch(2, np.random.default_rng(), equal=True)
    loss, logs = method.loss(learner.student, None, batch)
    scores = []
    for view in batch.views:
        frames = torch.cat([learner.student([w]).states[-1][0] for w in view])
        z = frames @ method.head.weight.T + method.head.bias
        z = z / z.norm(dim=1, keepdim=True)
        scores.append((z @ method.codebook.weight.T).detach().double().numpy())
    assert loss.item() == pytest.approx(plain_loss(*scores), rel=1e-4)
    agree = np.mean(scores[0].argmax(1) == scores[1].argmax(1))
    assert logs["agreement"] == pytest.approx(agree)


def test_who_learns(tmp_path: Path) -> None:
    learner, _method = build(tmp_path)
    optimizer = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], lr=1e-2)
    before = {n: p.detach().clone() for n, p in learner.named_parameters()}
    rng = np.random.default_rng()
    for _ in range(3):
        optimizer.zero_grad()
        learner(view_batch(2, rng, equal=True), torch.Generator())[0].backward()
        optimizer.step()
    after = dict(learner.named_parameters())
    changed = {n for n in before if not torch.equal(before[n], after[n])}
    tops = tuple(f"student.expert.model.encoder.layers.{i}." for i in (1, 2))
    expected = {n for n in before if n.startswith((*tops, "method."))}
    assert changed <= expected
    assert {n for n in expected - changed if not n.endswith("k_proj.bias")} == set()
    assert moved(learner.student) <= {n.removeprefix("student.expert.") for n in expected}


@pytest.mark.parametrize("when", ["before_forward", "after_forward"])
def test_codes_have_unit_norm_when_they_are_used(tmp_path: Path, when: str) -> None:
    learner, method = build(tmp_path, normalize_codebook=when)
    with torch.no_grad():
        method.codebook.weight.mul_(3.0)
    seen = []
    real = method._scores
    method._scores = lambda f, c: (seen.append(c.norm(dim=1)), real(f, c))[1]  # type: ignore[method-assign]
    loss, _ = method.loss(learner.student, None, view_batch(1, np.random.default_rng(), equal=True))
    loss.backward()  # the faithful order must not break the graph
    unit = torch.allclose(seen[0], torch.ones(7), atol=1e-5)
    assert unit == (when == "before_forward")
    assert torch.allclose(method.codebook.weight.norm(dim=1), torch.ones(7), atol=1e-5)


@pytest.mark.parametrize("on", [True, False])
def test_dropout_in_the_frozen_layers(tmp_path: Path, on: bool) -> None:
    learner, method = build(tmp_path, frozen_dropout=on)
    learner.train()
    method.loss(learner.student, None, view_batch(1, np.random.default_rng(), equal=True))
    modes = [layer.training for layer in learner.student.expert.model.encoder.layers]
    assert modes == [on, True, True]


def test_views_of_different_length_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, method = build(tmp_path)
    rng = np.random.default_rng()
    wave = (rng.standard_normal(8000) * 0.1).astype(np.float32)
    row = Utterance("utt-7", Path("u"), "train")
    one, other = method.views(wave, row, np.random.default_rng(1), 0)
    assert np.array_equal(one, wave)
    assert len(other) == len(wave)
    assert not np.allclose(other, wave, atol=1e-3)
    monkeypatch.setattr(spin, "speaker_view", lambda w, *a, **k: (w[:-1], True))
    with pytest.raises(UsageError, match="utt-7"):
        method.views(wave, row, rng, 0)


def test_published_schedule_and_packing() -> None:
    spec = resolve(method="spin", base="hubert_base")
    peak, factor = spec.train.optimizer.lr, spec.train.schedule.factor
    rates = [peak * factor(k, spec.train.steps) for k in (0, 1250, 2500, 4999)]
    assert rates == pytest.approx([1e-6, 5.05e-5, 1e-4, 1e-6])
    assert spec.data.batch_seconds == 4_096_000 / 16_000
    assert (spec.data.min_seconds, spec.data.crop_seconds) == (40_000 / 16_000, 272_000 / 16_000)


def test_head_and_codebook_are_kept(tmp_path: Path) -> None:
    _, method = build(tmp_path)
    assert {k: tuple(v.shape) for k, v in method.kept().items()} == {
        "head.weight": (5, 16),
        "head.bias": (5,),
        "codebook.weight": (7, 5),
    }
