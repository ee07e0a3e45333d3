"""What holds for every built-in interface, by the registry's names."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ssft_bench import registry
from ssft_bench.errors import UsageError
from ssft_bench.hidden_states import HiddenStates, UpstreamSpec
from ssft_bench.interface import Interface, build_interface
from ssft_bench.interfaces.last import Last
from ssft_bench.interfaces.layer import Layer
from tests.states import distance, gradients, random_states, randomize, require_grad, spec

NAMES = [p.name for p in registry.plugins("interfaces") if p.origin == "built-in"]
every = pytest.mark.parametrize("name", NAMES)


def build(name: str, layers: int = 7, dim: int = 12, **options: Any) -> Interface:
    torch.manual_seed(1)
    cls = registry.load("interfaces", name)
    interface = build_interface(cls, spec(layers, dim), options, name)
    return randomize(interface.double()).eval()


def test_the_names() -> None:
    assert {"last", "layer", "weighted_sum", "hconv"} <= set(NAMES)


@every
@pytest.mark.parametrize(("layers", "dim"), [(2, 768), (13, 768), (25, 1024)])
def test_declared_parameters(name: str, layers: int, dim: int) -> None:
    cls = registry.load("interfaces", name)
    assert cls.name == name
    with torch.device("meta"):
        built = cls(spec(layers, dim))
    declared = cls.expected_parameters(spec(layers, dim))
    assert declared is None or declared == sum(p.numel() for p in built.parameters())


@every
def test_shape_and_padding(name: str) -> None:
    """A batch gives what single utterances give; padded frames are zero whatever they held."""
    interface = build(name)
    torch.manual_seed(2)
    items = [[torch.randn(n, 12, dtype=torch.float64) for _ in range(7)] for n in (4, 9, 1)]
    batch = HiddenStates.pad(items)
    for state in batch.states:
        state[~batch.valid()] = 1e3
    features, lengths = interface(batch)
    pooled = interface.pools_time
    assert features.shape == (3, 1 if pooled else 9, interface.output_dim)
    assert lengths.tolist() == ([1, 1, 1] if pooled else [4, 9, 1])
    assert lengths.dtype == torch.int64
    for row, item in enumerate(items):
        alone, _ = interface(HiddenStates.pad([item]))
        assert distance(features[row, : lengths[row]], alone[0]) < 1e-12
        assert not features[row, lengths[row] :].any()


@every
def test_sliced_and_transposed_views(name: str) -> None:
    interface = build(name)
    whole = random_states(7, 24, 3)
    views = [s[:, :, ::2] for s in whole.states]
    copies = [s.contiguous() for s in views]
    one, _ = interface(HiddenStates(views, whole.lengths))
    other, _ = interface(HiddenStates(copies, whole.lengths))
    assert distance(one, other) < 1e-12


@every
def test_bf16_is_summed_in_fp32(name: str) -> None:
    """Rounded once or a few times, never once per layer; autocast changes nothing."""
    interface = build(name).float()
    exact = random_states(7, 12, 4, torch.float32)
    low = exact.to("cpu", torch.bfloat16)
    features, _ = interface(low)
    assert features.dtype == torch.bfloat16
    wanted, _ = interface(low.to("cpu", torch.float32))
    assert distance(features.float(), wanted) <= 0.01 * float(wanted.abs().max())
    with torch.autocast("cpu", torch.bfloat16):
        inside, _ = interface(exact)
    assert torch.equal(inside, interface(exact)[0])


@every
def test_gradients_reach_what_is_used(name: str) -> None:
    interface = build(name, dim=96).train()  # wide enough that gumbel chooses every layer
    hidden = require_grad(random_states(7, 96, 5))
    used = hidden.select(interface.layers_used())
    interface(used)[0].square().sum().backward()
    assert all(g.abs().sum() > 0 for g in gradients(used))
    for parameter in interface.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


@every
def test_used_layers_suffice(name: str) -> None:
    """The feature cache keeps only these."""
    interface = build(name)
    hidden = random_states(7, 12, 6)
    whole, _ = interface(hidden)
    part, _ = interface(hidden.select(interface.layers_used()))
    assert torch.equal(whole, part)


@every
def test_save_and_load_and_again(name: str) -> None:
    interface = build(name).eval()
    hidden = random_states(7, 12, 7)
    first, _ = interface(hidden)
    assert torch.equal(first, interface(hidden)[0])
    other = build(name)
    other.load_state_dict(interface.state_dict())
    assert torch.equal(first, other(hidden)[0])


@every
def test_layer_usage_sums_to_one(name: str) -> None:
    usage = build(name).layer_usage()
    assert usage is None or (len(usage) == 7 and sum(usage) == pytest.approx(1))


@every
def test_one_layer_passes_through(name: str) -> None:
    interface = build(name, layers=1)
    hidden = random_states(1, 12, 8)
    features, _ = interface(hidden)
    if interface.pools_time:
        assert features.shape[1] == 1
        return
    assert interface.output_dim == 12
    assert distance(features, hidden.states[0]) < 1e-12


@every
def test_two_layers_and_one_frame_and_none(name: str) -> None:
    interface = build(name, layers=2)
    for batch, frames in ((1, 1), (2, 0), (0, 0)):
        states = [torch.ones(batch, frames, 12, dtype=torch.float64) for _ in range(2)]
        lengths = torch.full((batch,), frames, dtype=torch.int64)
        features, _ = interface(HiddenStates(states, lengths))
        times = 1 if interface.pools_time else frames
        assert features.shape == (batch, times, interface.output_dim)


@every
def test_other_hidden_states_than_it_was_built_for(name: str) -> None:
    interface = build(name)
    with pytest.raises(ValueError, match=rf"{name}: built for the 7 hidden states of random, got"):
        interface(random_states(8, 12, 9))
    with pytest.raises(ValueError, match=rf"{name}: built for the 7 hidden states of random, got"):
        interface(random_states(6, 12, 9))
    with pytest.raises(ValueError, match=r"layer \d has width 13, the upstream random declares 12"):
        interface(random_states(7, 13, 9))


@every
def test_layers_of_several_widths_and_strides(name: str) -> None:
    """They are projected to the last one's width and brought to the finest frame rate."""
    uneven = UpstreamSpec("uneven", (8, 8, 12), (640, 320, 320))
    states = [
        torch.randn(2, frames, dim) for frames, dim in zip((2, 4, 4), uneven.dims, strict=True)
    ]
    lengths = [torch.tensor([2, 1]), torch.tensor([4, 2]), torch.tensor([4, 2])]
    interface = randomize(registry.load("interfaces", name)(uneven)).eval()
    features, out = interface(HiddenStates(states, lengths))
    assert features.shape == (2, 1 if interface.pools_time else 4, interface.output_dim)
    assert out.tolist() == ([1, 1] if interface.pools_time else [4, 2])
    if name not in ("last", "layer", "pca_concat"):
        assert any("projections" in key for key in interface.state_dict())
        states[0] = states[0] + 1.0
        assert distance(features, interface(HiddenStates(states, lengths))[0]) > 0


