"""Layer drop against models that lack the layer, and dropouts against what the models really draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssft_bench.errors import UsageError
from ssft_bench.finetuning.dropout import set_dropout
from ssft_bench.finetuning.layerdrop import LayerDrop
from ssft_bench.finetuning.masking import Masking
from ssft_bench.finetuning.spec import FineTuneSpec
from ssft_bench.upstream import Upstream
from tests.finetuning.models import KINDS, S3PRL, build, fresh, furthest, layers_of, waves

pytestmark = pytest.mark.usefixtures("one_thread")


class Draws:
    """Says which layers are dropped."""

    def __init__(self, dropped: set[int]) -> None:
        self.dropped = dropped

    def random(self, count: int) -> Any:
        return np.array([0.0 if i in self.dropped else 1.0 for i in range(count)])


def training(kind: str, folder: Path, seed: int) -> Upstream:
    upstream = build(kind, folder, seed)
    set_dropout(upstream, 0.0, 0.0)
    upstream.train()
    return upstream


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dropped", [{1}, {1, 2}])
def test_as_if_the_layer_were_not_there(kind: str, dropped: set[int], tmp_path: Path) -> None:
    """As many states as ever; the last one is that of a model without the layers."""
    seed = fresh()
    upstream, less = training(kind, tmp_path, seed), training(kind, tmp_path, seed)
    drop, heard = LayerDrop(upstream, 0.5), waves(seed)
    plain = upstream(heard).states
    with drop.drawing(Draws(dropped)):  # type: ignore[arg-type]
        states = upstream(heard).states
    assert len(states) == len(plain) == 4
    kept = [layer for i, layer in enumerate(layers_of(less)) if i not in dropped]
    less.expert.model.encoder.layers = nn.ModuleList(kept)  # type: ignore[union-attr]
    wanted = last_of(less, heard)
    assert furthest(states[-1:], [wanted]) < 1e-5, seed
    assert furthest(plain[-1:], [wanted]) > 1e-2, seed
    for index in dropped - {2}:  # the last state of pre-norm models has been normalised
        assert torch.equal(states[index + 1], states[index]), seed
    assert torch.equal(
        upstream(heard).states[-1], plain[-1]
    )  # outside `drawing` nothing is dropped


def last_of(less: Upstream, heard: list[Tensor]) -> Tensor:
    """What a model with fewer layers gives: hooks of layers that are gone stay silent."""
    states = less.expert(heard)["hidden_states"]
    return states[-1][:, : max(round(len(w) / 320) for w in heard)]


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_the_first_layer(kind: str, tmp_path: Path) -> None:
    """May be dropped too, except where it computes the relative positions of all others (WavLM)."""
    upstream = training(kind, tmp_path, fresh())
    drop = LayerDrop(upstream, 0.5)
    with drop.drawing(Draws({0})):  # type: ignore[arg-type]
        states = upstream(waves(1)).states
    assert torch.equal(states[1], states[0]) == ("wavlm" not in kind)


def test_how_often(tmp_path: Path) -> None:
    """Each layer with the probability, on its own; the same generator gives the same layers."""
    seed, passes, probability = fresh(), 4000, 0.3
    drop = LayerDrop(build("hubert-base", tmp_path, 0), probability)
    rng, again = np.random.default_rng(seed), np.random.default_rng(seed)
    counts, both = np.zeros(3), 0
    for _ in range(passes):
        with drop.drawing(rng):
            dropped = drop._dropped
        with drop.drawing(again):
            assert drop._dropped == dropped
        counts[list(dropped)] += 1
        both += {0, 2} <= dropped
    error = 4 * np.sqrt(probability * (1 - probability) / passes)
    assert (np.abs(counts / passes - probability) < error).all(), seed
    assert abs(both / passes - probability**2) < error, seed


@pytest.mark.parametrize("kind", ["hubert-base", "hf_hubert-large"])
def test_gradients_of_the_others(kind: str, tmp_path: Path) -> None:
    upstream = training(kind, tmp_path, fresh())
    drop = LayerDrop(upstream, 0.5)
    with drop.drawing(Draws({1})):  # type: ignore[arg-type]
        upstream(waves(1)).states[-1].square().mean().backward()
    learned = [all(p.grad is None for p in layer.parameters()) for layer in layers_of(upstream)]
    assert learned == [False, True, False]


def test_the_models_own(tmp_path: Path) -> None:
    """Switched off, whatever the probability: it would change the number of states."""
    upstream = training("hubert-base", tmp_path, 0)
    upstream.expert.model.encoder.layerdrop = 0.9  # type: ignore[union-attr]
    LayerDrop(upstream, 0.0)
    assert all(len(upstream(waves(1)).states) == 4 for _ in range(5))


def differs(upstream: Upstream) -> bool:
    """Whether two passes in train mode differ, that is, whether anything is drawn."""
    one, other = upstream(waves(1)).states, upstream(waves(1)).states
    return any(not torch.equal(a, b) for a, b in zip(one, other, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("kind", [*S3PRL, "tiny-hubert", "hf_hubert-large"])
def test_dropouts(kind: str, tmp_path: Path) -> None:
    """Nothing is drawn at 0; either one alone draws; layers get the numbers in the right places."""
    for dropout, activation in ((0.0, 0.0), (0.3, 0.0), (0.0, 0.2)):
        upstream = build(kind, tmp_path, 0)
        set_dropout(upstream, dropout, activation)
        upstream.train()
        Masking(upstream, FineTuneSpec())  # switches transformers' own masks off
        assert differs(upstream) == (dropout + activation > 0)
        if kind.startswith("hf_"):
            layer = layers_of(upstream)[0]
            found = (layer.attention.dropout, layer.dropout.p, layer.feed_forward.output_dropout.p)
            assert (*found, layer.feed_forward.intermediate_dropout.p) == (
                *[dropout] * 3,
                activation,
            )
        else:
            layer = layers_of(upstream)[0]
            found = (layer.self_attn.dropout_module.p, layer.dropout1.p, layer.dropout3.p)
            assert (*found, layer.dropout2.p) == (*[dropout] * 3, activation)
            assert upstream.expert.model.encoder.dropout == dropout  # type: ignore[union-attr]


def test_dropouts_left_alone(tmp_path: Path) -> None:
    upstream = build("hubert-base", tmp_path, 0)
    before = {n: m.p for n, m in upstream.named_modules() if hasattr(m, "p")}
    set_dropout(upstream, None, 0.25)
    after = {n: m.p for n, m in upstream.named_modules() if hasattr(m, "p")}
    changed = {n for n in after if after[n] != before[n]}
    assert changed == {f"expert.model.encoder.layers.{i}.dropout2" for i in range(3)}
    upstream.expert.model.encoder.layers[0].dropout2 = nn.Identity()  # type: ignore[union-attr]
    del upstream.expert.model.encoder.layers[1].dropout2  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="leave both null"):
        set_dropout(upstream, 0.1, None)
