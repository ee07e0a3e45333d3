"""What an interface says of itself: parameters, sizes, layer usage, what it fitted."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssft_bench.conformance.report import Finding, failed, passed, skipped
from ssft_bench.conformance.subject import (
    EXACT,
    STRIDE,
    Shape,
    Subject,
    fit_data,
    gap,
    random_hidden,
    run,
)
from ssft_bench.errors import BenchError
from ssft_bench.interface import Interface

GRID = (Shape(2, 12), Shape(7, 12), Shape(13, 768), Shape(25, 1024))
"""Where parameters are counted; the last two are the Base and Large models'."""
SUM_BOUND = 1e-4
"""How far shares may sum up to something else than 1: they are fp32."""


def parameters(subject: Subject) -> Finding:
    """`expected_parameters`, plus the projections of other widths, is what the module has."""
    counts: list[str] = []
    declared: int | None = None
    for shape in dict.fromkeys((*GRID, subject.small)):
        for spec in (shape.spec(), shape.uneven_spec()):
            try:
                interface = subject.unfilled(spec)
            except (BenchError, ValueError):
                continue  # what the options do not fit, or what it wants of layers: other checks
            total = sum(p.numel() for p in interface.parameters())
            projections = sum(p.numel() for p in interface.projections.parameters())
            declared = subject.build.expected_parameters(spec, **subject.options)
            if declared is not None and declared != total - projections:
                return failed(
                    f"{spec.name}: {total - projections:,} parameters beside the projections, "
                    f"expected_parameters says {declared:,}"
                )
            if spec == shape.spec():
                counts.append(f"{shape.layers} x {shape.dim}: {total:,}")
    said = "as declared" if declared is not None else "expected_parameters declares none"
    return passed(f"{said}; {', '.join(counts)}")


def output_size(subject: Subject) -> Finding:
    """`output_dim` and `output_stride` are those of the features; lengths are integers that fit."""
    told = ""
    for shape in dict.fromkeys((subject.small, subject.at_least(13, 96), *GRID[:1])):
        try:
            interface = subject.interface(shape.spec())
        except BenchError:
            continue
        frames = [4, 9, 1]
        features, lengths = run(interface, random_hidden(shape.spec(), frames))
        wrong = wrong_shape(interface, features, lengths, frames)
        if wrong:
            return failed(f"{shape.layers} x {shape.dim}: {wrong}")
        frame_options = interface.frame_options.items()
        if interface.pools_time and frame_options and frame_options <= subject.options.items():
            return failed(
                "it pools time even with its frame_options",
                "Name in frame_options what makes it give a vector per frame; pools_time is False then.",
            )
        kind = "one vector per utterance" if interface.pools_time else "frames"
        told = told or f"{shape.layers} x {shape.dim} gives {kind} of {features.shape[-1]}"
    return passed(told)


def wrong_shape(
    interface: Interface, features: Tensor, lengths: Tensor, frames: list[int], stride: int = STRIDE
) -> str:
    """What does not fit in the features of utterances of `frames` frames of `stride`; "" if all does.

    Where the output's stride does not divide an utterance, the last frame may be there or not.
    """
    if features.dim() != 3 or features.shape[0] != len(frames):
        return f"features are {list(features.shape)}, not [{len(frames)}, T, D]"
    if features.shape[2] != interface.output_dim:
        return f"features are {features.shape[2]} wide, output_dim says {interface.output_dim}"
    if lengths.shape != (len(frames),) or lengths.dtype != torch.int64:
        return f"lengths are {lengths.dtype} {list(lengths.shape)}, not int64 [{len(frames)}]"
    own = [f"{n}" for n in lengths.tolist()]
    if interface.pools_time:
        if features.shape[1] != 1 or lengths.tolist() != [int(n > 0) for n in frames]:
            return (
                f"pools_time: {features.shape[1]} frames, lengths {', '.join(own)}, not one vector"
            )
        return ""
    out = interface.output_stride
    for count, length in zip([max(frames, default=0), *frames],
                             [features.shape[1], *lengths.tolist()], strict=True):  # fmt: skip
        exact = count * stride / out
        if not math.floor(exact) <= length <= math.ceil(exact):
            return (
                f"{count} frames of {stride} samples became {length}; output_stride {out} means "
                f"{exact:g}"
            )
    if int(lengths.max() if len(frames) else 0) > features.shape[1]:
        return f"lengths {', '.join(own)} in {features.shape[1]} frames"
    return ""


def layer_usage(subject: Subject) -> Finding:
    """Shares are of every hidden state, not negative, sum to 1, and `usage_kind` says what they are."""
    spec = subject.at_least(7, 96).spec()
    interface = subject.interface(spec)
    usage = interface.layer_usage()
    if usage is None and not interface.has_gates:
        return skipped("layer_usage is None and there are no gates")
    if not interface.usage_kind.strip():
        return failed(
            "usage_kind is empty", "Say in a few words what the shares are: usage_kind = ..."
        )
    worst = 0.0
    shares: dict[str, Tensor] = {}
    if usage is not None:
        shares["layer_usage"] = torch.tensor(usage, dtype=torch.float64)
    if interface.has_gates:
        hidden = random_hidden(spec, [6, 3])
        used = hidden.select(interface.layers_used()).states
        frames = [state.flatten(0, 1) for state in used]
        with torch.no_grad():
            shares["gates"] = interface.gates(frames)
        total, count = interface.gate_sums(hidden)
        shares["gate_sums / frames"] = total / count
    for name, value in shares.items():
        if value.shape[-1] != spec.num_layers:
            return failed(
                f"{name} has {value.shape[-1]} shares for {spec.num_layers} hidden states"
            )
        if not bool((value >= 0).all()):
            return failed(f"{name} has a share of {float(value.min()):.3g}")
        off = float((value.double().sum(-1) - 1).abs().max())
        if not off <= SUM_BOUND:
            return failed(f"{name} sums to 1 but for {off:.2g} (bound {SUM_BOUND:g})")
        worst = max(worst, off)
    for name, row in interface.usage_details().items():
        if len(row) != spec.num_layers:
            return failed(f"usage_details '{name}' has {len(row)} numbers for {spec.num_layers}")
    return passed(f"{' and '.join(shares)}: sum is 1 within {worst:.1g} (bound {SUM_BOUND:g})")


def fit(subject: Subject) -> Finding:
    """`fit` takes what comes once, tells the frames it saw, and twice the same is the same."""
    spec = subject.small.spec()
    interface = subject.blank(spec)
    if not interface.needs_fit:
        return skipped("needs_fit is False: it learns by gradients alone, or not at all")
    frames = sum(len(item[-1]) for item in fit_data(interface))
    seen = interface.fit(fit_data(interface))
    if seen != frames:
        return failed(f"fit saw {frames} frames and returned {seen!r}")
    hidden = random_hidden(spec, [5])
    first = run(interface.eval(), hidden)[0]
    interface.fit(fit_data(interface))
    again = gap(run(interface, hidden)[0], first)
    if again > EXACT:
        return failed(
            f"fitting again on the same data moved features by {again:.2g} (bound {EXACT:g})"
        )
    return passed(f"returned the {seen} frames it saw; fitting again moved nothing ({again:.1g})")
