"""The auxiliary loss against plain loops over ids."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from ssft_bench.upstreams.context.loss import distances, neighbour_loss

SEEDS = [1, secrets.randbelow(2**31)]
KINDS = ["cosine", "l1", "l2"]


def plain_distance(a: Sequence[float], b: Sequence[float], kind: str) -> float:
    if kind == "cosine":
        sizes = [math.sqrt(sum(x * x for x in v)) for v in (a, b)]
        return 1 - sum(x * y for x, y in zip(a, b, strict=True)) / max(sizes[0] * sizes[1], 1e-12)
    power = 1 if kind == "l1" else 2
    return sum(abs(x - y) ** power for x, y in zip(a, b, strict=True)) / len(a)


def plain_loss(vectors: dict[str, list[float]], near: dict[str, list[str]], kind: str) -> float:
    """Mean over the segments with neighbours, of the mean over those, looked up by id."""
    means = []
    for name, others in near.items():
        there = [plain_distance(vectors[name], vectors[o], kind) for o in others if o in vectors]
        if there:
            means.append(sum(there) / len(there))
    return sum(means) / len(means) if means else 0.0


def random_batch(
    seed: int, names: Sequence[str] = tuple("abcdef")
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    """Vectors by id, and up to two neighbours of each; `f` has none, `a` one that is not there."""
    rng = np.random.default_rng(seed)
    vectors = {name: torch.from_numpy(rng.standard_normal(4)).float() for name in names}
    near = {
        n: [str(o) for o in rng.choice([o for o in "abcde" if o != n], 2, False)] for n in names
    }
    near["f"], near["a"] = [], [near["a"][0], "absent"]
    return vectors, near


def around(vectors: dict[str, Tensor], near: dict[str, list[str]]) -> list[list[Tensor | None]]:
    return [[vectors.get(o) for o in near[name]] for name in vectors]


def test_distances_of_hand_made_vectors() -> None:
    a = torch.tensor([[3.0, 4.0], [1.0, 0.0], [1.0, 2.0], [0.0, 0.0]])
    b = torch.tensor([[3.0, 4.0], [-2.0, 0.0], [4.0, -2.0], [1.0, 0.0]])
    assert distances(a, b, "cosine").tolist() == pytest.approx([0, 2, 1, 1], abs=1e-6)
    assert distances(a, b, "l1").tolist() == pytest.approx([0, 1.5, 3.5, 0.5])
    assert distances(a, b, "l2").tolist() == pytest.approx([0, 4.5, 12.5, 0.5])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_loss_is_the_plain_one_in_any_order(seed: int, kind: str) -> None:
    vectors, near = random_batch(seed)
    wanted = plain_loss({n: v.tolist() for n, v in vectors.items()}, near, kind)
    orders = [
        list(vectors),
        list(reversed(vectors)),
        sorted(vectors, key=lambda n: hash((n, seed))),
    ]
    for order in orders:
        shuffled = {name: vectors[name] for name in order}
        own = torch.stack(list(shuffled.values()))
        loss = neighbour_loss(own, around(shuffled, near), kind=kind)  # type: ignore[arg-type]
        assert loss.item() == pytest.approx(wanted, rel=1e-5)
    # the control: neighbours by place would give something else
    own = torch.stack(list(vectors.values()))
    places: list[list[Tensor | None]] = [
        [own[i + o] if 0 <= i + o < len(own) else None for o in (-1, 1)] for i in range(len(own))
    ]
    by_place = neighbour_loss(own, places, kind=kind)  # type: ignore[arg-type]
    assert by_place.item() != pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_who_has_no_neighbours_counts_for_nothing(seed: int, kind: str) -> None:
    vectors, near = random_batch(seed)
    with_f = torch.stack(list(vectors.values())).requires_grad_()
    loss = neighbour_loss(with_f, around(vectors, near), kind=kind)  # type: ignore[arg-type]
    loss.backward()
    assert with_f.grad is not None
    assert not with_f.grad[-1].any()
    assert with_f.grad[0].any()
    without = {n: v for n, v in vectors.items() if n != "f"}
    own = torch.stack(list(without.values()))
    assert torch.equal(neighbour_loss(own, around(without, near), kind=kind), loss.detach())  # type: ignore[arg-type]


def test_a_batch_without_neighbours_is_zero_and_finite() -> None:
    own = torch.randn(3, 4).requires_grad_()
    loss = neighbour_loss(own, [[None, None]] * 3)
    assert loss.item() == 0
    total = own.square().sum() + 0.3 * loss
    total.backward()
    assert own.grad is not None
    assert torch.equal(own.grad, 2 * own.detach())


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_for_what_is_missing(kind: str) -> None:
    own = torch.randn(2, 4)
    got = neighbour_loss(own, [[own[1], None], [None, None]], kind=kind, missing="zeros")  # type: ignore[arg-type]
    zero = [0.0] * 4
    a, b = own.tolist()
    first = (plain_distance(a, b, kind) + plain_distance(a, zero, kind)) / 2
    assert got.item() == pytest.approx((first + plain_distance(b, zero, kind)) / 2, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop_grad", [True, False])
def test_stop_gradient(kind: str, stop_grad: bool) -> None:
    """The first segment has a neighbour, the second is one: does anything reach it?"""
    own = torch.randn(2, 4).requires_grad_()
    neighbour_loss(own, [[own[1]], [None]], kind=kind, stop_grad=stop_grad).backward()  # type: ignore[arg-type]
    assert own.grad is not None
    assert own.grad[0].any()
    assert bool(own.grad[1].any()) != stop_grad
