"""Exactly what is named learns."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssft_bench.finetuning.spec import FineTuneSpec
from ssft_bench.finetuning.trainable import choose
from ssft_bench.upstream import Upstream
from tests.finetuning.models import FEW, KINDS, build, fresh, furthest, values, waves

pytestmark = pytest.mark.usefixtures("one_thread")
LAYERS, DIM = 3, {"tiny": 16}
NO_EFFECT = re.compile(r"k_proj\.bias$")
"""A bias of the keys adds the same to every score of a softmax: only rounding moves it."""


def width(kind: str) -> int:
    return DIM.get(kind.split("-")[0], 32)


def learn(upstream: Upstream, seed: int, steps: int = 2) -> set[str]:
    """Names of the parameters that plain gradient steps change. Two, as LoRA's A waits for B to leave 0."""
    before = values(upstream)
    upstream.train()
    learning = [p for p in upstream.expert.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.3)
    for step in range(steps):
        optimizer.zero_grad()
        states = upstream(waves(seed + step)).states
        generator = torch.Generator().manual_seed(seed)
        aim = [torch.randn(s.shape, generator=generator) for s in states]
        sum((s * a).mean() for s, a in zip(states, aim, strict=True)).backward()  # type: ignore[union-attr]
        optimizer.step()
    after = values(upstream)
    return {n for n in after if not torch.equal(before[n], after[n])}


@torch.no_grad()
def matters(upstream: Upstream) -> set[str]:
    """Names of the parameters without which a hidden state would be another: found by changing each."""
    upstream.eval()
    heard = waves(1, (6400,))
    plain = upstream(heard).states
    found = set()
    for name, parameter in upstream.expert.named_parameters():
        kept = parameter.clone()
        parameter += torch.rand(parameter.shape, generator=torch.Generator().manual_seed(2))
        states = upstream(heard).states
        if any(not torch.equal(a, b) for a, b in zip(plain, states, strict=True)):
            found.add(name)
        parameter.copy_(kept)
    return found


def without_key_biases(names: Any) -> set[str]:
    return {n for n in names if not NO_EFFECT.search(n)}


@pytest.mark.parametrize("kind", KINDS)
def test_all(kind: str, tmp_path: Path) -> None:
    """Everything that hidden states depend on, but the convolutional stack."""
    seed = fresh()
    upstream = build(kind, tmp_path, seed)
    wanted = {n for n in matters(upstream) if not n.startswith("model.feature_extractor.")}
    learned = choose(upstream, FineTuneSpec(), seed)
    assert without_key_biases(learned.encoder) == without_key_biases(wanted), seed
    assert without_key_biases(learn(upstream, seed)) == without_key_biases(wanted), seed
    assert learned.on_top == ()


@pytest.mark.parametrize("kind", FEW)
def test_convolutions_too(kind: str, tmp_path: Path) -> None:
    seed = fresh()
    upstream = build(kind, tmp_path, seed)
    wanted = without_key_biases(matters(upstream))
    assert any(n.startswith("model.feature_extractor.") for n in wanted)
    learned = choose(upstream, FineTuneSpec(train_convolutions=True), seed)
    assert without_key_biases(learned.encoder) == wanted, seed
    assert without_key_biases(learn(upstream, seed)) == wanted, seed


@pytest.mark.parametrize("kind", FEW)
def test_no_gradient_runs_through_frozen_convolutions(kind: str, tmp_path: Path) -> None:
    """Nothing of the stack is kept for a backward pass, though transformers would in train mode."""
    for spec, needed in ((FineTuneSpec(), False), (FineTuneSpec(train_convolutions=True), True)):
        upstream = build(kind, tmp_path, 0)
        choose(upstream, spec, 0)
        stack: Any = upstream.expert.model.feature_extractor  # type: ignore[union-attr]
        seen: list[bool] = []
        stack.register_forward_hook(lambda m, i, out, seen=seen: seen.append(out.requires_grad))
        upstream.train()(waves(1, (6400,)))
        assert set(seen) == {needed}


