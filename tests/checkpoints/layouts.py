"""Small random models of s3prl, and files exactly as official tools write them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from s3prl.upstream.hubert.hubconf import hubert_local
from s3prl.upstream.hubert.hubert_model import HubertConfig, HubertModel, HubertPretrainingConfig
from s3prl.upstream.wav2vec2.hubconf import wav2vec2_local
from s3prl.upstream.wav2vec2.wav2vec2_model import Wav2Vec2Config, Wav2Vec2Model
from s3prl.upstream.wavlm.hubconf import wavlm_local
from s3prl.upstream.wavlm.WavLM import WavLM, WavLMConfig
from torch import Tensor

LOADERS = {"hubert": hubert_local, "wav2vec2": wav2vec2_local, "wavlm": wavlm_local}
FAMILIES = tuple(LOADERS)
TARGETS = 7

SHAPES: dict[str, dict[str, Any]] = {
    "base": {
        "extractor_mode": "default",
        "layer_norm_first": False,
        "conv_feature_layers": "[(20,10,5)] + [(20,8,4)] * 2 + [(20,4,4)]",
        "conv_bias": False,
        "activation_fn": "gelu",
        "conv_pos": 16,
    },
    "large": {
        "extractor_mode": "layer_norm",
        "layer_norm_first": True,
        "conv_feature_layers": "[(20,10,5)] + [(20,8,4)] * 2 + [(20,4,4)]",
        "conv_bias": True,
        "activation_fn": "gelu",
        "conv_pos": 17,
    },
    "mini": {
        "extractor_mode": "default",
        "layer_norm_first": True,
        "conv_feature_layers": "[(32,320,80)] + [(32,3,2)] + [(32,2,2)]",
        "conv_bias": True,
        "activation_fn": "relu",
        "conv_pos": 12,
    },
}
"""Like Base (post-norm), Large (pre-norm, normalised waveforms), and the mini upstreams (no projection)."""


def seeded() -> tuple[torch.Generator, int]:
    """A fresh generator, and its seed for messages."""
    seed = int(torch.randint(2**31, (1,), generator=_entropy()))
    return torch.Generator().manual_seed(seed), seed


def _entropy() -> torch.Generator:
    generator = torch.Generator()
    generator.seed()
    return generator


def content(family: str, shape: str, generator: torch.Generator) -> dict[str, Any]:
    """A converted checkpoint of s3prl, as its convert.py writes it, with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        return _content(family, shape, generator)


def _content(family: str, shape: str, generator: torch.Generator) -> dict[str, Any]:
    config = {
        **SHAPES[shape],
        "encoder_layers": 3,
        "encoder_embed_dim": 32,
        "encoder_ffn_embed_dim": 48,
        "encoder_attention_heads": 4,
        "conv_pos_groups": 4,
    }
    normalize = shape != "base"
    if family == "wavlm":
        config |= {"relative_position_embedding": True, "gru_rel_pos": True}
        config |= {"num_buckets": 32, "max_distance": 80, "normalize": normalize}
        weights = _random(WavLM(WavLMConfig(config)).state_dict(), generator)
        return {"cfg": config, "model": weights}
    task = {"normalize": normalize, "sample_rate": 16000}
    if family == "wav2vec2":
        config |= {"quantize_targets": True, "final_dim": 16, "latent_vars": 5}
        weights = _random(Wav2Vec2Model(Wav2Vec2Config(**config)).state_dict(), generator)
        return {"task_cfg": task, "model_cfg": config, "model_weight": weights}
    config |= {"label_rate": 50.0, "final_dim": 16}
    model = HubertModel(HubertConfig(**config), HubertPretrainingConfig(**task), [range(TARGETS)])
    return {
        "task_cfg": task,
        "model_cfg": config,
        "model_weight": _random(model.state_dict(), generator),
        "dictionaries_symbols": [[str(i) for i in range(TARGETS)]],
    }


def _random(state: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Every tensor moved, biases and norms too, so that no two parts can be confused."""
    return {
        name: t + 0.1 * torch.randn(t.shape, generator=generator) if t.is_floating_point() else t
        for name, t in state.items()
    }


def weights_of(whole: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors of a converted checkpoint."""
    found: dict[str, Tensor] = whole["model_weight"] if "model_weight" in whole else whole["model"]
    return found


def base_expert(family: str, shape: str, folder: Path, generator: torch.Generator) -> Any:
    """s3prl's expert of a random model, in evaluation mode; its converted file is folder/base.pt."""
    path = folder / "base.pt"
    torch.save(content(family, shape, generator), path)
    return LOADERS[family](str(path)).eval()


def tuned_state(expert: Any, generator: torch.Generator) -> tuple[dict[str, Tensor], set[str]]:
    """The expert's state after "tuning" the top layer and the positional weight norm; what changed."""
    state = {name: t.clone() for name, t in expert.state_dict().items()}
    top = f"model.encoder.layers.{len(expert.model.encoder.layers) - 1}."
    changed = {n for n in state if n.startswith(top) or "pos_conv" in n}
    for name in changed:
        state[name] += 0.05 * torch.randn(state[name].shape, generator=generator)
    return state, changed


def save_runner(path: Path, state: dict[str, Tensor], steps: int = 3600) -> None:
    """`states-N.ckpt` of s3prl's runner with a trainable upstream (score.md, section 5)."""
    whole = {
        "Optimizer": {"state": {}, "param_groups": [{"lr": 2e-5, "params": [0]}]},
        "Step": steps,
        "Epoch": 1,
        "Args": argparse.Namespace(upstream="hubert_base", upstream_trainable=True, seed=1337),
        "Config": {"runner": {"total_steps": steps, "gradient_clipping": 1.0}},
        "Upstream": state,
        "Featurizer": {"weights": torch.zeros(4)},
        "Downstream": {"projector.weight": torch.zeros(2, 3)},
        "Scheduler": {"last_epoch": steps},
    }
    torch.save(whole, path)


def save_spin(path: Path, state: dict[str, Tensor], parts: dict[str, Tensor]) -> None:
    """A Lightning checkpoint of SPIN (spin.md, section 5): the encoder without its pre-training head."""
    heads = ("model.final_proj.", "model.label_embs_concat")
    encoder = {f"encoder.{n}": t for n, t in state.items() if not n.startswith(heads)}
    whole = {
        "epoch": 3,
        "global_step": 5000,
        "pytorch-lightning_version": "1.9.5",
        "state_dict": encoder | parts,
        "hyper_parameters": {"model": {"codebook": {"num_code": 6, "temp": 0.1}}},
        "optimizer_states": [],
        "lr_schedulers": [],
    }
    torch.save(whole, path)
