"""LASER against double loops, and who learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ssft_bench.errors import UsageError
from ssft_bench.method import ViewBatch
from ssft_bench.tuning.learner import TuneLearner
from ssft_bench.tuning.spec import resolve
from ssft_bench.upstreams.laser.method import Laser, LaserOptions, temporal_regulariser
from tests.upstreams.test_score import numpy_of, plain_divergence, unit
from tests.upstreams.tiny import moved, tiny, view_batch


def plain_regulariser(x: np.ndarray, sigma: int, margin: float) -> float:
    n, total = len(x), 0.0
    for i in range(n):
        for j in range(n):
            d = float(np.sqrt(((x[i] - x[j]) ** 2).sum()))
            if abs(i - j) > sigma:
                total += (1 + (i - j) ** 2) * max(0.0, margin - d)
            else:
                total += d / (1 + (i - j) ** 2)
    return total / n**2


@pytest.mark.parametrize("sigma", [0, 1, 3])
@pytest.mark.parametrize("margin", [1.0, 1.1, 2.0])
def test_regulariser_against_a_double_loop(sigma: int, margin: float) -> None:
    rng = np.random.default_rng()
    x = unit(rng.standard_normal((int(rng.integers(5, 12)), 4)))
    x[3] = x[1]  # equal frames
    got = temporal_regulariser(torch.from_numpy(x), sigma, margin).item()
    assert got == pytest.approx(plain_regulariser(x, sigma, margin), rel=1e-10)
    assert got != pytest.approx(plain_regulariser(x, sigma + 1, margin), rel=1e-6)  # the control


def test_regulariser_gradient() -> None:
    rng = np.random.default_rng()
    x = torch.from_numpy(rng.standard_normal((7, 3))).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: temporal_regulariser(v, 1, 1.1), (x,))
    equal = torch.ones(5, 3, dtype=torch.float64, requires_grad=True)
    temporal_regulariser(equal, 1, 1.1).backward()
    assert equal.grad is not None
    assert bool(equal.grad.isfinite().all())


def test_with_sigma_0_nothing_pulls() -> None:
    apart = torch.eye(6, dtype=torch.float64).requires_grad_()  # all distances sqrt 2
    loss = temporal_regulariser(apart, 0, 1.1)
    loss.backward()
    assert loss.item() == 0
    assert apart.grad is not None
    assert float(apart.grad.abs().sum()) == 0
    assert temporal_regulariser(torch.eye(6), 1, 1.1).item() > 0


def test_constant_features() -> None:
    n, margin = 9, 1.1
    wanted = margin / n**2 * sum((1 + (i - j) ** 2) for i in range(n) for j in range(n) if i != j)
    got = temporal_regulariser(torch.ones(n, 4, dtype=torch.float64), 0, margin)
    assert got.item() == pytest.approx(wanted, rel=1e-12)


def build(folder: Path, **options: object) -> tuple[TuneLearner, Laser]:
    student = tiny(folder, seed=4)
    method = Laser(LaserOptions(projection=[6], **options), student, 5)
    return TuneLearner(student, method), method


def test_the_loss_is_the_plain_one_and_not_divided_by_length(tmp_path: Path) -> None:
    learner, method = build(tmp_path)
    learner.eval()
    batch = view_batch(2, np.random.default_rng())
    loss, logs = method.loss(learner.student, None, batch)
    weight, bias = numpy_of(method.projection[0].weight), numpy_of(method.projection[0].bias)
    aligned, apart = [], []
    for pair in zip(*batch.views, strict=True):
        states = [numpy_of(learner.student([w]).states[-1][0]) for w in pair]
        x, y = (unit(s @ weight.T + bias) for s in states)
        aligned.append(plain_divergence(x, y, 0.1))
        apart.append(plain_regulariser(x, 0, 1.1) + plain_regulariser(y, 0, 1.1))
    assert logs["align"] == pytest.approx(np.mean(aligned), rel=1e-4)
    assert logs["apart"] == pytest.approx(np.mean(apart), rel=1e-4)
    assert loss.item() == pytest.approx(np.mean(aligned) + 0.4 * np.mean(apart), rel=1e-4)


def test_both_views_reach_the_encoder(tmp_path: Path) -> None:
    learner, method = build(tmp_path)
    learner.eval()
    batch = view_batch(1, np.random.default_rng())
    forward = learner.student.forward
    gradients = []
    for which in (None, 0, 1):
        calls = iter(range(2))

        def call(w: object, which: object = which, calls: object = calls) -> object:
            hidden = forward(w)  # type: ignore[arg-type]
            if next(calls) == which:  # type: ignore[call-overload]
                hidden.states = [s.detach() for s in hidden.states]
            return hidden

        learner.student.forward = call  # type: ignore[method-assign, assignment]
        learner.zero_grad()
        method.loss(learner.student, None, batch)[0].backward()
        gradients.append(learner.student.expert.model.encoder.layers[2].fc1.weight.grad.clone())
    both, first, second = gradients
    assert not torch.allclose(both, first, rtol=1e-3)
    assert not torch.allclose(both, second, rtol=1e-3)
    assert torch.allclose(both, first + second - _neither(learner, method, batch), atol=1e-5)


def _neither(learner: TuneLearner, method: Laser, batch: ViewBatch) -> torch.Tensor:
    """Gradient when both are detached: none."""
    return torch.zeros_like(learner.student.expert.model.encoder.layers[2].fc1.weight)


@pytest.mark.parametrize("trainable", ["top_layers", "top_layers_and_norm"])
def test_who_learns(tmp_path: Path, trainable: str) -> None:
    learner, _ = build(tmp_path, trainable=trainable)
    loss, _ = learner(view_batch(2, np.random.default_rng()), torch.Generator())
    loss.backward()
    heads = ["model.encoder.layers.1.", "model.encoder.layers.2."]
    if trainable == "top_layers_and_norm":
        heads.append("model.encoder.layer_norm.")
    expected = {
        n for n, _ in learner.student.expert.named_parameters() if n.startswith(tuple(heads))
    }
    assert moved(learner.student) <= expected
    assert expected - moved(learner.student) <= {n for n in expected if n.endswith("k_proj.bias")}


def test_separate_views_do_not_see_each_others_padding(tmp_path: Path) -> None:
    learner, method = build(tmp_path)
    learner.eval()
    batch = view_batch(1, np.random.default_rng())
    alone = method.loss(learner.student, None, batch)[0].item()
    double = ViewBatch(batch.ids * 2, [v * 2 for v in batch.views])
    assert method.loss(learner.student, None, double)[0].item() == pytest.approx(alone, rel=1e-4)
    _, together = build(tmp_path, padding="together")
    together.load_state_dict(method.state_dict())
    assert bool(together.loss(learner.student, None, batch)[0].isfinite())


def test_published_numbers_and_wrong_options() -> None:
    options = resolve(method="laser", base="wavlm_base").method.options
    assert (options["margin"], options["alpha"], options["sigma"]) == (1.0, 0.15, 0)
    assert options["speeds"] == [0.8, 0.85, 0.9, 1.0, 1.1, 1.15, 1.2]
    options = resolve(method="laser", base="hubert_base").method.options
    assert (options["margin"], options["alpha"]) == (1.1, 0.4)
    with pytest.raises(UsageError, match="loss_type"):
        resolve(method="laser:loss_type=softdtw_lav", base="hubert_base")