@pytest.mark.parametrize("kind", FEW)
def test_top(kind: str, tmp_path: Path) -> None:
    seed = fresh()
    upstream = build(kind, tmp_path, seed)
    wanted = {n for n in values(upstream) if re.match(r"model\.encoder\.layers\.[12]\.", n)}
    learned = choose(upstream, FineTuneSpec(trainable="top:2"), seed)
    assert set(learned.encoder) == wanted
    # WavLM's gates and biases of the positions are few numbers, all of which move too.
    assert without_key_biases(learn(upstream, seed)) == without_key_biases(wanted), seed


@pytest.mark.parametrize("kind", FEW)
def test_lora(kind: str, tmp_path: Path) -> None:
    """New parameters alone, as many as the formula says; nothing changes before they do."""
    seed, rank, dim = fresh(), 2, width(kind)
    upstream = build(kind, tmp_path, seed)
    before, old = upstream(waves(seed)).states, values(upstream)
    learned = choose(upstream, FineTuneSpec(trainable=f"lora:r={rank},targets=q+v+out"), seed)
    after, new = upstream(waves(seed)).states, values(upstream)
    assert furthest(before, after) < 1e-5, seed  # the sums' memory lies elsewhere
    numbers = sum(new[n].numel() for n in learned.encoder)
    assert numbers == LAYERS * 3 * rank * 2 * dim
    assert sum(v.numel() for v in new.values()) == sum(v.numel() for v in old.values()) + numbers
    assert learn(upstream, seed) == set(learned.encoder), seed


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_lora_is_the_sum(kind: str, tmp_path: Path) -> None:
    """The same states as a plain model with W + alpha / r * B A in place of W."""
    seed, rank, alpha = fresh(), 2, 3.0
    spec = FineTuneSpec(trainable=f"lora:r={rank},alpha={alpha},targets=q+k+v+out+fc1+fc2")
    upstream, plain = build(kind, tmp_path, seed), build(kind, tmp_path, seed)
    learned = choose(upstream, spec, seed)
    generator = torch.Generator().manual_seed(seed)
    parameters = dict(upstream.expert.named_parameters())
    for name in learned.encoder:
        parameters[name].copy_(0.3 * torch.randn(parameters[name].shape, generator=generator))
    untouched = plain(waves(seed)).states[-1]
    merged = dict(plain.expert.named_parameters())
    changed = 0
    for name in learned.encoder:
        if "lora_A" in name:
            path = name.split(".lora_A.")[0]
            product = parameters[name.replace("lora_A", "lora_B")] @ parameters[name]
            merged[f"{path}.weight"] += alpha / rank * product
            changed += 1
    assert changed == 6 * LAYERS
    ours, theirs = upstream(waves(seed)).states, plain(waves(seed)).states
    assert furthest(ours, theirs) < 1e-4, seed
    assert furthest([untouched], theirs[-1:]) > 1e-2, seed


@torch.no_grad()
@pytest.mark.parametrize("kind", ["hubert-base", "wavlm-base", "hf_wavlm-base"])
def test_plain_peft_would_do_nothing(kind: str, tmp_path: Path) -> None:
    """Why `lora.py` shows the sum as `weight`: these attentions never call their projections."""
    from peft import LoraConfig, inject_adapter_in_model

    seed = fresh()
    upstream = build(kind, tmp_path, seed)
    before = upstream(waves(seed)).states
    inject_adapter_in_model(
        LoraConfig(r=2, target_modules=["q_proj"]), upstream.expert.model.encoder
    )
    for name, parameter in upstream.expert.named_parameters():
        if "lora_" in name:
            parameter += 1.0
    assert furthest(before, upstream(waves(seed)).states) < 1e-5, seed


@pytest.mark.parametrize("kind", FEW)
def test_adapters(kind: str, tmp_path: Path) -> None:
    seed, size, dim = fresh(), 5, width(kind)
    upstream = build(kind, tmp_path, seed)
    before = upstream(waves(seed)).states
    learned = choose(upstream, FineTuneSpec(trainable=f"adapter:{size}"), seed)
    after, new = upstream(waves(seed)).states, values(upstream)
    assert furthest(before, after) < 1e-5, seed
    assert sum(new[n].numel() for n in learned.encoder) == LAYERS * 2 * (
        2 * dim * size + size + dim
    )
    assert learn(upstream, seed) == set(learned.encoder), seed


