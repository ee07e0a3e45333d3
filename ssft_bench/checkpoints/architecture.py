"""What an s3prl or Hugging Face expert is built like, read from its modules.

s3prl's HuBERT keeps no configuration beside its weights, so everything is derived; wav2vec 2.0 and
WavLM keep theirs. Names of configuration fields are fairseq's, as in s3prl's config classes.
"""

from __future__ import annotations

import ast
import dataclasses
import math
from enum import Enum
from typing import Any

from torch import nn

from ssft_bench.errors import UsageError

SAMPLE_RATE = 16_000
_CLASSES = {"HubertModel": "hubert", "Wav2Vec2Model": "wav2vec2", "WavLM": "wavlm"}
_HF_CLASSES = {"HubertModel": "hubert", "Wav2Vec2Model": "wav2vec2", "WavLMModel": "wavlm"}
HEADS = ("final_proj.", "label_embs_concat", "quantizer.", "project_q.", "target_glu.")
"""Starts of the names of pre-training heads: no hidden state depends on them."""


def is_hugging_face(expert: nn.Module) -> bool:
    """Whether the network inside the expert is a transformers model."""
    return "PreTrainedModel" in _ancestors(expert)


def family(expert: nn.Module) -> str:
    """hubert, wav2vec2 or wavlm. Raises UsageError for every other network."""
    known = _HF_CLASSES if is_hugging_face(expert) else _CLASSES
    for name in _ancestors(expert):
        if name in known:
            return known[name]
    raise UsageError(
        f"{type(expert).__name__} holds no HuBERT, wav2vec 2.0 or WavLM of s3prl or transformers "
        "as .model; other networks can be neither imported nor exported"
    )


def _ancestors(expert: nn.Module) -> list[str]:
    model = getattr(expert, "model", None)
    return [c.__name__ for c in type(model).__mro__]


def is_head(name: str) -> bool:
    """Whether a tensor of an s3prl model belongs to its pre-training head."""
    return name.startswith(HEADS)


def normalizes(expert: Any) -> bool:
    """Whether waveforms are brought to mean 0 and variance 1 before the network sees them."""
    extracter = getattr(expert, "extracter", None)
    if extracter is not None:
        return bool(extracter.do_normalize)
    for place in ("normalize", "wav_normalize", "task_cfg.normalize", "cfg.normalize"):
        found = expert
        for part in place.split("."):
            found = getattr(found, part, None)
        if isinstance(found, bool | int):
            return bool(found)
    raise UsageError(
        f"{type(expert).__name__} does not say whether it normalises waveforms (attribute normalize)"
    )


def model_config(expert: nn.Module) -> dict[str, Any]:
    """Configuration of an s3prl model, plain values, enough to build it again.

    Raises UsageError for a layer type that is not s3prl's plain transformer.
    """
    model: Any = expert.model
    layer = model.encoder.layers[0]
    if type(layer).__name__ != "TransformerSentenceEncoderLayer":
        raise UsageError(
            f"{type(expert).__name__}: {type(layer).__name__} layers are not supported"
        )
    if family(expert) == "hubert":
        return _hubert_config(model)
    config = model.cfg
    values = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else vars(config)  # type: ignore[arg-type]
    # The network decides: a configuration may have been edited since.
    plain = {k: v.value if isinstance(v, Enum) else v for k, v in values.items()}
    return plain | {"conv_feature_layers": repr(convolutions(expert))}


def default_config(kind: str) -> dict[str, Any]:
    """What s3prl takes for a field that the configuration in a file leaves out."""
    if kind == "wavlm":
        from s3prl.upstream.wavlm.WavLM import WavLMConfig

        return dict(vars(WavLMConfig()))
    if kind == "hubert":
        from s3prl.upstream.hubert.hubert_model import HubertConfig as Config
    else:
        from s3prl.upstream.wav2vec2.wav2vec2_model import Wav2Vec2Config as Config
    fields = dataclasses.fields(Config)
    return {f.name: f.default for f in fields if f.default is not dataclasses.MISSING}


