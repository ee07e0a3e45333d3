"""Hugging Face folders: reading one onto a base expert, and what is in one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ssft_bench.checkpoints import architecture, hf_names
from ssft_bench.checkpoints.delta import mismatches
from ssft_bench.checkpoints.pickles import open_pickle
from ssft_bench.errors import MissingError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = "pytorch_model.bin"
_HEADS = (
    "lm_head.", "projector.", "classifier.", "layer_weights", "quantizer.", "project_q.",
    "project_hid.", "dropout_features.", "feature_extractor_proj.", "tdnn.", "objective.",
)  # fmt: skip
"""Heads of transformers' HuBERT, wav2vec 2.0 and WavLM classes."""


def transformers_package() -> Any:
    """The package transformers. Raises MissingError when it is not installed."""
    try:
        import transformers
    except ImportError as error:
        raise MissingError(
            "Hugging Face folders need the package transformers: pip install transformers"
        ) from error
    return transformers


def hf_classes(kind: str) -> tuple[Any, Any]:
    """transformers' config and model class of hubert, wav2vec2 or wavlm."""
    package = transformers_package()
    name = {"hubert": "Hubert", "wav2vec2": "Wav2Vec2", "wavlm": "WavLM"}[kind]
    return getattr(package, f"{name}Config"), getattr(package, f"{name}Model")


def import_hf(
    folder: Path, expert: nn.Module, trust: bool = False
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """State of the base expert with a folder's weights, and the folder's heads.

    `expert` may be s3prl's (names are translated) or hold a transformers model (names are the same).
    Raises MissingError when the folder is incomplete, of another family, built unlike the base, or
    lacks or has other tensors than the base.
    """
    config = _config(folder, expert)
    weights, extra = _body(_weights(folder, trust), str(config["model_type"]))
    _same_function(folder, config, expert)
    state = {n.removeprefix("model."): t for n, t in expert.state_dict().items()}
    if architecture.is_hugging_face(expert):
        names = {n: hf_names.modern(n) for n in state}
    else:
        names = hf_names.translation(state)
        if not any(theirs.startswith(hf_names.PROJECTION) for theirs in names.values()):
            _drop_identity(folder, weights)
    optional = {
        n for n, theirs in names.items() if theirs == hf_names.MASK and theirs not in weights
    }
    wanted = {theirs: state[n] for n, theirs in names.items() if n not in optional}
    problems = mismatches(wanted, weights)
    if problems:
        raise MissingError(f"{folder} does not fit the base {type(expert).__name__}: {problems}")
    found = {n: weights[names[n]] if names.get(n) in wanted else t for n, t in state.items()}
    return {f"model.{n}": t.detach().to("cpu", state[n].dtype) for n, t in found.items()}, extra


def _config(folder: Path, expert: nn.Module) -> dict[str, Any]:
    config = _json(folder / "config.json")
    wanted = architecture.family(expert)
    if config is None:
        raise MissingError(f"{folder} has no config.json: not a Hugging Face folder")
    if config.get("model_type") != wanted:
        raise MissingError(
            f"{folder}/config.json: model_type {config.get('model_type')!r}, the base is a {wanted}"
        )
    return config


def _same_function(folder: Path, config: Mapping[str, Any], expert: nn.Module) -> None:
    """Equal shapes do not make equal networks: refuse settings that compute something else."""
    config_class, _ = hf_classes(architecture.family(expert))
    from huggingface_hub.errors import StrictDataclassError

    try:
        given = config_class.from_dict(dict(config)).to_dict()
    except (TypeError, ValueError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise MissingError(f"{folder}/config.json cannot be read: {reason}") from error
    if architecture.is_hugging_face(expert):
        base: dict[str, Any] = expert.model.config.to_dict()  # type: ignore[union-attr, operator]
    else:
        base = hf_names.hf_settings(expert)
    extracter = _json(folder / "preprocessor_config.json") or {}
    problems = [
        hf_names.differences(base, given, hf_names.FUNCTION),
        hf_names.normalisation(expert, base["feat_extract_norm"], extracter.get("do_normalize")),
    ]
    found = "; ".join(p for p in problems if p)
    if found:
        raise MissingError(
            f"{folder} is built unlike its base: {found}. Give the base it came from"
        )


def _body(stored: Mapping[str, Tensor], prefix: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split the tensors of a bare model, or of one with a head (`hubert.*`, `lm_head.*`)."""
    start = f"{prefix}."
    headed = any(n.startswith(start) for n in stored)
    extra = {
        n: t
        for n, t in stored.items()
        if (headed and not n.startswith(start)) or (not headed and n.startswith(_HEADS))
    }
    body = {hf_names.modern(n.removeprefix(start)): t for n, t in stored.items() if n not in extra}
    return body, extra


def _drop_identity(folder: Path, weights: dict[str, Tensor]) -> None:
    """A base without a projection takes a folder whose projection is the identity, as we export it."""
    weight = weights.pop(f"{hf_names.PROJECTION}.weight", None)
    bias = weights.pop(f"{hf_names.PROJECTION}.bias", None)
    if weight is None or bias is None:
        return
    if torch.equal(weight, torch.eye(len(weight), dtype=weight.dtype)) and not bias.any():
        return
    raise MissingError(
        f"{folder}: {hf_names.PROJECTION} is not the identity, and the base has no such projection"
    )


def _weights(folder: Path, trust: bool) -> dict[str, Tensor]:
    if (folder / WEIGHTS).is_file():
        return _safe(folder / WEIGHTS)
    index = _json(folder / INDEX)
    if index is not None:
        names = sorted({Path(str(n)).name for n in index.get("weight_map", {}).values()})
        return {n: t for name in names for n, t in _safe(folder / name).items()}
    if not (folder / PICKLED).is_file():
        raise MissingError(f"{folder} has neither {WEIGHTS} nor {PICKLED}")
    content = open_pickle(folder / PICKLED, trust)
    if not isinstance(content, dict) or not all(isinstance(t, Tensor) for t in content.values()):
        raise MissingError(f"{folder / PICKLED} is not a state_dict")
    return content


def _safe(path: Path) -> dict[str, Tensor]:
    try:
        loaded: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise MissingError(f"{path} cannot be read: {error}") from error
    return loaded


def _json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MissingError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise MissingError(f"{path} is not a JSON object")
    return value
