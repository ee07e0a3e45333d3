"""hconv against the authors' package (ssl-interface 0.1.0) and against conv1d."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ssft_bench.errors import UsageError
from ssft_bench.hidden_states import HiddenStates, UpstreamSpec
from ssft_bench.interfaces.hconv import HConv
from tests.mixing.padded import (
    LENGTHS,
    Parameters,
    Reference,
    against,
    built,
    check,
    one_thread,
    padded,
    precisions,
    relative,
    runs,
)
from tests.mixing.references import convolved, resampled, stretched
from tests.states import SEEDS, distance, gradients, random_states, randomize, require_grad, spec

SHAPES = [(13, 96), (25, 96), (25, 128), (7, 64), (9, 64)]


def official(layers: int, dim: int, dtype: torch.dtype) -> Any:
    """The authors' module; it wants to be told its own output width."""
    configs = pytest.importorskip("SSL_Interface.configs")
    package = pytest.importorskip("SSL_Interface.interfaces")
    left = layers
    convolutions = 0
    while left >= 3:
        left, convolutions = left // 3, convolutions + 1
    positions = layers
    for _ in range(convolutions):
        positions = (positions - 1) // 3 + 1
    config = configs.HierarchicalConvInterfaceConfig(
        upstream_layer_num=layers, upstream_feat_dim=dim, output_dim=dim // positions * positions
    )
    return package.HierarchicalConvInterface(config).to(dtype)


def as_conv1d(parameter: Tensor) -> Tensor:
    """Our [kernel, in, out] as torch.nn.Conv1d's [out, in, kernel]; biases as they are."""
    return parameter.permute(2, 1, 0) if parameter.dim() == 3 else parameter


def pair(layers: int, dim: int, dtype: torch.dtype) -> tuple[HConv, Any]:
    """Ours and theirs with the same random parameters; theirs are [out, in, kernel]."""
    ours = HConv(spec(layers, dim)).to(dtype)
    randomize(ours)
    theirs = official(layers, dim, dtype)
    theirs_parameters = list(theirs.transforms.parameters())
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), theirs_parameters, strict=True):
            other.copy_(as_conv1d(mine))
    return ours, theirs


def decided(theirs: Any, hidden: HiddenStates) -> Tensor:
    """Frames [B, T, 1] where no ReLU has its input within 1e-5 of 0.

    Elsewhere two right answers may take different sides, and their gradients have nothing in common.
    """
    least: list[Tensor] = []
    hooks = [
        conv.register_forward_hook(lambda _, __, y: least.append(y.detach().abs().amin((1, 2))))
        for conv in theirs.transforms
        if isinstance(conv, torch.nn.Conv1d)
    ]
    theirs(hidden.stack().detach())
    for hook in hooks:
        hook.remove()
    frames = torch.stack(least).amin(0) > 1e-5
    assert frames.any()
    return frames.view(*hidden.states[0].shape[:2], 1)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("layers", "dim"), SHAPES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 5e-6)], ids=["fp64", "fp32"]
)
def test_equals_the_authors_package(
    layers: int, dim: int, dtype: torch.dtype, tolerance: float, seed: int
) -> None:
    ours_in = require_grad(random_states(layers, dim, seed, dtype))
    theirs_in = require_grad(ours_in)
    ours, theirs = pair(layers, dim, dtype)
    got, _ = ours(ours_in)
    wanted = theirs(theirs_in.stack())
    assert got.shape[-1] == ours.output_dim == theirs.output_dim
    assert distance(got, wanted) < tolerance
    direction = torch.randn_like(wanted) / wanted.numel() ** 0.5 * decided(theirs, ours_in)
    (got * direction).sum().backward()
    (wanted * direction).sum().backward()
    for one, other in zip(gradients(ours_in), gradients(theirs_in), strict=True):
        assert distance(one, other) < tolerance
    for mine, other in zip(ours.parameters(), theirs.transforms.parameters(), strict=True):
        assert mine.grad is not None
        assert distance(as_conv1d(mine.grad), other.grad) < tolerance


