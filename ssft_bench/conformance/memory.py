"""What an interface costs in memory, as a multiple of the hidden states it is given.

Every allocation of torch's CPU allocator is counted by the profiler: what is kept on a context, a module
or in a closure is seen as well as what is saved for the backward pass. Nothing depends on timing.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from itertools import accumulate
from typing import TypeVar

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from ssft_bench.conformance.report import Finding, failed, passed
from ssft_bench.conformance.subject import Subject, random_hidden, run
from ssft_bench.hidden_states import HiddenStates
from ssft_bench.interface import Interface

FRAMES = (1024, 1000, 960, 900)
"""Utterances of the batch: 20 s each at 20 ms a frame; many times a block of the kernels."""
KEPT_BOUND = 6.0
"""Largest multiple kept for the backward pass; attention over the layers, kept whole, takes 13."""
PEAK_BOUND = 12.0
"""Largest multiple allocated at once; the authors' HConv takes 4 to 7, kept attention 24."""

T = TypeVar("T")


def memory(subject: Subject) -> Finding:
    """Bytes kept for the backward pass and allocated at most, over the bytes of the hidden states."""
    shape = subject.at_least(13, 384)
    spec = shape.spec()
    interface = subject.interface(spec).train()
    _forward_backward(interface, random_hidden(spec, [2]))  # what is made once is made now
    interface.zero_grad(set_to_none=True)
    kept, frozen = measure(lambda hidden: run(interface, hidden)[0], random_hidden(spec, FRAMES))
    hidden = random_hidden(spec, FRAMES)
    for state in hidden.states:
        state.requires_grad_()
    interface.zero_grad(set_to_none=True)
    _, tuned = measure(lambda hidden: run(interface, hidden)[0], hidden)
    told = (
        f"kept for the backward pass {kept:.2f}x the hidden states (bound {KEPT_BOUND:g}x), peak "
        f"{frozen:.2f}x frozen and {tuned:.2f}x fine-tuned (bound {PEAK_BOUND:g}x); {shape.layers} x "
        f"{shape.dim}, {sum(FRAMES):,} frames"
    )
    within = kept <= KEPT_BOUND and max(frozen, tuned) <= PEAK_BOUND
    return (passed if within else failed)(told, kept=kept, peak_frozen=frozen, peak_tuned=tuned)


def measure(
    features_of: Callable[[HiddenStates], Tensor], hidden: HiddenStates
) -> tuple[float, float]:
    """Multiples of the states' bytes: kept after forward beyond the features; peak of forward and
    backward beyond the states and the parameters (features and gradients are part of it).

    Parameters and states must have no gradients yet.
    """
    size = sum(state.numel() * state.element_size() for state in hidden.states)
    features, forward = allocations(lambda: features_of(hidden))
    given = {state.untyped_storage().data_ptr() for state in hidden.states}
    own = features.untyped_storage().data_ptr() not in given
    kept = forward[-1] - features.numel() * features.element_size() * own
    peak = max(forward)
    if features.requires_grad:
        _, backward = allocations(lambda: features.backward(torch.ones_like(features)))
        peak = max(peak, forward[-1] + max(backward))
    return max(0, kept) / size, peak / size


def allocations(work: Callable[[], T]) -> tuple[T, list[int]]:
    """What `work` returns, and the bytes it has allocated and not freed after each step (0 first)."""
    # The profiler's library reports on itself and on absent GPUs otherwise.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = work()
    recorder = profiler.profiler
    assert recorder is not None
    assert recorder.kineto_results is not None
    events = [e for e in recorder.kineto_results.events() if e.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return result, list(accumulate((event.nbytes() for event in events), initial=0))


def _forward_backward(interface: Interface, hidden: HiddenStates) -> Tensor:
    features, _ = run(interface, hidden)
    if features.requires_grad:
        features.sum().backward()
    return features
