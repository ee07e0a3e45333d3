"""Types and repetition: half precision, autocast, determinism, saving, torch.compile."""

from __future__ import annotations

import logging

import torch
from safetensors.torch import load, save
from torch import Tensor

from ssft_bench.conformance.report import Finding, failed, noted, passed, skipped
from ssft_bench.conformance.subject import (
    EXACT,
    Subject,
    differentiate,
    draws,
    gap,
    outputs,
    random_hidden,
    run,
)
from ssft_bench.hidden_states import HiddenStates

ROUNDINGS = 3.0
"""Largest error under bf16 and fp16, in roundings of the result (root mean square). A product with
weights in that type costs two; a sum over 25 layers kept in that type costs about four."""


def half_precision(subject: Subject) -> Finding:
    """bf16 and fp16 states give features of their type, summed in fp32; autocast changes nothing."""
    spec = subject.at_least(25, 96).spec()
    interface = subject.interface(spec)
    exact = random_hidden(spec, [40, 25])
    errors = {}
    for dtype, name in ((torch.bfloat16, "bf16"), (torch.float16, "fp16")):
        low = exact.to("cpu", dtype)
        with noted(f"{name} states"):
            features, _ = run(interface, low)
        if features.dtype != dtype:
            return failed(f"{name} states give {features.dtype} features")
        wanted, _ = run(interface, low.to("cpu", torch.float32))
        rounding = _rms(wanted.to(dtype).float() - wanted)
        errors[name] = _rms(features.float() - wanted) / max(rounding, 1e-30) if rounding else 0.0
        if not errors[name] <= ROUNDINGS:
            return failed(
                f"{name}: off by {errors[name]:.1f} roundings of the result (bound {ROUNDINGS:g})"
            )
    plain, _ = run(interface, exact)
    with torch.autocast("cpu", torch.bfloat16), noted("under autocast"):
        inside, _ = run(interface, exact)
    if inside.dtype != torch.float32 or not gap(inside, plain) <= EXACT:
        return failed(
            f"under autocast fp32 states give {inside.dtype} features, {gap(inside, plain):.2g} "
            f"from those outside (bound {EXACT:g})",
            "Leave forward() to the base class, which switches autocast off, or do as it does.",
        )
    told = ", ".join(f"{name} off by {value:.1f} roundings" for name, value in errors.items())
    return passed(f"{told} of the result (bound {ROUNDINGS:g}); the same under autocast")


def _rms(error: Tensor) -> float:
    return float(error.detach().double().pow(2).mean().sqrt())


def determinism(subject: Subject) -> Finding:
    """Evaluation twice gives the same bits; so does training, features and gradients, with one seed."""
    spec = subject.small.spec()
    interface, hidden = subject.interface(spec), random_hidden(spec, [5, 8])
    torch.manual_seed(11)
    first = outputs(interface(hidden))[0]
    second = outputs(interface(hidden))[0]  # not seeded again: nothing may be drawn
    if not torch.equal(first, second):
        return failed(
            f"two evaluations differ by {gap(second, first):.2g} (bound 0)",
            "Draw random numbers only while self.training, and keep nothing from call to call.",
        )
    interface.train()
    one, other = (differentiate(interface, hidden) for _ in range(2))
    if not torch.equal(one.features, other.features):
        return failed(
            f"two training passes with one seed differ by {gap(other.features, one.features):.2g}"
        )
    for name, grad in one.by_parameter.items():
        again = other.by_parameter[name]
        if grad is not None and (again is None or not torch.equal(grad, again)):
            return failed(f"the gradient of {name} is another with the same seed")
    drawn = "draws in training" if draws(interface, hidden) else "draws nothing"
    return passed(f"bit-equal in evaluation and in training with one seed; {drawn}")


def inputs_unchanged(subject: Subject) -> Finding:
    """Neither forward nor backward writes to the states, the lengths or the list of states."""
    spec = subject.small.spec()
    interface = subject.interface(spec)
    for frames in ([6], [5, 8]):  # one utterance may be seen as a view, two are gathered
        for training in (False, True):
            interface.train(training)
            wanted = random_hidden(spec, frames, fill=7.0)
            leaves = [s.clone().requires_grad_() for s in wanted.states]
            for states in ([s.clone() for s in wanted.states], [leaf * 1.0 for leaf in leaves]):
                hidden = HiddenStates(list(states), wanted.lengths.clone())
                features, _ = run(interface, hidden)
                if features.requires_grad:
                    features.sum().backward()
                same_list = len(hidden.states) == len(states) and all(
                    one is other for one, other in zip(hidden.states, states, strict=True)
                )
                if not same_list or not torch.equal(hidden.lengths, wanted.lengths):
                    return failed("the list of states or the lengths are others after the call")
                for layer, (state, before) in enumerate(zip(states, wanted.states, strict=True)):
                    if not torch.equal(state, before):
                        return failed(
                            f"layer {layer} was changed in place by {gap(state, before):.2g}"
                        )
    return passed("states and lengths are what they were, after forward and backward")


def save_and_load(subject: Subject) -> Finding:
    """What a run keeps, loaded into an interface built anew, gives the same bits."""
    spec = subject.small.spec()
    interface, hidden = subject.interface(spec), random_hidden(spec, [5, 8])
    before, _ = run(interface, hidden)
    state = interface.state_dict()
    odd = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if odd:
        return failed(
            f"state_dict holds {', '.join(odd)}: no tensors, which safetensors cannot keep"
        )
    frozen = {name for name, p in interface.named_parameters() if not p.requires_grad}
    kept = {key: value.detach().clone() for key, value in state.items() if key not in frozen}
    other = subject.blank(spec, seed=2).eval()
    other.load_state_dict(load(save(kept)), strict=False)
    after, _ = run(other, hidden)
    if not torch.equal(before, after):
        lost = f"; not saved: {', '.join(sorted(frozen))}" if frozen else ""
        return failed(f"features differ by {gap(after, before):.2g} after loading (bound 0){lost}")
    size = sum(value.numel() * value.element_size() for value in kept.values())
    return passed(f"bit-equal after {len(kept)} tensors ({size:,} bytes) were saved and loaded")


def compiles(subject: Subject) -> Finding:
    """torch.compile(backend="eager") gives the same numbers."""
    from torch._dynamo.eval_frame import is_dynamo_supported
    from torch._dynamo.exc import TorchDynamoException

    if not is_dynamo_supported():
        return skipped("torch.compile does not work on this platform or Python")
    spec = subject.small.spec()
    interface, hidden = subject.interface(spec), random_hidden(spec, [5, 8])
    plain, _ = run(interface, hidden)
    torch.compiler.reset()
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # graph breaks are no mistake
    try:
        compiled = torch.compile(interface, backend="eager")
        torch.manual_seed(0)
        features, _ = outputs(compiled(hidden))
    except TorchDynamoException as error:
        return skipped(
            f"torch.compile gave up: {type(error).__name__}: {str(error).splitlines()[0]}"
        )
    finally:
        logging.disable(disabled)
        torch.compiler.reset()
    off = gap(features, plain)
    if not off <= EXACT:
        return failed(f"features differ by {off:.2g} when compiled (bound {EXACT:g})")
    return passed(f"features differ by {off:.1g} (bound {EXACT:g}), backend eager")