@pytest.mark.parametrize("seed", SEEDS[:2])
@pytest.mark.parametrize(("layers", "dim"), [(13, 768), (25, 1024)])
@one_thread()
def test_equals_the_authors_package_at_full_size(layers: int, dim: int, seed: int) -> None:
    """In fp32, relative to the largest value; a Base and a Large model."""
    whole = random_states(layers, dim, seed, torch.float32)
    few = HiddenStates([s[:, :4] for s in whole.states], whole.lengths.clamp_max(4))
    ours_in = require_grad(few)
    theirs_in = require_grad(few)
    ours, theirs = pair(layers, dim, torch.float32)
    with torch.no_grad():  # else the biases would drown what comes from so many channels
        for parameter in (*ours.parameters(), *theirs.parameters()):
            parameter *= (dim / 5) ** 0.5 if parameter.dim() == 3 else 1.0
    got, wanted = ours(ours_in)[0], theirs(theirs_in.stack())
    assert relative(got, wanted) < 1e-5
    direction = torch.randn_like(wanted) * decided(theirs, ours_in)
    got.backward(direction)
    wanted.backward(direction)
    for one, other in zip(gradients(ours_in), gradients(theirs_in), strict=True):
        assert relative(one, other) < 1e-5
    for mine, other in zip(ours.parameters(), theirs.transforms.parameters(), strict=True):
        assert relative(as_conv1d(mine.grad), other.grad) < 1e-5
    assert relative(theirs(few.stack().flip(0)), wanted) > 0.1


@pytest.mark.parametrize(("layers", "dim"), SHAPES)
def test_the_comparison_would_notice(layers: int, dim: int) -> None:
    """Negative controls: each of these mistakes is far outside the tolerance."""
    ours, theirs = pair(layers, dim, torch.float64)
    hidden = random_states(layers, dim, 21)
    wanted = theirs(hidden.stack())
    assert distance(ours(hidden)[0], wanted) < 1e-10

    reversed_layers = HiddenStates(hidden.states[::-1], hidden.lengths)
    assert distance(ours(reversed_layers)[0], wanted) > 0.1
    gone = HiddenStates([*hidden.states[:-1], torch.zeros_like(hidden.states[-1])], hidden.lengths)
    assert distance(ours(gone)[0], wanted) > 0.01
    got = ours(hidden)[0]
    positions = ours.positions[-1]
    if positions > 1:
        layer_major = got.unflatten(-1, (-1, positions)).transpose(-1, -2).flatten(-2)
        assert distance(layer_major, wanted) > 0.1
    with torch.no_grad():
        for conv in ours.convs:
            conv.weight.copy_(conv.weight.flip(0))
    assert distance(ours(hidden)[0], wanted) > 0.1


@pytest.mark.parametrize(
    ("layers", "dim", "parameters", "width"),
    [
        (13, 768, 4_424_832, 768),
        (25, 768, 3_933_184, 768),
        (13, 1024, 7_865_856, 1024),
        (25, 1024, 6_990_165, 1023),
    ],
)
def test_sizes_of_base_and_large_models(layers: int, dim: int, parameters: int, width: int) -> None:
    with torch.device("meta"):
        built = HConv(spec(layers, dim))
    assert sum(p.numel() for p in built.parameters()) == parameters
    assert HConv.expected_parameters(spec(layers, dim)) == parameters
    assert built.output_dim == width


@pytest.mark.parametrize(
    ("layers", "stride", "convolutions", "positions"),
    [(1, 3, 0, 1), (2, 3, 1, 1), (3, 3, 1, 1), (3, 4, 1, 1), (5, 2, 2, 2), (243, 3, 5, 1)],
)
def test_any_number_of_layers(layers: int, stride: int, convolutions: int, positions: int) -> None:
    interface = HConv(spec(layers, 6), stride=stride).double()
    hidden = random_states(layers, 6, 3)
    features, lengths = interface(hidden)
    assert len(interface.convs) == convolutions
    assert interface.positions[-1] == positions
    assert features.shape == (*hidden.states[0].shape[:2], interface.output_dim)
    assert torch.equal(lengths, hidden.lengths)
    if layers == 1:
        assert torch.equal(features, hidden.states[0])


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (4, 3), (5, 4), (7, 3), (9, 5)])
def test_other_kernels_equal_a_convolution(kernel: int, stride: int) -> None:
    interface = HConv(spec(13, 10), kernel=kernel, stride=stride).double()
    randomize(interface)
    hidden = random_states(13, 10, 4)
    planes: Tensor = torch.stack(hidden.states, -1).flatten(0, 1)
    for conv in interface.convs:
        weight = as_conv1d(conv.weight)
        planes = torch.conv1d(planes, weight, conv.bias, stride, kernel // 2).relu()
    wanted = planes.flatten(1).unflatten(0, hidden.states[0].shape[:2])
    assert distance(interface(hidden)[0], wanted) < 1e-12
    built = sum(p.numel() for p in interface.parameters())
    assert HConv.expected_parameters(interface.spec, kernel=kernel, stride=stride) == built


@pytest.mark.parametrize("options", [{"stride": 1}, {"kernel": 2}, {"stride": 0}, {"stride": 6}])
def test_options_that_skip_layers_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=r"--interface hconv:.*stride must be at least 2"):
        HConv(spec(13, 8), **options)


