"""Other upstreams: few layers, others than declared, unused ones, several widths and frame rates."""

from __future__ import annotations

import re

import torch

from ssft_bench.conformance.declared import wrong_shape
from ssft_bench.conformance.report import Finding, failed, noted, passed, skipped
from ssft_bench.conformance.subject import (
    EXACT,
    STRIDE,
    Shape,
    Subject,
    differentiate,
    gap,
    random_hidden,
    run,
)
from ssft_bench.errors import BenchError
from ssft_bench.hidden_states import HiddenStates
from ssft_bench.interface import Interface

WAY_OUT = re.compile(r"\b(use|instead|call|give|choose|must|needs?|at (least|most))\b", re.I)
"""What the message of a refusal says when it says what would work."""


def few_layers(subject: Subject) -> Finding:
    """Upstreams with one and with two hidden states work, or are refused in words."""
    told = []
    for layers in (1, 2):
        spec = Shape(layers, subject.small.dim).spec()
        with noted(f"{layers} hidden state{'s' * (layers > 1)}"):
            try:
                interface = subject.interface(spec)
            except (BenchError, ValueError) as error:
                if isinstance(error.__cause__, TypeError):
                    raise
                told.append(f"{layers} is refused: {error.__cause__ or error}")
                continue
            hidden = random_hidden(spec, [4, 2])
            features, lengths = run(interface, hidden)
        wrong = wrong_shape(interface, features, lengths, [4, 2])
        if wrong or not bool(features.isfinite().all()):
            return failed(f"{layers} hidden states: {wrong or 'a feature is not finite'}")
        kind = " passes through" if layers == 1 and not interface.pools_time else ""
        told.append(f"{layers}{kind or ' works'}")
    return passed("; ".join(told))


def wrong_input(subject: Subject) -> Finding:
    """Another number of layers or another width is a ValueError that names the interface."""
    shape = subject.small
    interface = subject.interface(shape.spec())
    last = max(interface.layers_used())
    cases = {
        f"{shape.layers + 1} layers": random_hidden(Shape(shape.layers + 1, shape.dim).spec(), [4]),
        f"width {shape.dim + 1}": random_hidden(Shape(shape.layers, shape.dim + 1).spec(), [4]),
    }
    if last:
        cases[f"{last} layers"] = random_hidden(Shape(last, shape.dim).spec(), [4])
    names = {name for name in (interface.name, type(interface).__name__) if name}
    for what, hidden in cases.items():
        built = f"built for {shape.layers} layers of {shape.dim}, given {what}"
        try:
            run(interface, hidden)
        except ValueError as error:
            if not any(name in str(error) for name in names):
                return failed(f"{built}: the ValueError names no interface: {error}")
        except Exception as error:
            return failed(f"{built}: {type(error).__name__} instead of ValueError: {error}")
        else:
            return failed(f"{built}: no error")
    return passed(f"a ValueError that names it, for {', '.join(cases)}")


def unused_layers(subject: Subject) -> Finding:
    """Layers that `layers_used` leaves out need not be there, and what they hold does not matter."""
    spec = subject.small.spec()
    interface, hidden = subject.interface(spec), random_hidden(spec, [5, 8])
    used = tuple(interface.layers_used())
    if (
        list(used) != sorted(set(used))
        or not used
        or not 0 <= used[0] <= used[-1] < spec.num_layers
    ):
        return failed(
            f"layers_used is {list(used)}: not indices of {spec.num_layers} layers, rising"
        )
    whole, _ = run(interface, hidden)
    with noted(f"with layers {list(used)} alone"):
        part, _ = run(interface, hidden.select(used))
    holding = [s if n in used else torch.full_like(s, float("nan"))
               for n, s in enumerate(hidden.states)]  # fmt: skip
    other, _ = run(interface, HiddenStates(holding, hidden.lengths))
    for got, how in ((part, "without the unused layers"), (other, "with NaN in the unused layers")):
        off = gap(got, whole)
        if not off <= EXACT:
            return failed(f"features differ by {off:.2g} {how} (bound {EXACT:g})")
    if len(used) == spec.num_layers:
        return passed(f"all {len(used)} are used")
    return passed(f"{list(used)} of {spec.num_layers} suffice")


def uneven_layers(subject: Subject) -> Finding:
    """Layers of several widths and frame rates work, or the error says what to use instead."""
    spec = subject.small.uneven_spec()
    try:
        interface = subject.interface(spec)
    except (BenchError, ValueError) as error:
        if isinstance(error.__cause__, TypeError):
            raise
        return _refused(subject, str(error.__cause__ or error))
    frames = [9, 4]
    interface.train()
    got = differentiate(interface, random_hidden(spec, frames))
    wrong = wrong_shape(interface, got.features, got.lengths, frames, STRIDE)
    if wrong:
        return failed(wrong)
    if not bool(got.features.isfinite().all()):
        return failed("a feature is not finite")
    deaf = [n for n in interface.layers_used() if not _moves(interface, spec_layer=n)]
    if deaf:
        return failed(f"layers {deaf} make no difference")
    widths, rates = sorted(set(spec.dims)), sorted(set(spec.strides))
    kind = "one vector" if interface.pools_time else f"{got.features.shape[1]} frames"
    return passed(f"widths {widths} and strides {rates} give {kind} of {got.features.shape[2]}")


def _moves(interface: Interface, spec_layer: int) -> bool:
    """Whether the features are others when one layer is."""
    interface.eval()
    before = random_hidden(interface.spec, [9, 4])
    states = list(before.states)
    states[spec_layer] = states[spec_layer].flip(-1) * 3.0
    after = HiddenStates(states, before.layer_lengths)
    return not torch.equal(run(interface, before)[0], run(interface, after)[0])


def _refused(subject: Subject, message: str) -> Finding:
    if WAY_OUT.search(message):
        return passed(f"refused, with a way out: {message}")
    if subject.options:
        return skipped(f"refused with these options: {message}")
    return failed(f"refused without a way out: {message}")
