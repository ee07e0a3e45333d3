"""Other dropouts than those a model was pretrained with."""

from __future__ import annotations

from typing import Any

from torch import nn

from ssft_bench import encoder
from ssft_bench.errors import UsageError
from ssft_bench.upstream import Upstream

ACTIVATION = ("dropout2", "intermediate_dropout")
"""What the dropout inside a feed-forward part is called, in s3prl's and in transformers' layers."""


def set_dropout(upstream: Upstream, dropout: float | None, activation: float | None) -> None:
    """Set all dropouts outside the convolutional stack but the feed-forward parts' inner ones to
    `dropout`, and those to `activation`; None leaves them alone.

    Raises UsageError for a model whose layers are not s3prl's or transformers' transformer layers.
    """
    if dropout is None and activation is None:
        return
    known = [m for layer in encoder.layers(upstream) for m in _named(layer, ACTIVATION)]
    if len(known) != len(encoder.layers(upstream)):
        raise UsageError(
            f"finetune.dropout, finetune.activation_dropout: the layers of {upstream.spec.name} are not "
            "built as HuBERT's, wav2vec 2.0's or WavLM's; leave both null"
        )
    inner = {id(m) for m in known}
    model: nn.Module = encoder.part_of(upstream, "model")
    stack = encoder.part_of(upstream, encoder.CONVOLUTIONS)
    outside = {id(m) for m in stack.modules()} if isinstance(stack, nn.Module) else set()
    for module in model.modules():
        if id(module) in outside:
            continue
        if id(module) in inner:
            _set(module, "p", activation)
        elif "Dropout" in type(module).__name__:  # torch's and fairseq's
            _set(module, "p", dropout)
        else:  # some encoders and attentions keep theirs as a number
            _set(module, "dropout", dropout)


def _named(module: nn.Module, names: tuple[str, ...]) -> list[nn.Module]:
    """Modules anywhere inside, by the last part of their name."""
    return [m for name, m in module.named_modules() if name.rpartition(".")[2] in names]


def _set(module: Any, key: str, value: float | None) -> None:
    if value is not None and isinstance(getattr(module, key, None), float | int):
        setattr(module, key, float(value))
