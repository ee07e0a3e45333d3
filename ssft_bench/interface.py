"""The base class of what sits between an upstream and a downstream."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssft_bench.errors import BenchError, UsageError
from ssft_bench.hidden_states import HiddenStates, UpstreamSpec
from ssft_bench.mixing import framewise, real_frames, resample, sum_type


class Interface(nn.Module):
    """Turns L hidden states of [B, T, D] into features [B, T', D'].

    A subclass sets `output_dim` in `__init__` when it is not the last layer's width, and writes
    `combine`. The base class checks shapes with a message, brings layers of other widths and strides
    to one (after `align_layers`), computes in at least fp32, and zeroes padded frames, so that a batch
    gives what single utterances give.
    """

    name: ClassVar[str] = ""
    """The name on the command line; a file in `interfaces/` may leave it to the file's name."""
    framewise: ClassVar[bool] = False
    """`combine` gets real frames only, [n, D] for each layer, a block at a time, and is computed again
    in the backward pass instead of being kept: for anything that looks at one frame at a time."""
    draws: ClassVar[bool] = False
    """A framewise `combine` draws random numbers (dropout)."""
    pools_time: ClassVar[bool] = False
    """Gives one vector per utterance, T' = 1."""
    frame_options: ClassVar[Mapping[str, Any]] = {}
    """Options with which an interface that pools time gives a vector per frame, for tasks that need one."""
    usage_kind: ClassVar[str] = ""
    """What the numbers of `layer_usage` (or `gates`) are, in a few words."""
    has_gates: ClassVar[bool] = False
    """Whether `gates` says how much each layer counts in each frame."""
    needs_fit: ClassVar[bool] = False
    """Whether `fit` must see the training split's hidden states before training."""

    picks_layer_on_dev: bool = False
    """Where nothing is trained: its option `index` is open, and each layer is tried on dev."""
    built_with: Mapping[str, Any] = {}
    """The options it was given, once `build_interface` has built it."""

    def __init__(self, spec: UpstreamSpec, normalize: bool = False) -> None:
        """`normalize` applies a layer norm without parameters to each state first (s3prl's option).

        Options of a subclass are further keyword arguments, set by `--interface name:option=value`.
        """
        super().__init__()
        self.spec, self.normalize = spec, normalize
        self.output_dim: int = spec.dims[-1]
        self.output_stride: int = spec.strides[-1]
        self._stride: int | None = None
        self.projections = nn.ModuleDict()

    def align_layers(self, widths: bool = True) -> None:
        """Bring all layers to the finest stride, by linear interpolation, and to the last one's width.

        Layers of another width get a linear projection (they count as parameters); `widths` False
        leaves widths alone. Layers that agree already are not touched. To be called in `__init__`.
        """
        self._stride = self.output_stride = min(self.spec.strides)
        if widths:
            self.projections = nn.ModuleDict(
                {
                    str(layer): nn.Linear(dim, self.spec.dims[-1])
                    for layer, dim in enumerate(self.spec.dims)
                    if dim != self.spec.dims[-1]
                }
            )

    def combine(self, states: list[Tensor]) -> Tensor:
        """Features [B, T', D'] from the used layers' states, each [B, T, D_l] in fp32 or fp64.

        Padded frames hold what the upstream left there; their features are zeroed afterwards. With
        `framewise`: [n, D'] from [n, D_l], real frames only; the states are not to be changed in place.
        """
        raise NotImplementedError(f"{type(self).__name__} must define combine()")

    def mix_layers(self, states: list[Tensor], lengths: Tensor) -> Tensor:
        """Features [B, T', D'] in the states' type, zero from `lengths` [B] on (frames of the input).

        For interfaces that call the kernels of `ssft_bench.mixing` themselves; others write `combine`.
        """
        if self.framewise:
            parameters = [p for p in self.parameters() if p.requires_grad]
            draws = self.draws and self.training
            return framewise(
                self.combine, states, lengths, self.output_dim, parameters, draws=draws
            )
        given = states[0].dtype
        kind = sum_type(given)
        features = self.combine([state.to(kind) for state in states] if kind != given else states)
        real = real_frames(self.output_lengths(lengths).to(features.device), features.shape[1])
        features = features.masked_fill(~real.unsqueeze(-1), 0.0)
        return features.to(given) if kind != given else features

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # loops over data of its own
    def forward(self, hidden: HiddenStates) -> tuple[Tensor, Tensor]:
        """Return (features [B, T', D'], lengths [B]); padded frames are zero.

        Raises ValueError when the hidden states are not those the interface was built for.
        """
        used = self._check(hidden)
        with no_autocast(used.states[0].device):
            states, lengths = self._aligned(used)
            features = self.mix_layers(states, lengths)
        return features, self.output_lengths(lengths)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Frames of the features [B] from those of the states that are mixed."""
        if self.pools_time:
            return (lengths > 0).to(lengths.dtype)
        stride = self._stride or self.spec.strides[self.layers_used()[-1]]
        return (lengths * stride + self.output_stride - 1) // self.output_stride

    def layers_used(self) -> tuple[int, ...]:
        """Indices of the hidden states that matter; the feature cache keeps only these."""
        return tuple(range(self.spec.num_layers))

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int | None:
        """Number of parameters by formula for layers of one width, to be checked against the built
        module; None if not known. Projections of layers of other widths come on top."""
        return None

    def layer_usage(self) -> list[float] | None:
        """Share of each hidden state in the output [L], summing to 1; None when it has no meaning."""
        return None

    def usage_details(self) -> dict[str, list[float]]:
        """Named shares [L] where one list does not tell all (by group, keys and values, ...)."""
        return {}

    def gates(self, states: list[Tensor]) -> Tensor:
        """Share of each layer in each frame [n, L], from the used layers' states [n, D_l]."""
        raise NotImplementedError(f"{type(self).__name__} has no gates")

    def fit(self, states: Iterable[list[Tensor]]) -> int:
        """Learn without gradients from the training split: for each utterance the used layers' states
        [T, D_l]. Returns the number of frames seen."""
        raise NotImplementedError(f"{type(self).__name__} has nothing to fit")

    def gate_sums(self, hidden: HiddenStates) -> tuple[Tensor, int]:
        """Sum of the gates over a batch's real frames [L], fp64, and the number of frames."""
        used = self._check(hidden)
        with torch.no_grad(), no_autocast(used.states[0].device):
            states, lengths = self._aligned(used)
            real = real_frames(lengths, states[0].shape[1])
            frames = [state[real].to(sum_type(state.dtype)) for state in states]
            return self.gates(frames).double().sum(0), int(lengths.sum())

    def _check(self, hidden: HiddenStates) -> HiddenStates:
        """The used layers, after a look at their number and widths."""
        who = f"interface {self.name or type(self).__name__}"
        beyond = [layer for layer in hidden.layers if layer >= self.spec.num_layers]
        absent = [layer for layer in self.layers_used() if layer not in hidden.layers]
        if beyond or absent:
            raise ValueError(
                f"{who}: built for the {self.spec.num_layers} hidden states of {self.spec.name}, got "
                f"layers {list(hidden.layers)}; build it again for this upstream"
            )
        used = hidden.select(self.layers_used())
        for layer, state in zip(used.layers, used.states, strict=True):
            if state.shape[-1] != self.spec.dims[layer]:
                raise ValueError(
                    f"{who}: layer {layer} has width {state.shape[-1]}, the upstream "
                    f"{self.spec.name} declares {self.spec.dims[layer]}"
                )
        return used

    def _aligned(self, used: HiddenStates) -> tuple[list[Tensor], Tensor]:
        """States [B, T, D] normalised, of one width and one stride, and lengths [B]; the same tensors
        where nothing is to be done."""
        states = used.states
        if self.normalize:
            states = [nn.functional.layer_norm(state, state.shape[-1:]) for state in states]
        if self.projections:
            states = [self._projected(n, s) for n, s in zip(used.layers, states, strict=True)]
        if self._stride is None:
            return states, used.lengths
        strides = [self.spec.strides[layer] for layer in used.layers]
        reference = max(i for i, stride in enumerate(strides) if stride == self._stride)
        lengths, frames = used.layer_lengths[reference], states[reference].shape[1]
        states = [
            resample(state, own, stride / self._stride, lengths, frames)
            for state, own, stride in zip(states, used.layer_lengths, strides, strict=True)
        ]
        return states, lengths

    def _projected(self, layer: int, state: Tensor) -> Tensor:
        key = str(layer)
        if key not in self.projections:
            return state
        projection = self.projections[key]
        assert isinstance(projection, nn.Linear)
        projected: Tensor = projection(state.to(projection.weight.dtype))
        return projected.to(state.dtype)

    def require_equal_layers(self) -> None:
        """Raise ValueError unless all layers have one width and one stride."""
        if len(set(self.spec.dims)) > 1 or len(set(self.spec.strides)) > 1:
            raise ValueError(
                f"interface {self.name}: needs layers of one width and stride; {self.spec.name} has "
                f"widths {sorted(set(self.spec.dims))} and strides {sorted(set(self.spec.strides))}. "
                "Use --interface last or --interface layer:index=N, or call align_layers() in its "
                "__init__"
            )


