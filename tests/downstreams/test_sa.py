"""Task sa: attention pooling against plain loops, scores against scikit-learn, labels and messages."""

from __future__ import annotations

import secrets
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, recall_score
from torch import nn

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.downstreams.heads import AttentionPoolHead
from ssft_bench.downstreams.sa.scoring import CLASSES, METRICS
from ssft_bench.downstreams.sa.task import SA, SAOptions
from ssft_bench.errors import CheckFailed, MissingError
from ssft_bench.metric import Prediction
from ssft_bench.statistics import score

SEEDS = [1, secrets.randbelow(2**31)]
BY_NAME = {metric.name: metric for metric in METRICS}
U = Utterance("vc-1", Path("a.flac"), "train", sentiment="positive")


def by_hand(head: AttentionPoolHead, frames: torch.Tensor) -> torch.Tensor:
    """Logits [V] of one utterance's frames [T,D], in plain loops over frames."""
    weight, bias = head.attention.weight[0], head.attention.bias[0]
    scores = [float(((weight * x).sum() + bias).detach()) for x in frames]
    total = sum(np.exp(s) for s in scores)
    pooled = sum(np.exp(s) / total * x for s, x in zip(scores, frames, strict=True))
    first, last = (m for m in head.classifier if isinstance(m, nn.Linear))
    hidden = [torch.dot(w, pooled) + b for w, b in zip(first.weight, first.bias, strict=True)]
    active = [h * 0.5 * (1 + torch.erf(h / 2**0.5)) for h in hidden]  # GELU, exact
    return last.weight @ torch.stack(active) + last.bias


@pytest.mark.parametrize("seed", SEEDS)
def test_head_equals_plain_loops(seed: int) -> None:
    torch.manual_seed(seed)
    head = AttentionPoolHead(6, 3).eval()
    x, lengths = torch.randn(4, 9, 6), torch.tensor([9, 1, 5, 8])
    logits, ones = head(x, lengths)
    assert logits.shape == (4, 1, 3)
    assert ones.tolist() == [1, 1, 1, 1]
    for row, own, n in zip(x, logits[:, 0], lengths.tolist(), strict=True):
        torch.testing.assert_close(own, by_hand(head, row[:n]), atol=1e-5, rtol=1e-4)
        if n < 9:  # negative control: a head that reads the padding is told from this one
            assert not torch.allclose(own, by_hand(head, row), atol=1e-5)


@pytest.mark.parametrize("rubbish", [1e4, float("inf"), float("nan")])
def test_padding_is_not_read(rubbish: float) -> None:
    torch.manual_seed(0)
    head = AttentionPoolHead(6, 3).eval()
    x, lengths = torch.randn(2, 9, 6), torch.tensor([9, 4])
    clean = x.clone()
    clean[1, 4:] = 0
    x[1, 4:] = rubbish
    x.requires_grad_()
    logits = head(x, lengths)[0]
    assert torch.equal(logits, head(clean, lengths)[0])
    logits.sum().backward()
    assert x.grad is not None
    assert x.grad[1, 4:].abs().sum() == 0
    assert x.grad[1, :4].abs().sum() > 0


@pytest.mark.parametrize(
    ("dim", "hidden", "expected"),
    # 1 for each dimension of the pooling and its bias; the classifier's two layers.
    [(768, None, 769 + 769 * 768 + 3 * 769), (1024, 64, 1025 + 1025 * 64 + 3 * 65)],
)
def test_parameters(dim: int, hidden: int | None, expected: int) -> None:
    head = SA(SAOptions(hidden_dim=hidden)).head(dim)
    assert sum(p.numel() for p in head.parameters()) == expected


def test_dropout_only_in_training() -> None:
    head = AttentionPoolHead(6, 3, dropout=0.5)
    x, lengths = torch.randn(2, 9, 6), torch.tensor([9, 9])
    assert not torch.equal(head(x, lengths)[0], head(x, lengths)[0])
    head.eval()
    assert torch.equal(head(x, lengths)[0], head(x, lengths)[0])


