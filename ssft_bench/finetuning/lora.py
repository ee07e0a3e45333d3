"""LoRA beside the matrices of an encoder's layers (Hu et al. 2022, "LoRA"), through `peft`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench import encoder
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.finetuning.spec import Trainable
from ssft_bench.seeds import seed_for
from ssft_bench.upstream import Upstream

NAMES = {
    "q": ("q_proj", "linear_q", "query"),
    "k": ("k_proj", "linear_k", "key"),
    "v": ("v_proj", "linear_v", "value"),
    "out": ("out_proj", "linear_out"),
    "fc1": ("fc1", "intermediate_dense"),
    "fc2": ("fc2", "output_dense"),
}
"""What the matrices are called in s3prl's, ESPnet's and transformers' layers."""
FUSED = ("qkv", "qkv_proj", "in_proj", "query_key_value")
"""One matrix for queries, keys and values."""


def add_lora(upstream: Upstream, what: Trainable, seed: int) -> list[str]:
    """Put LoRA into every layer of the encoder; names of the new parameters, as the expert has them.

    B starts at 0, so nothing changes until it learns; A is drawn from the run's seed. Raises
    MissingError when `peft` is not installed, UsageError for layers without the matrices asked for.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingError(
            "finetune.trainable=lora needs the package peft: pip install 'ssft-bench[lora]'"
        ) from error
    targets = [
        f"{index}.{name}"
        for index, layer in enumerate(encoder.layers(upstream))
        for name in _matrices(layer, what.targets, upstream.spec.name)
    ]
    alpha: Any = what.alpha  # peft calls it int, and divides it
    config = LoraConfig(r=what.rank, lora_alpha=alpha, target_modules=targets)
    config._register_custom_module({nn.Linear: _visible_linear()})
    before = {id(p) for p in upstream.expert.parameters()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "lora"))
        inject_adapter_in_model(config, encoder.layers(upstream))
    return [n for n, p in upstream.expert.named_parameters() if id(p) not in before]


def _matrices(layer: nn.Module, targets: tuple[str, ...], name: str) -> list[str]:
    """Paths of the linear modules inside a layer that LoRA goes beside."""
    linear = [path for path, m in layer.named_modules() if isinstance(m, nn.Linear)]
    last = {path: path.rpartition(".")[2] for path in linear}
    if any(isinstance(m, nn.MultiheadAttention) for m in layer.modules()):
        # Its fast path reads the tensors without asking the module, so LoRA would be left out unseen.
        raise UsageError(
            f"finetune.trainable=lora: the layers of {name} have torch's nn.MultiheadAttention, whose "
            "matrices cannot be reached; use top:K"
        )
    fused = [path for path in linear if last[path] in FUSED]
    if fused and set(targets) & {"q", "k", "v"}:
        if not {"q", "k", "v"} <= set(targets):
            raise UsageError(
                f"finetune.trainable=lora: {name} has queries, keys and values in one matrix; say "
                "targets=q+k+v"
            )
        targets = tuple(t for t in targets if t not in "qkv")
    else:
        fused = []
    found = list(fused)
    for target in targets:
        own = [path for path in linear if last[path] in NAMES[target]]
        if not own:
            raise UsageError(
                f"finetune.trainable=lora: target {target}: the layers of {name} have no "
                f"{' or '.join(NAMES[target])}, but {', '.join(sorted(set(last.values())))}"
            )
        found += own
    return found


def _visible_linear() -> Any:
    """peft's LoRA beside a linear module, whose `weight` is the sum.

    s3prl's attentions and transformers' WavLM do not call their projections: they hand
    `q_proj.weight` to `multi_head_attention_forward`. peft shows the frozen matrix there, and LoRA would
    neither act nor learn.
    """
    from peft.tuners.lora.layer import Linear

    peft_linear: Any = Linear

    class VisibleLinear(peft_linear):  # type: ignore[misc]
        @property
        def weight(self) -> Tensor:
            weight: Tensor = self.base_layer.weight
            for adapter in () if self.merged or self.disable_adapters else self.active_adapters:
                weight = weight + self.get_delta_weight(adapter)
            return weight

    return VisibleLinear