class PassThrough(Interface):
    """The one hidden state of an upstream that has no more: there is nothing to choose from."""

    def __init__(self, spec: UpstreamSpec, name: str) -> None:
        super().__init__(spec)
        self.name = name  # type: ignore[misc]

    def combine(self, states: list[Tensor]) -> Tensor:
        """Return the only state."""
        return states[0]

    def layer_usage(self) -> list[float]:
        """All of it."""
        return [1.0]


def build_interface(
    build: Callable[..., Interface], spec: UpstreamSpec, options: Mapping[str, Any], flag: str
) -> Interface:
    """An interface for an upstream; for one with a single layer a `PassThrough`, unless it pools time.

    Raises UsageError, naming `flag`, for an option it does not take or a value that does not fit.
    """
    try:
        interface = build(spec, **options)
    except BenchError:
        raise
    except (TypeError, ValueError) as error:
        text = str(error).replace(f"{getattr(build, '__name__', '')}.__init__() ", "")
        raise UsageError(f"{flag}: {text}") from error
    if not isinstance(interface, Interface):
        raise UsageError(f"{flag}: {build} is no subclass of ssft_bench.interface.Interface")
    if spec.num_layers == 1 and not interface.pools_time:
        interface = PassThrough(spec, interface.name)
    interface.built_with = dict(options)
    return interface


def no_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """A block without autocast, which would take fp32 states down to bf16 and sums with them."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