@torch.no_grad()
@pytest.mark.parametrize("kind", ["hubert-base", "hubert-large", "hf_hubert-large"])
def test_where_adapters_are(kind: str, tmp_path: Path) -> None:
    """A layer computed part by part: after attention and feed-forward, before each residual sum."""
    seed = fresh()
    plain, upstream = build(kind, tmp_path, seed), build(kind, tmp_path, seed)
    learned = choose(upstream, FineTuneSpec(trainable="adapter:4"), seed)
    parameters = dict(upstream.expert.named_parameters())
    generator = torch.Generator().manual_seed(seed)
    for name in learned.encoder:
        parameters[name].copy_(0.5 * torch.randn(parameters[name].shape, generator=generator))
    weights = [parameters[n] for n in learned.encoder if ".layers.1." in n]
    assert len(weights) == 8

    def adapter(x: Tensor, w: list[Tensor]) -> Tensor:
        return x + nn.functional.gelu(x @ w[0].T + w[1]) @ w[2].T + w[3]

    layer: Any = plain.expert.model.encoder.layers[1]
    x = torch.randn(7, 1, 32, generator=generator)
    if kind.startswith("hf_"):
        first, second, shaped = layer.layer_norm, layer.final_layer_norm, x.transpose(0, 1)
        feed = layer.feed_forward
        attended = layer.attention(first(shaped), attention_mask=None)[0]
        y = shaped + adapter(attended, weights[:4])
        wanted = (y + adapter(feed(second(y)), weights[4:])).transpose(0, 1)
        given = upstream.expert.model.encoder.layers[1](shaped).transpose(0, 1)
    else:
        first, second = layer.self_attn_layer_norm, layer.final_layer_norm
        pre = kind.endswith("large")
        q = first(x) if pre else x
        y = x + adapter(layer.self_attn(q, q, q, need_weights=False)[0], weights[:4])
        y = y if pre else first(y)
        z = second(y) if pre else y
        fed = layer.fc2(layer.activation_fn(layer.fc1(z)))
        wanted = y + adapter(fed, weights[4:])
        wanted = wanted if pre else second(wanted)
        given = upstream.expert.model.encoder.layers[1](x)[0]
    assert float((wanted - given).abs().max()) < 1e-4 * float(wanted.abs().max()), seed
    bare = layer(shaped).transpose(0, 1) if kind.startswith("hf_") else layer(x)[0]
    assert float((bare - given).abs().max()) > 1e-2, seed


def test_new_parameters_by_the_seed(tmp_path: Path) -> None:
    """The run's seed alone says how LoRA and adapters start, and torch's generator stays where it was."""
    torch.manual_seed(5)
    expected = torch.rand(1)
    for trainable in ("lora:r=2", "adapter:4"):
        found = []
        for seed in (1, 1, 2):
            upstream = build("hubert-base", tmp_path, 0)
            torch.manual_seed(5)
            learned = choose(upstream, FineTuneSpec(trainable=trainable), seed)
            assert torch.equal(torch.rand(1), expected)
            found.append([values(upstream)[n] for n in learned.encoder])
        assert all(torch.equal(a, b) for a, b in zip(found[0], found[1], strict=True))
        assert any(not torch.equal(a, b) for a, b in zip(found[0], found[2], strict=True))


def test_modules_on_top(tmp_path: Path) -> None:
    """`always_trained` of an expert learns whatever is said of the encoder."""
    upstream = build("hubert-base", tmp_path, 0)
    upstream.expert.extra = nn.Linear(2, 2)
    upstream.expert.always_trained = ("extra.",)
    learned = choose(upstream, FineTuneSpec(trainable="top:1"), 0)
    assert learned.on_top == ("extra.weight", "extra.bias")
    assert all(n.startswith("model.encoder.layers.2.") for n in learned.encoder)
    assert {n for n, p in upstream.expert.named_parameters() if p.requires_grad} == {
        *learned.encoder, *learned.on_top,
    }  # fmt: skip
