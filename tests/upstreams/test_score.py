"""SCORE against plain numpy, and who learns."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ssft_bench import encoder
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.method import ViewBatch
from ssft_bench.tuning.learner import TuneLearner
from ssft_bench.tuning.spec import resolve
from ssft_bench.upstream import Upstream, weights_sha256
from ssft_bench.upstreams.score.method import Score, ScoreOptions
from tests.upstreams.tiny import moved, tiny, view_batch

Array = NDArray[np.float64]


def plain_soft_dtw(x: Array, y: Array, gamma: float) -> float:
    """The recursion cell by cell, costs by loops."""
    r = np.full((len(x) + 1, len(y) + 1), np.inf)
    r[0, 0] = 0
    for i in range(1, len(x) + 1):
        for j in range(1, len(y) + 1):
            cost = sum((a - b) ** 2 for a, b in zip(x[i - 1], y[j - 1], strict=True))
            before = np.array([r[i - 1, j - 1], r[i - 1, j], r[i, j - 1]])
            low = before.min()
            r[i, j] = cost + low - gamma * math.log(np.exp(-(before - low) / gamma).sum())
    return float(r[-1, -1])


def plain_divergence(x: Array, y: Array, gamma: float) -> float:
    xy, xx, yy = (plain_soft_dtw(*pair, gamma) for pair in ((x, y), (x, x), (y, y)))
    return xy - 0.5 * (xx + yy)


def unit(rows: Array) -> Array:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def numpy_of(frames: torch.Tensor) -> Array:
    return frames.detach().double().numpy()


def build(folder: Path, **options: object) -> tuple[TuneLearner, Score, Upstream]:
    student, teacher = (tiny(folder, seed=3, dropout=0.2) for _ in range(2))
    method = Score(ScoreOptions(projection=[6], **options), student, 5)
    return TuneLearner(student, method, teacher), method, teacher


def test_the_loss_is_the_plain_one(tmp_path: Path) -> None:
    rng = np.random.default_rng()
    learner, method, teacher = build(tmp_path)
    learner.eval()
    batch = view_batch(2, rng)
    loss, _ = method.loss(learner.student, teacher, batch)
    weight, bias = numpy_of(method.projection[0].weight), numpy_of(method.projection[0].bias)
    wanted, undivided = [], []
    for a, b in zip(*batch.views, strict=True):
        x = numpy_of(learner.student([a]).states[-1][0])
        y = numpy_of(teacher([b]).states[-1][0])
        x, y = (unit(f @ weight.T + bias) for f in (x, y))
        divergence = plain_divergence(x, y, 0.1)
        wanted.append(divergence / (len(x) + len(y)))
        undivided.append(divergence)
    assert loss.item() == pytest.approx(np.mean(wanted), rel=1e-4)
    assert loss.item() != pytest.approx(np.mean(undivided), rel=1e-2)  # the control


def test_a_batch_is_the_mean_of_single_runs(tmp_path: Path) -> None:
    rng = np.random.default_rng()
    learner, method, teacher = build(tmp_path)
    learner.eval()
    batch = view_batch(3, rng)

    def run(which: slice) -> tuple[float, dict[str, torch.Tensor]]:
        learner.zero_grad()
        part = ViewBatch(batch.ids[which], [view[which] for view in batch.views])
        loss, _ = method.loss(learner.student, teacher, part)
        loss.backward()
        pairs = learner.named_parameters()
        return loss.item(), {n: p.grad.clone() for n, p in pairs if p.grad is not None}

    whole, gradients = run(slice(None))
    singles = [run(slice(i, i + 1)) for i in range(3)]
    assert whole == pytest.approx(np.mean([loss for loss, _ in singles]), rel=1e-4)
    for name, gradient in gradients.items():
        mean = torch.stack([g[name] for _, g in singles]).mean(0)
        assert torch.allclose(gradient, mean, rtol=1e-3, atol=1e-6), name


TOP = {"encoder.layers.1.", "encoder.layers.2."}
NORMS = {"encoder.layer_norm.", "layer_norm."}


@pytest.mark.parametrize(
    ("trainable", "wanted"), [("top_layers", TOP), ("top_layers_and_norms", TOP | NORMS)]
)
def test_who_learns(tmp_path: Path, trainable: str, wanted: set[str]) -> None:
    learner, _, _ = build(tmp_path, trainable=trainable)
    before = {n: p.detach().clone() for n, p in learner.student.expert.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], lr=1e-2)
    learner.train()
    rng = np.random.default_rng()
    for _ in range(3):
        optimizer.zero_grad()
        loss, _ = learner(view_batch(2, rng), torch.Generator())
        loss.backward()
        optimizer.step()
    after = dict(learner.student.expert.named_parameters())
    changed = {n for n in before if not torch.equal(before[n], after[n])}
    expected = {n for n in before if n.removeprefix("model.").startswith(tuple(wanted))}
    silent = {n for n in expected if n.endswith("k_proj.bias")}  # softmax does not see it
    assert expected - silent <= changed <= expected
    assert moved(learner.student) <= expected


def base_model(kind: str) -> object:
    if kind == "hubert":
        from s3prl.upstream.hubert import hubert_model as h

        task = h.HubertPretrainingConfig(label_rate=50)
        with torch.device("meta"):
            return h.HubertModel(h.HubertConfig(label_rate=50), task, [range(504)])
    else:
        from s3prl.upstream.wavlm.WavLM import WavLM, WavLMConfig

        options = {"relative_position_embedding": True, "num_buckets": 320, "max_distance": 800,
                   "gru_rel_pos": True}  # fmt: skip
        return WavLM(WavLMConfig(options))


@pytest.mark.parametrize(
    ("kind", "layers", "with_norms", "projection"),
    [("hubert", 14_175_744, 14_178_304, [256]), ("wavlm", 14_176_808, 14_179_368, [256, 256])],
)
def test_parameter_counts_of_base_models(
    kind: str, layers: int, with_norms: int, projection: list[int]
) -> None:
    """Section 3 of the specification, counted in s3prl's model classes."""
    student = Upstream.__new__(Upstream)
    torch.nn.Module.__init__(student)
    student.expert = torch.nn.Module()
    student.expert.model = base_model(kind)  # type: ignore[assignment]
    student.spec = tiny_spec()
    sizes = {n: p.numel() for n, p in student.expert.named_parameters()}
    for trainable, wanted in (("top_layers", layers), ("top_layers_and_norms", with_norms)):
        method = Score(ScoreOptions(projection=projection, trainable=trainable), student, 0)
        assert sum(sizes[n] for n in method.trainable(student)) == wanted
        own = sum(p.numel() for p in method.parameters())
        assert own == (196_864 if kind == "hubert" else 262_656)


