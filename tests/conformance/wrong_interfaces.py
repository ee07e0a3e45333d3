"""Interfaces with one deliberate mistake each: the check of that mistake must fail, and no other.

`Right` makes none. What the others do to it is what authors really do: the mistakes of the released
code, of s3prl plug-ins, and of first drafts.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench.hidden_states import HiddenStates, UpstreamSpec
from ssft_bench.interface import Interface


class Right(Interface):
    """A weighted sum, plainly written."""

    name = "right"
    usage_kind = "softmax weight"

    def __init__(self, spec: UpstreamSpec) -> None:
        super().__init__(spec)
        self.align_layers()
        self.weights = nn.Parameter(torch.zeros(spec.num_layers))

    def combine(self, states: list[Tensor]) -> Tensor:
        shares = self.weights.softmax(0)
        return sum(
            (w * s for w, s in zip(shares, states, strict=True)), torch.zeros_like(states[0])
        )

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int | None:
        return spec.num_layers

    def layer_usage(self) -> list[float] | None:
        return self.weights.softmax(0).tolist()


class Undeclared(Right):
    """Right, for those that add parameters."""

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int | None:
        return None


class Miscounts(Right):
    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int | None:
        return spec.num_layers + 1


class ForgetsTheProjections(Right):
    """Counts what is on top."""

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int | None:
        other = [dim for dim in spec.dims if dim != spec.dims[-1]]
        return spec.num_layers + sum(dim * spec.dims[-1] + spec.dims[-1] for dim in other)


class WrongWidth(Right):
    def __init__(self, spec: UpstreamSpec) -> None:
        super().__init__(spec)
        self.output_dim = min(spec.dims[-1], 64)


class HalvesTime(Right):
    """Gives half the frames and does not say so."""

    def forward(self, hidden: HiddenStates) -> tuple[Tensor, Tensor]:
        features, lengths = super().forward(hidden)
        return (
            (features[:, ::2], (lengths + 1) // 2)
            if features.shape[-1] > 90
            else (features, lengths)
        )


class ReadsPadding(Right):
    def combine(self, states: list[Tensor]) -> Tensor:
        z = super().combine(states)
        return z - z.mean(1, keepdim=True)


class MultipliesByTheMask(Right):
    """NaN times 0 is NaN."""

    def mix_layers(self, states: list[Tensor], lengths: Tensor) -> Tensor:
        frames = torch.arange(states[0].shape[1])
        mask = (frames < lengths.unsqueeze(1)).unsqueeze(-1)
        z = self.combine([s.float() if s.dtype.itemsize < 4 else s for s in states])
        return (z * mask).to(states[0].dtype)


class LeavesPadding(Right):
    """A bias after the mask."""

    def mix_layers(self, states: list[Tensor], lengths: Tensor) -> Tensor:
        return super().mix_layers(states, lengths) + 1


class BatchNorm(Undeclared):
    """Statistics of the batch, padding included, and none of a single frame."""

    def __init__(self, spec: UpstreamSpec) -> None:
        super().__init__(spec)
        self.norm = nn.BatchNorm1d(self.output_dim)

    def combine(self, states: list[Tensor]) -> Tensor:
        z = super().combine(states)
        return self.norm(z.transpose(1, 2)).transpose(1, 2) if z.numel() else z


def dense(state: Tensor) -> Tensor:
    """The memory read as if it were contiguous."""
    return state.as_strided(state.shape, torch.empty(state.shape, device="meta").stride())


class TrustsTheOrderOfMemory(Right):
    def combine(self, states: list[Tensor]) -> Tensor:
        return super().combine([dense(s) if s.stride(-1) == 1 else s for s in states])


class ViewsSlices(Right):
    def combine(self, states: list[Tensor]) -> Tensor:
        return super().combine([s.view(-1).view_as(s) if s.stride(-1) > 1 else s for s in states])


class Views(Right):
    """As the authors' package."""

    def combine(self, states: list[Tensor]) -> Tensor:
        flat = super().combine([s.view(-1, s.shape[-1]) for s in states])
        return flat.view(states[0].shape)


