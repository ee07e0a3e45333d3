"""The interface that is checked: how it is built, on which shapes, and what it is fed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ssft_bench.errors import BenchError
from ssft_bench.hidden_states import HiddenStates, UpstreamSpec
from ssft_bench.interface import Interface, build_interface

STRIDE = 320
"""Samples per frame of the made-up upstreams: 20 ms, as HuBERT's."""
EXACT = 1e-5
"""Largest difference, as a share of the largest value, between two ways to the same fp32 numbers."""


class Shape(NamedTuple):
    """Number of hidden states L, and their width D."""

    layers: int
    dim: int

    def spec(self) -> UpstreamSpec:
        """An upstream of that shape."""
        dims, strides = (self.dim,) * self.layers, (STRIDE,) * self.layers
        return UpstreamSpec(f"a {self.layers} x {self.dim} upstream", dims, strides)

    def uneven_spec(self) -> UpstreamSpec:
        """The same, but the first half of its layers is narrower and has half the frame rate."""
        half = max(1, self.layers // 2)
        rest = self.layers - half
        dims = (max(1, self.dim - 4),) * half + (self.dim,) * rest
        return UpstreamSpec("an uneven upstream", dims, (2 * STRIDE,) * half + (STRIDE,) * rest)


SHAPES = tuple(
    Shape(*pair)
    for pair in ((7, 12), (7, 96), (13, 96), (25, 96), (13, 384), (25, 384), (13, 768), (25, 1024))
)
"""In the order in which they are tried: options may fit some of them only (`layer:index=20`)."""


@dataclass(frozen=True)
class Subject:
    """An interface with options, and the shapes that these options fit."""

    build: type[Interface]
    options: Mapping[str, Any]
    label: str
    """As it was named on the command line."""
    fitting: tuple[Shape, ...] = SHAPES

    @staticmethod
    def of(build: type[Interface], options: Mapping[str, Any], label: str) -> Subject:
        """Find the shapes that the options fit.

        Raises the UsageError of the largest shape when they fit none: then the options are wrong.
        Whatever else goes wrong in the constructor is left for the checks to report.
        """
        anywhere = Subject(build, options, label)
        fitting, refusal = [], None
        for shape in SHAPES:
            try:
                anywhere.unfilled(shape.spec())
            except BenchError as error:
                refusal = error
                continue
            except (Exception, SystemExit):
                pass
            fitting.append(shape)
        if not fitting:
            assert refusal is not None
            raise refusal
        return Subject(build, options, label, tuple(fitting))

    @property
    def small(self) -> Shape:
        """Seven layers of 12 if possible: most properties show there."""
        return self.fitting[0]

    def at_least(self, layers: int, dim: int) -> Shape:
        """The first shape with that many layers and dimensions; the largest when there is none."""
        wanted = [s for s in self.fitting if s.layers >= layers and s.dim >= dim]
        return wanted[0] if wanted else self.fitting[-1]

    def blank(self, spec: UpstreamSpec, seed: int = 1) -> Interface:
        """As a run builds it: neither fitted nor trained."""
        torch.manual_seed(seed)
        return build_interface(self.build, spec, self.options, f"--interface {self.label}")

    def unfilled(self, spec: UpstreamSpec) -> Interface:
        """For counting: without memory, unless its constructor looks at numbers."""
        try:
            with torch.device("meta"):
                return self.blank(spec)
        except (Exception, SystemExit):
            return self.blank(spec)

    def interface(
        self, spec: UpstreamSpec, dtype: torch.dtype = torch.float32, seed: int = 1
    ) -> Interface:
        """As after training: parameters moved away from where they start, fitted; in eval mode."""
        interface = self.blank(spec, seed)
        moved(interface)
        interface.to(dtype)
        if interface.needs_fit:
            interface.fit(fit_data(interface, dtype))
        return interface.eval()


def moved(interface: Interface) -> None:
    """Move parameters away from their start: zeros would hide mistakes. Signs and sizes are kept."""
    with torch.no_grad():
        for parameter in interface.parameters():
            if not parameter.is_floating_point():
                continue
            scale = 0.3 if parameter.dim() < 2 else max(1, parameter[0].numel()) ** -0.5
            noise = torch.randn_like(parameter) * scale
            factor = 0.75 + 0.5 * torch.rand_like(parameter)
            parameter.copy_(torch.where(parameter == 0, noise, parameter * factor))


def fit_data(interface: Interface, dtype: torch.dtype = torch.float32) -> Iterator[list[Tensor]]:
    """Ten utterances of the used layers' random states, each [T, D_l], more frames than dimensions."""
    spec, used = interface.spec, interface.layers_used()
    frames = max(16, -(-max(spec.dims) // 4))
    for seed in range(10):
        hidden = random_hidden(spec, [frames], dtype=dtype, seed=100 + seed)
        yield [hidden.states[layer][0] for layer in used]


def random_hidden(
    spec: UpstreamSpec,
    frames: Sequence[int],
    *,
    dtype: torch.dtype = torch.float32,
    seed: int = 3,
    fill: float = 0.0,
) -> HiddenStates:
    """Hidden states of utterances of `frames` frames of the finest stride; padding holds `fill`."""
    draw = torch.Generator().manual_seed(seed)
    finest = min(spec.strides)
    states, lengths = [], []
    for dim, stride in zip(spec.dims, spec.strides, strict=True):
        own = [-(-count * finest // stride) for count in frames]
        state = torch.randn(len(own), max(own, default=0), dim, generator=draw)
        for row, count in enumerate(own):
            state[row, count:] = fill
        states.append(state.to(dtype))
        lengths.append(torch.tensor(own, dtype=torch.int64))
    return HiddenStates(states, lengths[-1] if len(set(spec.strides)) == 1 else lengths)


def run(interface: Interface, hidden: HiddenStates, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features and lengths, after seeding. Raises TypeError when forward gives anything else."""
    torch.manual_seed(seed)
    return outputs(interface(hidden))


def outputs(answer: Any) -> tuple[Tensor, Tensor]:
    """What forward gave, if it is a pair of tensors; TypeError otherwise."""
    if isinstance(answer, tuple) and len(answer) == 2:
        features, lengths = answer
        if isinstance(features, Tensor) and isinstance(lengths, Tensor):
            return features, lengths
    raise TypeError(f"forward gave a {type(answer).__name__}, not the pair (features, lengths)")


def gap(one: Tensor, other: Tensor, floor: float = 1e-30) -> float:
    """Largest difference as a share of `other`'s largest value; infinite where there is a NaN.

    Values below `floor` count as that much.
    """
    if one.shape != other.shape:
        raise ValueError(f"shape {list(one.shape)} instead of {list(other.shape)}")
    if not other.numel():
        return 0.0
    one, other = one.detach().double(), other.detach().double()
    share = float((one - other).abs().max() / other.abs().max().clamp_min(floor))
    return share if share == share else float("inf")


class Gradients(NamedTuple):
    """What one forward and backward pass gave."""

    features: Tensor
    lengths: Tensor
    by_state: list[Tensor | None]
    by_parameter: dict[str, Tensor | None]

    def floor(self) -> float:
        """Gradients below a hundredth of the largest parameter's are compared as that much: one that
        is zero but for rounding (a bias before a softmax) has no digits of its own."""
        sizes = [
            float(g.abs().max()) for g in self.by_parameter.values() if g is not None and g.numel()
        ]
        return max(0.01 * max(sizes, default=0.0), 1e-30)


def differentiate(
    interface: Interface,
    hidden: HiddenStates,
    direction: Tensor | None = None,
    layout: Callable[[Tensor], Tensor] = lambda state: state,
) -> Gradients:
    """Gradients of <features, direction>, by default a random one, after seeding.

    `layout` makes the view that the interface sees of each state; gradients are the state's own.
    """
    leaves = [state.detach().clone().requires_grad_() for state in hidden.states]
    seen = HiddenStates([layout(leaf) for leaf in leaves], hidden.layer_lengths, hidden.layers)
    interface.zero_grad(set_to_none=True)
    features, lengths = run(interface, seen)
    if direction is None:
        draw = torch.Generator().manual_seed(4)
        direction = torch.randn(features.shape, generator=draw).to(features.dtype)
    if features.requires_grad:
        features.backward(direction)
    by_parameter = {name: p.grad for name, p in interface.named_parameters() if p.requires_grad}
    return Gradients(features.detach(), lengths, [leaf.grad for leaf in leaves], by_parameter)


def draws(interface: Interface, hidden: HiddenStates) -> bool:
    """Whether it gives other features in training when the seed is another."""
    training = interface.training
    interface.train()
    with torch.no_grad():
        one, other = (run(interface, hidden, seed)[0] for seed in (1, 2))
    interface.train(training)
    return not torch.equal(one, other)