@pytest.mark.parametrize("index", [0, 3, 6, -1, -7])
def test_layer_is_that_layer(index: int) -> None:
    hidden = random_states(7, 12, 10)
    interface = Layer(spec(7, 12), index=index)
    features, _ = interface(hidden)
    assert torch.equal(features, hidden.states[index])
    assert interface.layers_used() == (index % 7,)
    assert interface.layer_usage()[index] == 1


def test_layer_takes_the_width_of_its_layer() -> None:
    interface = Layer(UpstreamSpec("uneven", (8, 10, 12), (320,) * 3), index=1)
    states = [torch.randn(1, 4, dim) for dim in (8, 10, 12)]
    features, _ = interface(HiddenStates(states, torch.tensor([4])))
    assert features.shape[-1] == interface.output_dim == 10


def test_last_is_the_last() -> None:
    hidden = random_states(7, 12, 11)
    features, _ = Last(spec(7, 12))(hidden)
    assert torch.equal(features, hidden.states[-1])


@pytest.mark.parametrize("index", [7, -8, 100])
def test_a_layer_that_is_not_there(index: int) -> None:
    with pytest.raises(UsageError, match=rf"layer:index={index}: random has hidden states 0 to 6"):
        Layer(spec(7, 12), index=index)


def test_an_interface_without_combine() -> None:
    with pytest.raises(NotImplementedError, match=r"Interface must define combine\(\)"):
        Interface(spec(2, 4))(random_states(2, 4, 12))
