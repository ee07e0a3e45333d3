"""Batches and memory: what surrounds an utterance, and how its numbers lie, make no difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ssft_bench.conformance.declared import wrong_shape
from ssft_bench.conformance.report import Finding, failed, noted, passed
from ssft_bench.conformance.subject import (
    EXACT,
    Gradients,
    Subject,
    differentiate,
    draws,
    gap,
    random_hidden,
    run,
)
from ssft_bench.hidden_states import HiddenStates
from ssft_bench.interface import Interface

FRAMES = (4, 9, 2)
"""Utterances of the batch; the first and last are padded."""


def padding(subject: Subject) -> Finding:
    """A batch gives what each utterance alone gives, whatever its padding holds; so do gradients."""
    spec = subject.small.spec()
    interface = subject.interface(spec)
    worst = 0.0
    for fill in (1e3, float("nan")):
        batch = random_hidden(spec, FRAMES, fill=fill)
        features, lengths = run(interface, batch)
        for row, alone in enumerate(each(batch)):
            count = int(lengths[row])
            wanted, own_lengths = run(interface, alone)
            if count != int(own_lengths[0]):
                return failed(
                    f"an utterance has {count} frames in a batch, {int(own_lengths[0])} alone"
                )
            off = gap(features[row, :count], wanted[0, :count])
            if not off <= EXACT:
                return failed(
                    f"{off:.2g} between a batch with {fill:g} in its padding and an utterance alone "
                    f"(bound {EXACT:g})"
                )
            worst = max(worst, off)
            rest = features[row, count:]
            if not torch.equal(rest, torch.zeros_like(rest)):
                return failed(
                    f"padded frames of the output are not zero ({float(rest.abs().max()):.3g}) with "
                    f"{fill:g} in the padding",
                    "Set them to zero last, after biases and activations, with masked_fill: NaN times "
                    "0 is NaN. The base class does it for what combine() gives.",
                )
    off, where = _gradients(interface, random_hidden(spec, FRAMES, fill=1e3))
    if not off <= 10 * EXACT:
        return failed(f"{where}: {off:.2g} (bound {10 * EXACT:g})")
    return passed(
        f"batch against single utterances: features {worst:.1g} (bound {EXACT:g}), gradients "
        f"{off:.1g} (bound {10 * EXACT:g})"
    )


def each(batch: HiddenStates) -> Iterator[HiddenStates]:
    """The utterances of a batch, alone and without padding."""
    for row in range(batch.states[0].shape[0]):
        counts = [int(own[row]) for own in batch.layer_lengths]
        states = [s[row : row + 1, :n] for s, n in zip(batch.states, counts, strict=True)]
        yield HiddenStates(states, [torch.tensor([n]) for n in counts])


def _gradients(interface: Interface, batch: HiddenStates) -> tuple[float, str]:
    """Largest difference between a batch's gradients and those of its utterances, and where it is.

    In training, unless random numbers are drawn there: then no two calls see the same ones.
    """
    interface.train(not draws(interface, batch))
    shape = run(interface, batch)[0].shape
    direction = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    together = differentiate(interface, batch, direction)
    alone = [
        differentiate(interface, one, direction[row : row + 1, : int(together.lengths[row])])
        for row, one in enumerate(each(batch))
    ]
    worst, where = 0.0, "gradients agree"
    for name, own in together.by_parameter.items():
        parts = [one.by_parameter[name] for one in alone]
        given = [part for part in parts if part is not None]
        if own is None or not given:
            continue
        off = gap(own, torch.stack(given).sum(0), together.floor())
        if not off <= worst:
            worst, where = off, f"gradient of {name}, batch against single utterances"
    for layer, grad in enumerate(together.by_state):
        if grad is None:
            continue
        real = torch.arange(grad.shape[1]) < batch.layer_lengths[layer].unsqueeze(1)
        size = float(grad[~real].abs().max()) / max(1e-30, float(grad.abs().max()))
        if not size <= worst:
            worst, where = size, f"gradient at padded frames of layer {layer}"
    return worst, where


def time_major(subject: Subject) -> Finding:
    """[T, B, D] memory seen as [B, T, D], as s3prl gives it, is as good as contiguous memory."""
    return _layout(subject, lambda s: s.transpose(0, 1).contiguous().transpose(0, 1))


def sliced(subject: Subject) -> Finding:
    """Every second utterance, frame and dimension of a larger tensor is as good as a copy."""

    def spread(state: Tensor) -> Tensor:
        for dim in range(3):
            between = torch.full_like(state, 1e3)
            state = torch.stack([state, between], dim + 1).flatten(dim, dim + 1)
        return state[::2, ::2, ::2]

    return _layout(subject, spread)


def _layout(subject: Subject, layout: Callable[[Tensor], Tensor]) -> Finding:
    spec = subject.small.spec()
    interface = subject.interface(spec).train()
    hidden = random_hidden(spec, FRAMES)
    plain = differentiate(interface, hidden)
    viewed = differentiate(interface, hidden, layout=layout)
    off = gap(viewed.features, plain.features)
    if not off <= EXACT:
        return failed(
            f"features differ by {off:.2g} from those of a contiguous copy (bound {EXACT:g})"
        )
    by_gradient = max(_pairs(plain, viewed), default=0.0)
    if not by_gradient <= 10 * EXACT:
        return failed(
            f"gradients differ by {by_gradient:.2g} from those of a contiguous copy "
            f"(bound {10 * EXACT:g})"
        )
    return passed(
        f"features {off:.1g} (bound {EXACT:g}), gradients {by_gradient:.1g} (bound {10 * EXACT:g}) "
        "from a contiguous copy"
    )


def _pairs(plain: Gradients, viewed: Gradients) -> Iterator[float]:
    ours = [*viewed.by_state, *viewed.by_parameter.values()]
    theirs = [*plain.by_state, *plain.by_parameter.values()]
    for one, other in zip(ours, theirs, strict=True):
        if one is not None and other is not None:
            yield gap(one, other, plain.floor())
        elif one is not other:
            yield float("inf")


def few_frames(subject: Subject) -> Finding:
    """One frame, none, a batch with an empty utterance, and an empty batch; one frame trains, too."""
    spec = subject.small.spec()
    for frames in ([1], [3, 0], [0, 0], []):
        said = f"utterances of {frames} frames" if frames else "an empty batch"
        for training in (False, True):
            interface = subject.interface(spec).train(training)
            with noted(f"{said}, in {'training' if training else 'evaluation'}"):
                got = differentiate(interface, random_hidden(spec, frames))
            wrong = wrong_shape(interface, got.features, got.lengths, frames)
            tensors = [got.features, *got.by_state, *got.by_parameter.values()]
            if not wrong and not all(t is None or bool(t.isfinite().all()) for t in tensors):
                wrong = "a feature or gradient is not finite"
            if wrong:
                return failed(f"{said}: {wrong}")
    return passed("one frame, no frames, an empty utterance beside another, an empty batch")
