"""Experts leave as what other tools load: s3prl's converted `.pt`, or a Hugging Face folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench.checkpoints import architecture, hf_names
from ssft_bench.checkpoints.hf_folder import hf_classes, transformers_package
from ssft_bench.errors import UsageError
from ssft_bench.files import atomic_path

FORMATS = ("s3prl", "hf")


def export_s3prl(expert: nn.Module, path: Path) -> str:
    """Write the `.pt` that s3prl's `hubert_local`, `wav2vec2_local` or `wavlm_local` loads.

    Returns the name of that upstream. The file holds tensors and plain values only. Raises UsageError
    for an expert that is not s3prl's HuBERT, wav2vec 2.0 or WavLM.
    """
    kind = architecture.family(expert)
    if Path(path).is_dir():
        raise UsageError(f"{path} is a folder; --format s3prl writes one file")
    if architecture.is_hugging_face(expert):
        raise UsageError(
            f"{type(expert).__name__} holds a transformers model: s3prl's {kind}_local cannot load it; "
            "use --format hf, and hf_hubert_custom or hf_wav2vec2_custom"
        )
    config = architecture.model_config(expert)
    weights = _weights(expert)
    content: dict[str, Any]
    if kind == "wavlm":
        # s3prl's WavLM reads the normalisation of waveforms from the model's configuration.
        content = {"cfg": config | {"normalize": architecture.normalizes(expert)}, "model": weights}
    else:
        content = {
            "task_cfg": architecture.task_config(expert),
            "model_cfg": config,
            "model_weight": weights,
        }
    if kind == "hubert":
        # Only their number matters; without targets there is no label_embs_concat.
        sizes: Any = getattr(expert.model, "num_classes", None)
        content["dictionaries_symbols"] = (
            [None] if sizes is None else [[str(i) for i in range(size)] for size in sizes]
        )
    with atomic_path(Path(path)) as temporary:
        torch.save(content, temporary)
    return f"{kind}_local"


def export_hf(expert: nn.Module, folder: Path) -> str:
    """Write a folder that transformers' `from_pretrained` loads: the encoder, without pre-training heads.

    Returns the name of the transformers class. An expert that holds a transformers model is saved as
    it is. Raises UsageError when `folder` has something in it, or transformers lacks a feature.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not an empty folder; export into a new one")
    if architecture.is_hugging_face(expert):
        architecture.family(expert)
        model: Any = expert.model
        extracter: Any = getattr(expert, "extracter", None) or _extracter(expert, "group")
    else:
        model = _hf_model(expert)
        extracter = _extracter(expert, model.config.feat_extract_norm)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        with _no_progress_bars():
            model.save_pretrained(temporary)
        extracter.save_pretrained(temporary)
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return type(model).__name__


def _weights(expert: nn.Module) -> dict[str, Tensor]:
    model: Any = expert.model
    return {n: t.detach().cpu().contiguous().clone() for n, t in model.state_dict().items()}


def _hf_model(expert: nn.Module) -> Any:
    """transformers' model with the expert's weights, built without touching random states."""
    settings = hf_names.hf_settings(expert)
    config_class, model_class = hf_classes(architecture.family(expert))
    weights = _weights(expert)
    names = hf_names.translation(weights)
    state = {theirs: weights[ours] for ours, theirs in names.items()}
    if f"{hf_names.PROJECTION}.weight" not in state:
        # fairseq leaves the projection out when the widths are equal; transformers always has one.
        width = settings["hidden_size"]
        state[f"{hf_names.PROJECTION}.weight"] = torch.eye(width)
        state[f"{hf_names.PROJECTION}.bias"] = torch.zeros(width)
    config = config_class(**settings)
    # transformers 5 gives the last hidden state before the encoder's final layer norm; s3prl after it.
    config.tie_last_hidden_states = True
    with torch.random.fork_rng(devices=[]), torch.device("meta"):  # meta tensors draw numbers too
        model = model_class(config)
    model.load_state_dict(state, assign=True)
    return model.eval()


def _extracter(expert: nn.Module, extractor: str) -> Any:
    return transformers_package().Wav2Vec2FeatureExtractor(
        feature_size=1,
        sampling_rate=architecture.SAMPLE_RATE,
        padding_value=0.0,
        do_normalize=architecture.normalizes(expert),
        return_attention_mask=extractor == "layer",
    )


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """transformers shows one for every file it writes."""
    logging = transformers_package().utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