def task_config(expert: nn.Module) -> dict[str, Any]:
    """s3prl's task configuration: what is done to waveforms."""
    return {"normalize": normalizes(expert), "sample_rate": SAMPLE_RATE}


def convolutions(expert: nn.Module) -> list[tuple[int, int, int]]:
    """(channels, kernel, stride) of each block of the convolutional stack of an s3prl model."""
    model: Any = expert.model
    convs = [block[0] for block in model.feature_extractor.conv_layers]
    return [(c.out_channels, c.kernel_size[0], c.stride[0]) for c in convs]


def parse_convolutions(text: str) -> list[tuple[int, int, int]]:
    """Read fairseq's `[(512,10,5)] + [(512,3,2)] * 4` without evaluating it.

    Raises ValueError for anything but lists of numbers, + and *.
    """

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.Tuple):
            return tuple(value(element) for element in node.elts)
        if isinstance(node, ast.List):
            return [value(element) for element in node.elts]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult):
            left, right = value(node.left), value(node.right)
            return left + right if isinstance(node.op, ast.Add) else left * min(right, 100)
        raise ValueError(f"{text!r} is not a list of convolutions")

    try:
        found = [tuple(block) for block in value(ast.parse(text.strip(), mode="eval").body)]
    except (SyntaxError, TypeError) as error:
        raise ValueError(f"{text!r} is not a list of convolutions") from error
    if not all(len(block) == 3 for block in found):
        raise ValueError(f"{text!r} is not a list of (channels, kernel, stride)")
    return found


def _hubert_config(model: Any) -> dict[str, Any]:
    encoder, first = model.encoder, model.feature_extractor.conv_layers[0]
    layer, position = encoder.layers[0], encoder.pos_conv[0]
    blocks = [block[0] for block in model.feature_extractor.conv_layers]
    stride = math.prod(conv.stride[0] for conv in blocks)
    masks = ("prob", "length", "selection", "other", "min_space")
    groups = len(getattr(model, "num_classes", [0]))
    return {
        "label_rate": float(model.feat2tar_ratio * SAMPLE_RATE / stride),
        "extractor_mode": "default" if isinstance(first[2], nn.GroupNorm) else "layer_norm",
        "encoder_layers": len(encoder.layers),
        "encoder_embed_dim": encoder.embedding_dim,
        "encoder_ffn_embed_dim": layer.fc1.out_features,
        "encoder_attention_heads": layer.self_attn.num_heads,
        "activation_fn": _activation(layer.activation_fn),
        "layer_type": "transformer",
        "dropout": encoder.dropout,
        "attention_dropout": layer.self_attn.dropout_module.p,
        "activation_dropout": layer.activation_dropout,
        "encoder_layerdrop": 0.0,
        "dropout_input": model.dropout_input.p,
        "dropout_features": model.dropout_features.p,
        "final_dim": model.final_proj.out_features // (groups if model.untie_final_proj else 1),
        "untie_final_proj": model.untie_final_proj,
        "layer_norm_first": encoder.layer_norm_first,
        "conv_feature_layers": repr(
            [(c.out_channels, c.kernel_size[0], c.stride[0]) for c in blocks]
        ),
        "conv_bias": blocks[0].bias is not None,
        "logit_temp": model.logit_temp,
        "target_glu": model.target_glu is not None,
        **{f"mask_{key}": getattr(model, f"mask_{key}") for key in masks},
        **{f"mask_channel_{key}": getattr(model, f"mask_channel_{key}") for key in masks},
        "no_mask_overlap": model.no_mask_overlap,
        "no_mask_channel_overlap": model.no_mask_channel_overlap,
        "conv_pos": position.kernel_size[0],
        "conv_pos_groups": position.groups,
        "skip_masked": model.skip_masked,
        "skip_nomask": model.skip_nomask,
        "required_seq_len_multiple": encoder.required_seq_len_multiple,
    }


def _activation(function: Any) -> str:
    name = str(getattr(function, "__name__", function))
    if name in ("relu", "gelu", "gelu_accurate", "tanh"):
        return name
    raise UsageError(f"the activation {name} of the feed-forward layers is not supported")
