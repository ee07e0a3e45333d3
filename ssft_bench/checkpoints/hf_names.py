"""Names and settings of one network in s3prl (fairseq's names) and in transformers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from ssft_bench.checkpoints.architecture import (
    convolutions,
    family,
    is_head,
    model_config,
    normalizes,
)
from ssft_bench.errors import UsageError

PROJECTION = "feature_projection.projection"
MASK = "masked_spec_embed"
WEIGHT_NORM = {
    ".weight_g": ".parametrizations.weight.original0",
    ".weight_v": ".parametrizations.weight.original1",
}
"""Weight norm as older files and s3prl name it, and as torch's parametrizations do (v5 of transformers)."""

_RULES = (
    (r"mask_emb", MASK),
    (r"layer_norm\.", "feature_projection.layer_norm."),
    (r"post_extract_proj\.", f"{PROJECTION}."),
    (r"feature_extractor\.conv_layers\.(\d+)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
    (
        r"feature_extractor\.conv_layers\.(\d+)\.2\.(?:1\.)?(?=weight|bias)",
        r"feature_extractor.conv_layers.\1.layer_norm.",
    ),
    (r"encoder\.pos_conv\.0\.", "encoder.pos_conv_embed.conv."),
    (r"encoder\.layer_norm\.", "encoder.layer_norm."),
    (
        r"encoder\.layers\.(\d+)\.self_attn\.grep_a",
        r"encoder.layers.\1.attention.gru_rel_pos_const",
    ),
    (
        r"encoder\.layers\.(\d+)\.self_attn\.grep_linear\.",
        r"encoder.layers.\1.attention.gru_rel_pos_linear.",
    ),
    (
        r"encoder\.layers\.(\d+)\.self_attn\.relative_attention_bias\.",
        r"encoder.layers.\1.attention.rel_attn_embed.",
    ),
    (
        r"encoder\.layers\.(\d+)\.self_attn\.(?=[qkv]_proj|out_proj)",
        r"encoder.layers.\1.attention.",
    ),
    (r"encoder\.layers\.(\d+)\.self_attn_layer_norm\.", r"encoder.layers.\1.layer_norm."),
    (r"encoder\.layers\.(\d+)\.fc1\.", r"encoder.layers.\1.feed_forward.intermediate_dense."),
    (r"encoder\.layers\.(\d+)\.fc2\.", r"encoder.layers.\1.feed_forward.output_dense."),
    (r"encoder\.layers\.(\d+)\.final_layer_norm\.", r"encoder.layers.\1.final_layer_norm."),
)
_ACTIVATIONS = {
    "gelu": "gelu",
    "relu": "relu",
    "tanh": "tanh",
    "gelu_accurate": "gelu_new",
    "gelu_fast": "gelu_new",
}
FUNCTION = (
    "hidden_act",
    "do_stable_layer_norm",
    "feat_extract_norm",
    "feat_extract_activation",
    "conv_dim",
    "conv_kernel",
    "conv_stride",
    "conv_bias",
    "num_attention_heads",
    "num_conv_pos_embedding_groups",
    "layer_norm_eps",
    "num_buckets",
    "max_bucket_distance",
)
"""Settings that change what the same weights compute; most of them no shape gives away."""


def translation(names: Iterable[str]) -> dict[str, str]:
    """transformers' name of each tensor of an s3prl model; pre-training heads have none.

    Raises UsageError for a name that transformers has no place for.
    """
    found = {}
    for name in names:
        if is_head(name):
            continue
        theirs = _translate(name)
        if theirs is None:
            raise UsageError(f"transformers has no place for the tensor model.{name}")
        found[name] = modern(theirs)
    return found


def _translate(name: str) -> str | None:
    for pattern, replacement in _RULES:
        match = re.match(pattern, name)
        if match:
            return match.expand(replacement) + name[match.end() :]
    return None


def modern(name: str) -> str:
    """The name with torch's present weight-norm parametrization."""
    for old, new in WEIGHT_NORM.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def hf_settings(expert: nn.Module) -> dict[str, Any]:
    """Arguments of transformers' config class under which it computes what the s3prl expert does.

    Dropouts are kept; layer drop and SpecAugment, which s3prl's experts never use, are off. Raises
    UsageError naming a feature that transformers does not have.
    """
    config, kind = model_config(expert), family(expert)
    _refuse_unknown(config, kind)
    convs = convolutions(expert)
    settings: dict[str, Any] = {
        "hidden_size": config["encoder_embed_dim"],
        "num_hidden_layers": config["encoder_layers"],
        "num_attention_heads": config["encoder_attention_heads"],
        "intermediate_size": config["encoder_ffn_embed_dim"],
        "hidden_act": _ACTIVATIONS[config["activation_fn"]],
        "hidden_dropout": config["dropout"],
        "attention_dropout": config["attention_dropout"],
        "activation_dropout": config["activation_dropout"],
        "feat_proj_dropout": config["dropout_input"],
        "layerdrop": 0.0,
        "apply_spec_augment": False,
        "layer_norm_eps": 1e-5,
        "feat_extract_norm": "group" if config["extractor_mode"] == "default" else "layer",
        "feat_extract_activation": "gelu",
        "conv_dim": [c[0] for c in convs],
        "conv_kernel": [c[1] for c in convs],
        "conv_stride": [c[2] for c in convs],
        "conv_bias": bool(config["conv_bias"]),
        "num_conv_pos_embeddings": config["conv_pos"],
        "num_conv_pos_embedding_groups": config["conv_pos_groups"],
        "do_stable_layer_norm": bool(config["layer_norm_first"]),
    }
    if kind == "wavlm":
        settings["num_buckets"] = config["num_buckets"]
        settings["max_bucket_distance"] = config["max_distance"]
    return settings


def _refuse_unknown(config: Mapping[str, Any], kind: str) -> None:
    problems = {
        f"activation_fn {config['activation_fn']}": config["activation_fn"] not in _ACTIVATIONS,
        f"layer_type {config.get('layer_type')}": config.get("layer_type", "transformer")
        != "transformer",
        f"pos_conv_depth {config.get('pos_conv_depth')}": config.get("pos_conv_depth", 1) > 1,
        "quantize_input": bool(config.get("quantize_input", False)),
        "crop_seq_to_multiple": config.get("crop_seq_to_multiple", 1) > 1,
        "attention without gated relative positions": kind == "wavlm"
        and not (config["relative_position_embedding"] and config["gru_rel_pos"]),
    }
    for what, present in problems.items():
        if present:
            raise UsageError(f"transformers' {kind} has no {what}; export --format s3prl instead")


def differences(wanted: Mapping[str, Any], given: Mapping[str, Any], keys: Iterable[str]) -> str:
    """In words, the settings of `keys` in which two configurations differ; "" if in none."""
    parts = []
    for key in keys:
        if key not in wanted or key not in given:
            continue
        ours, theirs = wanted[key], given[key]
        if isinstance(ours, list | tuple):
            ours, theirs = list(ours), list(theirs)
        if ours != theirs:
            parts.append(f"{key} {theirs} for {ours}")
    return "; ".join(parts)


def normalisation_matters(extractor: str) -> bool:
    """Whether scaling the waveform changes the features: a group norm over time undoes it."""
    return extractor in ("layer", "layer_norm")


def normalisation(expert: nn.Module, extractor: str, given: bool | None) -> str:
    """In words, that a file's normalisation of waveforms is not the base's; "" if it does not matter."""
    if given is None or not normalisation_matters(extractor) or given == normalizes(expert):
        return ""
    return f"normalize {given} for {normalizes(expert)}"