def test_layer_usage() -> None:
    interface = HConv(spec(13, 8))
    usage = interface.layer_usage()
    assert usage is not None
    assert len(usage) == 13
    assert sum(usage) == pytest.approx(1)
    with torch.no_grad():  # only the tap in the middle: windows stand on layers 0, 3, 6, 9, 12
        interface.convs[0].weight[[0, 1, 3, 4]] = 0
    seen = {layer for layer, share in enumerate(interface.layer_usage() or []) if share > 0}
    assert seen == {0, 3, 6, 9, 12}


def single(p: Parameters, states: list[Tensor]) -> Tensor:
    return convolved(p, torch.stack(states, -1))


@pytest.mark.parametrize(("layers", "dim"), [(2, 6), (7, 12), (13, 24), (25, 10)])
@runs
@precisions
def test_padded_batches_equal_conv1d(
    layers: int, dim: int, dtype: torch.dtype, tolerance: float, seed: int, block: int
) -> None:
    assert max(check(HConv, single, (layers, dim), seed, dtype, block).values()) < tolerance


JOINT = {
    "alike": (UpstreamSpec("a+b", (12,) * 12, (320,) * 12, (7, 5)), [LENGTHS]),
    "widths": (UpstreamSpec("a+b", (6,) * 5 + (12,) * 7, (320,) * 12, (5, 7)), [LENGTHS]),
    "strides": (
        UpstreamSpec("a+b", (12,) * 12, (640,) * 7 + (320,) * 5, (7, 5)),
        [(2, 5, 1, 3)] * 7 + [LENGTHS] * 5,
    ),
    "frames": (
        UpstreamSpec("a+b", (12,) * 12, (320,) * 12, (7, 5)),
        [LENGTHS] * 7 + [tuple(n + 1 for n in LENGTHS)] * 5,
    ),
}
"""Upstreams side by side, and lengths in frames: for all layers, or for each."""
joints = pytest.mark.parametrize("case", JOINT)


def added(like: UpstreamSpec, flip: bool = False, only: int | None = None) -> Reference:
    """Widths, then frame rates, then numbers of layers are made alike; then the sum of the parts."""

    def plain(p: Parameters, states: list[Tensor]) -> Tensor:
        finest = min(like.strides)
        last = max(i for i, stride in enumerate(like.strides) if stride == finest)
        even = []
        for layer, (state, stride) in enumerate(zip(states, like.strides, strict=True)):
            if f"projections.{layer}.weight" in p:
                weight, bias = p[f"projections.{layer}.weight"], p[f"projections.{layer}.bias"]
                state = torch.nn.functional.linear(state, weight, bias)
            even.append(resampled(state, stride / finest, len(states[last])))
        groups, start = [], 0
        for layers in like.parts:
            groups.append(stretched(even[start : start + layers], max(like.parts)))
            start += layers
        total = torch.stack(groups).sum(0) if only is None else groups[only] + 0 * sum(groups)
        return convolved(p, total.flip(-1) if flip else total)

    return plain


@joints
@runs
@precisions
def test_joint_upstreams_are_added(
    case: str, dtype: torch.dtype, tolerance: float, seed: int, block: int
) -> None:
    like, lengths = JOINT[case]
    hidden = padded(like, seed, dtype, lengths)
    errors = against(built(HConv, like, dtype), added(like), hidden, block)
    assert max(errors.values()) < tolerance


@joints
def test_the_comparison_of_joint_upstreams_would_notice(case: str) -> None:
    like, lengths = JOINT[case]
    hidden = padded(like, 1, lengths=lengths)
    interface = built(HConv, like, torch.float64)
    for reference in (added(like, only=0), added(like, only=1), added(like, flip=True)):
        assert against(interface, reference, hidden)["features"] > 0.01


def test_joint_upstreams_of_one_layer_each_are_added() -> None:
    """As `--upstream fbank+fbank`: there is nothing to convolve."""
    like = UpstreamSpec("a+b", (12, 12), (320, 320), (1, 1))
    hidden = padded(like, 1)
    features, _ = HConv(like).double()(hidden)
    real = hidden.valid()
    assert relative(features[real], hidden.states[0][real] + hidden.states[1][real]) < 1e-12
    assert not features[~real].any()