def corpus(
    rng: np.random.Generator, kept: tuple[str, ...], given: tuple[str, ...]
) -> list[Prediction]:
    """Fifty random predictions with references among `kept` and hypotheses among `given`."""
    return [
        Prediction(str(i), str(rng.choice(kept)), str(rng.choice(given)), f"s{i % 7}")
        for i in range(50)
    ]  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("kept", "given"),
    [
        (CLASSES, CLASSES),
        (CLASSES, ("neutral", "positive")),  # one class is never predicted
        (CLASSES, ("neutral",)),
        (("neutral", "positive"), CLASSES),  # one is never right
        (("neutral", "positive"), ("neutral", "positive")),  # one does not occur at all
    ],
)
def test_scores_equal_scikit_learn(
    kept: tuple[str, ...], given: tuple[str, ...], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(40):
        found = corpus(rng, kept, given)
        pair = [p.reference for p in found], [p.hypothesis for p in found]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn says that it divides by 0
            expected = {
                "macro_f1": f1_score(*pair, average="macro"),
                "macro_recall": recall_score(*pair, average="macro"),
                "accuracy": accuracy_score(*pair),
            }
        for name, value in expected.items():
            own = score(BY_NAME[name], found, seed=1, resamples=10)
            assert own.value == pytest.approx(100 * value), name


def test_micro_and_weighted_are_not_macro() -> None:
    """Negative control: the averages that are easily taken for it are others."""
    pairs = [("neutral", "neutral")] * 8 + [("negative", "neutral"), ("positive", "positive")]
    found = [Prediction(str(i), *pair) for i, pair in enumerate(pairs)]
    columns = [p.reference for p in found], [p.hypothesis for p in found]
    macro = score(BY_NAME["macro_f1"], found, seed=1).value
    assert macro == pytest.approx(100 * (16 / 17 + 0 + 1) / 3)
    for other in ("micro", "weighted"):
        assert abs(100 * f1_score(*columns, average=other) - macro) > 10


def test_no_predictions_of_any_class_is_zero() -> None:
    nothing = np.zeros((2, 9))
    assert all(metric.combine(nothing).tolist() == [0, 0] for metric in METRICS)


def test_a_class_that_is_none() -> None:
    with pytest.raises(CheckFailed, match="'u': 'mixed' is none of negative"):
        BY_NAME["macro_f1"].counts(Prediction("u", "neutral", "mixed"))


def test_labels() -> None:
    task = SA(SAOptions())
    task.prepare({"train": [U]})
    assert task.encode(U).tolist() == [2]
    assert task.reference(U) == "positive"
    assert task.min_frames(task.encode(U)) == 0
    assert task.describe()["classes"] == ["negative", "neutral", "positive"]


@pytest.mark.parametrize("label", [None, "<mixed>", "Disagreement", "Neutral"])
def test_labels_that_cannot_be_used(label: str | None) -> None:
    bad = replace(U, id="bad", split="dev", sentiment=label)
    with pytest.raises(MissingError, match=rf"'bad' \(dev\) has {label!r}"):
        SA(SAOptions()).prepare({"train": [U], "dev": [bad]})
    with pytest.raises(MissingError, match="bad"):
        SA(SAOptions()).encode(bad)


def test_loss_is_cross_entropy_and_the_likeliest_class_is_given() -> None:
    task = SA(SAOptions())
    logits = torch.tensor([[[2.0, 1.0, 0.0]], [[0.0, 1.0, 5.0]]])
    lengths = torch.ones(2, dtype=torch.int64)
    rows = [replace(U, sentiment="neutral"), U]
    loss = task.loss(logits, lengths, [task.encode(u) for u in rows])
    shares = [np.exp(1) / np.exp([2, 1, 0]).sum(), np.exp(5) / np.exp([0, 1, 5]).sum()]
    assert float(loss) == pytest.approx(-np.log(shares).mean(), rel=1e-5)
    assert task.decode(logits, lengths) == ["negative", "positive"]


def test_learns_where_to_look() -> None:
    """One frame in twenty tells the class; the mean over frames is drowned in the others."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 20, 8, generator=generator)
    wanted = torch.arange(60) % 3
    place = torch.randint(0, 20, (60,), generator=generator)
    x[torch.arange(60), place, 0] = 6.0
    x[torch.arange(60), place, 1:4] = 3.0 * torch.eye(3)[wanted]
    lengths = torch.full((60,), 20)
    torch.manual_seed(0)
    task = SA(SAOptions(dropout=0.0))
    head = task.head(8)
    optimizer = torch.optim.Adam(head.parameters(), 1e-2)
    targets = list(wanted[:, None])
    for _ in range(200):
        optimizer.zero_grad()
        task.loss(*head(x, lengths), targets).backward()
        optimizer.step()
    right = [CLASSES.index(c) for c in task.decode(*head(x, lengths))]
    assert (torch.tensor(right) == wanted).float().mean() > 0.95