def tiny_spec() -> object:
    from tests.states import spec

    return spec(13, 768)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_teacher_stays_and_its_mode_is_kept(tmp_path: Path, mode: str) -> None:
    learner, method, teacher = build(tmp_path, teacher_mode=mode)
    rng = np.random.default_rng()
    digest = weights_sha256(teacher)
    learner.train()
    for _ in range(3):
        loss, _ = learner(view_batch(1, rng), torch.Generator())
        loss.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert weights_sha256(teacher) == digest
    assert teacher.training == (mode == "train")
    wave = view_batch(1, rng).views[0]
    same = torch.equal(*(encoder.features(teacher, wave)[0] for _ in range(2)))
    assert same == (mode == "eval")
    assert "_teacher" not in learner.state_dict()
    assert len(list(learner.student.parameters())) + len(list(method.parameters())) == len(
        list(learner.parameters())
    )


def test_the_projection_learns_from_the_teachers_branch_too(tmp_path: Path) -> None:
    learner, method, teacher = build(tmp_path)
    batch = view_batch(1, np.random.default_rng())
    gradients = []
    for detach in (False, True):
        learner.zero_grad()
        if detach:  # the control: a projection that is shared but not trained by the target
            calls = iter(range(2))
            project = method.projection.forward

            def once(f: torch.Tensor, c: object = calls, p: object = project) -> torch.Tensor:
                return p(f) if next(c) == 0 else p(f).detach()  # type: ignore[operator, call-overload]

            method.projection.forward = once  # type: ignore[method-assign]
        loss, _ = method.loss(learner.student.eval(), teacher, batch)
        loss.backward()
        gradients.append(method.projection[0].weight.grad.clone())
    assert not torch.allclose(*gradients, rtol=1e-2)


def test_published_schedule() -> None:
    spec = resolve(method="score", base="hubert_base")
    peak, factor = spec.train.optimizer.lr, spec.train.schedule.factor
    rates = [peak * factor(k - 1, spec.train.steps) for k in (1, 501, 1001, 2301, 3600)]
    assert rates == pytest.approx([0, 1e-5, 2e-5, 1e-5, 2e-5 / 2600])
    assert (spec.train.steps, spec.train.accumulate, spec.data.batch_size) == (3600, 8, 1)


def test_views(tmp_path: Path) -> None:
    _, method, _ = build(tmp_path)
    rng = np.random.default_rng()
    wave = rng.standard_normal(4000).astype(np.float32) * 0.1
    row = Utterance("u", Path("u"), "train")
    firsts = 0
    for seed in range(200):
        one, two = (method.views(wave, row, np.random.default_rng((seed, 7)), 0) for _ in range(2))
        assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
        original = [np.array_equal(view, wave) for view in one]
        assert sum(original) == 1  # the pitch always moves
        firsts += original[0]
        other = one[original.index(False)]
        ratio = len(wave) / len(other)
        assert min(abs(ratio - f) for f in (0.9, 1.0, 1.1)) < 0.01
    assert 65 < firsts < 135  # five standard deviations around 100


def test_faithful_flags_are_named() -> None:
    from ssft_bench.tuning.run import choices

    ours = resolve(method="score", base="hubert_base").method.options
    theirs = resolve(method="score", base="hubert_base", faithful=["all"]).method.options
    assert choices(Score, ScoreOptions(**ours)) == {
        "trainable": "top_layers (fixed)",
        "teacher_mode": "eval (fixed)",
    }
    assert choices(Score, ScoreOptions(**theirs)) == {
        "trainable": "top_layers_and_norms (faithful)",
        "teacher_mode": "train (faithful)",
    }