class SumsInHalfPrecision(Right):
    def mix_layers(self, states: list[Tensor], lengths: Tensor) -> Tensor:
        z = torch.zeros_like(states[0])
        for share, state in zip(self.weights.softmax(0).to(z.dtype), states, strict=True):
            z = z + share * state
        padded = torch.arange(z.shape[1]) >= lengths.unsqueeze(1)
        return z.masked_fill(padded.unsqueeze(-1), 0.0)


class WidensHalfPrecision(Right):
    def mix_layers(self, states: list[Tensor], lengths: Tensor) -> Tensor:
        wide = [s.float() if s.dtype.itemsize < 4 else s for s in states]
        return super().mix_layers(wide, lengths)


class ObeysAutocast(Undeclared):
    def __init__(self, spec: UpstreamSpec) -> None:
        super().__init__(spec)
        self.linear = nn.Linear(self.output_dim, self.output_dim, bias=False)

    def combine(self, states: list[Tensor]) -> Tensor:
        projected: Tensor = self.linear(super().combine(states))
        return projected

    def forward(self, hidden: HiddenStates) -> tuple[Tensor, Tensor]:
        states, lengths = self._aligned(self._check(hidden))
        return self.mix_layers(states, lengths), self.output_lengths(lengths)


class UnusedParameter(Undeclared):
    def __init__(self, spec: UpstreamSpec) -> None:
        super().__init__(spec)
        self.spare = nn.Parameter(torch.ones(3))


class UsesFewerThanItSays(Right):
    """Keeps the first layer in memory for nothing."""

    def combine(self, states: list[Tensor]) -> Tensor:
        return super().combine([torch.zeros_like(states[0]), *states[1:]])


class Detaches(Right):
    """The first layer counts, but learns nothing."""

    def combine(self, states: list[Tensor]) -> Tensor:
        return super().combine([states[0].detach(), *states[1:]])


