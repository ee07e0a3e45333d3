"""Gradients: they reach what is used, and they are the slopes."""

from __future__ import annotations

import torch
from torch import Tensor

from ssft_bench.conformance.report import Finding, failed, passed, skipped
from ssft_bench.conformance.subject import Subject, differentiate, draws, random_hidden, run
from ssft_bench.hidden_states import HiddenStates
from ssft_bench.interface import Interface

STEP = 1e-6
"""Half the distance of the central difference, in fp64."""
SLOPE = 1e-5
"""Largest error of a directional derivative, as a share of the gradient's norm."""
DIRECTIONS = 3
"""How many random directions are tried."""

Moves = dict[int | str, Tensor]
"""A direction or a gradient: of states by number, of parameters by name."""


def reach(subject: Subject) -> Finding:
    """A gradient reaches every parameter that learns and every used layer, and no other layer."""
    spec = subject.at_least(7, 96).spec()  # wide: one draw then chooses every layer somewhere
    interface = subject.interface(spec).train()
    got = differentiate(interface, random_hidden(spec, [5, 8, 3]))
    learned = got.by_parameter
    used = interface.layers_used()
    unreached = [name for name, grad in learned.items() if not _some(grad)]
    if unreached:
        return failed(
            f"no gradient reaches {', '.join(unreached)}",
            "Use it in the features, register it as a buffer, or set requires_grad to False.",
        )
    tensors = [grad for grad in (*learned.values(), *got.by_state) if grad is not None]
    if not all(bool(grad.isfinite().all()) for grad in tensors):
        return failed("a gradient is not finite")
    deaf = [layer for layer in used if not _some(got.by_state[layer])]
    if deaf:
        return failed(
            f"layers_used names {list(used)}, but no gradient reaches {deaf}",
            "Name in layers_used() only what matters: a run keeps all of it in memory.",
        )
    extra = [n for n, grad in enumerate(got.by_state) if n not in used and _some(grad)]
    if extra:
        return failed(f"layers_used names {list(used)}, but layers {extra} get a gradient, too")
    return passed(
        f"reaches all {len(learned)} parameter tensors and {len(used)} of {spec.num_layers} layers, "
        "those that layers_used names"
    )


def _some(grad: Tensor | None) -> bool:
    return grad is not None and bool((grad != 0).any())


def slopes(subject: Subject) -> Finding:
    """Gradients agree with finite differences, for the states and for the parameters, in fp64."""
    spec = subject.small.spec()
    single = subject.interface(spec)
    if draws(single, random_hidden(spec, [3, 5])):
        if single.framewise and not single.draws:
            return failed(
                "combine() is framewise and draws random numbers, but draws is False: the backward "
                "pass computes it again with others",
                "Set the class attribute draws = True.",
            )
        return skipped("it draws random numbers in training: a slope may be an estimate by design")
    interface = subject.interface(spec, torch.float64).train()
    hidden = random_hidden(spec, [3, 5], dtype=torch.float64)
    got = differentiate(interface, hidden)
    towards = torch.randn(got.features.shape, generator=torch.Generator().manual_seed(4)).double()
    groups: dict[str, Moves] = {
        "states": {n: g for n, g in enumerate(got.by_state) if g is not None},
        "parameters": {n: g for n, g in got.by_parameter.items() if g is not None},
    }
    worst = 0.0
    for number in range(DIRECTIONS):
        draw = torch.Generator().manual_seed(20 + number)
        for what, grads in groups.items():
            norm = sum(float(g.pow(2).sum()) for g in grads.values()) ** 0.5
            if not norm:
                continue
            move = {n: torch.randn(g.shape, generator=draw).to(g) for n, g in grads.items()}
            along = sum(float((g * move[n]).sum()) for n, g in grads.items())
            up, down = (_value(interface, hidden, move, s * STEP, towards) for s in (1, -1))
            slope = (up - down) / (2 * STEP)
            off = abs(slope - along) / norm
            if not off <= SLOPE:
                return failed(
                    f"derivative by the {what} is {along:.6g}, by finite differences {slope:.6g} "
                    f"({off:.2g} of the gradient's norm, bound {SLOPE:g})"
                )
            worst = max(worst, off)
    return passed(
        f"{DIRECTIONS} directions each of states and parameters: within {worst:.1g} of the "
        f"gradient's norm (bound {SLOPE:g})"
    )


def _value(
    interface: Interface, hidden: HiddenStates, move: Moves, step: float, towards: Tensor
) -> float:
    """<features, towards> with states (by number) or parameters (by name) moved by `step`."""
    parameters = dict(interface.named_parameters())
    with torch.no_grad():
        # Copies, so that one that writes to its input does not change the next call.
        states = [
            s + step * move[n] if n in move else s.clone() for n, s in enumerate(hidden.states)
        ]
        own = {name: p.clone() for name, p in parameters.items() if name in move}
        for name in own:
            parameters[name].add_(move[name], alpha=step)
        features, _ = run(interface, HiddenStates(states, hidden.lengths))
        for name, value in own.items():
            parameters[name].copy_(value)
    return float((features.double() * towards).sum())
