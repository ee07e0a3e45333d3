"""Which parameters of an upstream learn: by layer index and by module, never by counting."""

from __future__ import annotations

from dataclasses import dataclass

from ssft_bench import encoder
from ssft_bench.errors import UsageError
from ssft_bench.finetuning.adapters import add_adapters
from ssft_bench.finetuning.lora import add_lora
from ssft_bench.finetuning.spec import FineTuneSpec
from ssft_bench.upstream import Upstream


@dataclass(frozen=True)
class Learned:
    """Names of what learns, as in `expert.named_parameters()`."""

    encoder: tuple[str, ...]
    """Of the pretrained network, and what was put into it."""
    on_top: tuple[str, ...]
    """Of modules that the expert has on top of it (`always_trained`)."""


def choose(upstream: Upstream, spec: FineTuneSpec, seed: int) -> Learned:
    """Put LoRA or adapters in where they are asked for, and let exactly the chosen parameters learn.

    The convolutional stack learns with `train_convolutions` alone, prediction heads and whatever else no
    hidden state depends on never do. The embedding of masked frames does where all learns and frames are
    masked. Raises UsageError for an upstream in which there is nothing to choose.
    """
    expert = getattr(upstream, "expert", None)
    if expert is None:
        raise UsageError(
            f"--protocol finetuned takes one upstream, not several ({upstream.spec.name})"
        )
    if spec.train_convolutions:
        encoder.unfreeze_convolutions(upstream)
    else:
        encoder.freeze_convolutions(upstream)
    prefixes = tuple(getattr(expert, "always_trained", ()))
    on_top = [n for n, _ in expert.named_parameters() if prefixes and n.startswith(prefixes)]
    what = spec.learned
    if what.kind == "lora":
        chosen = add_lora(upstream, what, seed)
    elif what.kind == "adapter":
        chosen = add_adapters(upstream, what.width, seed)
    elif what.kind == "top":
        chosen = encoder.of_layers(upstream, what.layers, "finetune.trainable=top:")
    else:
        chosen = _all(upstream, spec)
    chosen = [n for n in chosen if n not in on_top]
    if not chosen:
        raise UsageError(
            f"--protocol finetuned: nothing of {upstream.spec.name} can learn, its hidden states depend on "
            "no parameter, or it keeps gradients out; use --protocol frozen"
        )
    wanted = {*chosen, *on_top}
    for name, parameter in expert.named_parameters():
        parameter.requires_grad_(name in wanted)
    return Learned(tuple(chosen), tuple(on_top))


def _all(upstream: Upstream, spec: FineTuneSpec) -> list[str]:
    found = encoder.participating(upstream)
    if not spec.train_convolutions:
        found = [n for n in found if not n.startswith(f"{encoder.CONVOLUTIONS}.")]
    if spec.time_mask_prob:
        names = [n for n, _ in upstream.expert.named_parameters()]
        found += [n for n in names if n in encoder.MASK_EMBEDDINGS and n not in found]
    return found