class _Steeper(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return 1.01 * grads[0]


class WrongBackward(Right):
    def combine(self, states: list[Tensor]) -> Tensor:
        z: Tensor = _Steeper.apply(super().combine(states))
        return z


class AlwaysSingle(Right):
    """fp32 inside, whatever comes."""

    def combine(self, states: list[Tensor]) -> Tensor:
        return super().combine([s.float() for s in states])


class DrawsInSecret(Right):
    """The backward pass draws another dropout than the forward pass had."""

    framewise = True

    def combine(self, states: list[Tensor]) -> Tensor:
        return nn.functional.dropout(super().combine(states), 0.3, self.training)


class DrawsInEvaluation(Right):
    def combine(self, states: list[Tensor]) -> Tensor:
        return super().combine(states) + 1e-7 * torch.randn_like(states[0])


class DrawsElsewhere(Right):
    """From a generator that no seed of ours reaches."""

    def combine(self, states: list[Tensor]) -> Tensor:
        return super().combine(states) + 1e-6 * self.training * random.random()


class OverwritesFrozenStates(Right):
    """Saves memory while nothing is differentiated."""

    def combine(self, states: list[Tensor]) -> Tensor:
        first = states[0].relu() if states[0].requires_grad else states[0].relu_()
        return super().combine([first, *states[1:]])


class CleansPadding(Right):
    def mix_layers(self, states: list[Tensor], lengths: Tensor) -> Tensor:
        padded = torch.arange(states[0].shape[1]) >= lengths.unsqueeze(1)
        for state in states:
            state.data[padded] = 0.0
        return super().mix_layers(states, lengths)


class ShortensTheList(Right):
    def forward(self, hidden: HiddenStates) -> tuple[Tensor, Tensor]:
        answer = super().forward(hidden)
        hidden.states.clear()
        return answer


class ForgetsABuffer(Right):
    def __init__(self, spec: UpstreamSpec) -> None:
        super().__init__(spec)
        self.register_buffer("shift", torch.randn(self.output_dim), persistent=False)

    def combine(self, states: list[Tensor]) -> Tensor:
        return super().combine(states) + self.get_buffer("shift")


class FrozenParameter(Undeclared):
    """A fixed random direction as a parameter: a run does not save it."""

    def __init__(self, spec: UpstreamSpec) -> None:
        super().__init__(spec)
        self.shift = nn.Parameter(torch.randn(self.output_dim), requires_grad=False)

    def combine(self, states: list[Tensor]) -> Tensor:
        return super().combine(states) + self.shift


class SavesAWord(Right):
    def get_extra_state(self) -> dict[str, str]:
        return {"note": "no tensor"}

    def set_extra_state(self, state: object) -> None:
        pass


class NeedsAFrame(Right):
    def combine(self, states: list[Tensor]) -> Tensor:
        return super().combine(states) + 0 * states[0][:, 0].unsqueeze(1)


class Exits(Right):
    """As the authors' package for a case that it does not like."""

    def combine(self, states: list[Tensor]) -> Tensor:
        if not states[0].numel():
            raise SystemExit(1)
        return super().combine(states)


class DividesByLayers(Right):
    """By L - 1."""

    def __init__(self, spec: UpstreamSpec) -> None:
        super().__init__(spec)
        self.step = 1 / (spec.num_layers - 1)


class ChecksNothing(Right):
    """Takes what fits."""

    def forward(self, hidden: HiddenStates) -> tuple[Tensor, Tensor]:
        places = [min(n, len(hidden) - 1) for n in range(self.spec.num_layers)]
        states = [hidden.states[p][..., : self.spec.dims[n]] for n, p in enumerate(places)]
        return super().forward(HiddenStates(states, [hidden.layer_lengths[p] for p in places]))


class ComplainsNamelessly(Right):
    def forward(self, hidden: HiddenStates) -> tuple[Tensor, Tensor]:
        try:
            return super().forward(hidden)
        except ValueError:
            raise ValueError("wrong input") from None


class ComplainsAsRuntime(Right):
    def forward(self, hidden: HiddenStates) -> tuple[Tensor, Tensor]:
        try:
            return super().forward(hidden)
        except ValueError as error:
            raise RuntimeError(str(error)) from None


class TakesByPlace(Right):
    """Uses every second layer, and looks for them where all are given."""

    def __init__(self, spec: UpstreamSpec) -> None:
        super().__init__(spec)
        self.require_equal_layers()
        self.weights = nn.Parameter(torch.zeros(len(self.layers_used())))

    def layers_used(self) -> tuple[int, ...]:
        return tuple(range(self.spec.num_layers))[1::2] or (0,)

    def forward(self, hidden: HiddenStates) -> tuple[Tensor, Tensor]:
        self._check(hidden)
        states = [hidden.states[layer] for layer in self.layers_used()]
        with torch.autocast("cpu", enabled=False):
            return self.mix_layers(states, hidden.lengths), hidden.lengths

    @classmethod
    def expected_parameters(cls, spec: UpstreamSpec, **options: Any) -> int | None:
        return None

    def layer_usage(self) -> list[float] | None:
        return None


class PeeksAtOthers(TakesByPlace):
    """A layer that it does not name changes the features."""

    def forward(self, hidden: HiddenStates) -> tuple[Tensor, Tensor]:
        features, lengths = Interface.forward(self, hidden)
        if 0 not in hidden.layers:
            return features, lengths
        real = torch.arange(features.shape[1]) < lengths.unsqueeze(1)
        peek = hidden.states[0].masked_fill(~real.unsqueeze(-1), 0.0)
        return features + peek.to(features.dtype), lengths


class NeverAligned(Right):
    def align_layers(self, widths: bool = True) -> None:
        pass


class RefusesCurtly(Right):
    def __init__(self, spec: UpstreamSpec) -> None:
        super().__init__(spec)
        if len(set(spec.dims)) > 1:
            raise ValueError("no")


class UsageOfTwo(Right):
    def layer_usage(self) -> list[float] | None:
        return [2 * share for share in self.weights.softmax(0).tolist()]


class UsageWithoutTheLast(Right):
    def layer_usage(self) -> list[float] | None:
        return self.weights[:-1].softmax(0).tolist()


class UsageWithoutWords(Right):
    usage_kind = ""


class NegativeGates(Right):
    has_gates = True

    def gates(self, states: list[Tensor]) -> Tensor:
        rows = torch.zeros(len(states[0]), self.spec.num_layers)
        rows[:, 0], rows[:, 1] = 2.0, -1.0
        return rows


class _Fitted(Right):
    """Takes the mean of what it saw away."""

    needs_fit = True

    def __init__(self, spec: UpstreamSpec) -> None:
        super().__init__(spec)
        self.register_buffer("mean", torch.zeros(self.output_dim))
        self.mean: Tensor

    def fit(self, states: Any) -> int:
        total, frames = torch.zeros_like(self.mean), 0
        for item in states:
            total, frames = total + item[-1].sum(0), frames + len(item[-1])
        self.mean.copy_(total / frames)
        return frames

    def combine(self, states: list[Tensor]) -> Tensor:
        return super().combine(states) - self.mean


class RightFit(_Fitted):
    """No mistake."""


class FitCountsUtterances(_Fitted):
    def fit(self, states: Any) -> int:
        items = list(states)
        super().fit(items)
        return len(items)


class FitGoesOn(_Fitted):
    """Starts from what it knew."""

    def fit(self, states: Any) -> int:
        before = self.mean.clone()
        frames = super().fit(states)
        self.mean += before
        return frames


class _Hoard(torch.autograd.Function):
    """Copies on the context itself, where hooks on saved tensors do not see them."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, *states: Tensor) -> Tensor:
        ctx.copies = [s.clone() for _ in range(7) for s in states]
        return z.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0], *([None] * (len(ctx.copies) // 7))


class Hoards(Right):
    def combine(self, states: list[Tensor]) -> Tensor:
        z: Tensor = _Hoard.apply(super().combine(states), *[s.detach() for s in states])
        return z


class WorksWithCopies(Right):
    """Keeps little, but needs much at once."""

    def combine(self, states: list[Tensor]) -> Tensor:
        with torch.no_grad():
            copies = [s.clone() for _ in range(13) for s in states]
        del copies
        return super().combine(states)


class OtherWhenCompiled(Right):
    def forward(self, hidden: HiddenStates) -> tuple[Tensor, Tensor]:
        features, lengths = super().forward(hidden)
        return (features * 1.5 if torch.compiler.is_compiling() else features), lengths


class Crashes(Right):
    def combine(self, states: list[Tensor]) -> Tensor:
        raise RuntimeError("no such luck\nsecond line")


class CannotBeBuilt(Right):
    def __init__(self, spec: UpstreamSpec) -> None:
        raise RuntimeError("no such luck")


class GivesFeaturesAlone(Right):
    def forward(self, hidden: HiddenStates) -> Any:
        return super().forward(hidden)[0]


class RightPool(Right):
    """The mean over time; with a window, every frame as it is. No mistake."""

    frame_options = {"window": 3}  # noqa: RUF012

    def __init__(self, spec: UpstreamSpec, window: int | None = None) -> None:
        super().__init__(spec)
        self.pools_time = window is None  # type: ignore[misc]

    def mix_layers(self, states: list[Tensor], lengths: Tensor) -> Tensor:
        if not self.pools_time:
            return super().mix_layers(states, lengths)
        frames = torch.arange(states[0].shape[1])
        padded = (frames >= lengths.unsqueeze(1)).unsqueeze(-1)
        kind = torch.promote_types(states[0].dtype, torch.float32)
        z = self.combine([s.to(kind).masked_fill(padded, 0.0) for s in states])
        mean = z.sum(1, keepdim=True) / lengths.clamp_min(1).view(-1, 1, 1)
        return mean.to(states[0].dtype)


class PoolsAnyway(RightPool):
    def __init__(self, spec: UpstreamSpec, window: int | None = None) -> None:
        super().__init__(spec)


class PoolsPadding(RightPool):
    """Divides by the frames of the batch."""

    def mix_layers(self, states: list[Tensor], lengths: Tensor) -> Tensor:
        mean = super().mix_layers(states, lengths)
        if not self.pools_time:
            return mean
        return mean * (lengths / max(1, states[0].shape[1])).view(-1, 1, 1).to(mean.dtype)
