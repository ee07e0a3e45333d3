"""Foreign checkpoints become the full state of a base expert.

`delta.changed_tensors` against the base then gives a checkpoint of ours. Layouts: score.md and spin.md,
section 5 (s3prl/runner.py; vectominist/spin), s3prl/upstream/*/convert.py, transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ssft_bench.checkpoints import architecture, hf_names
from ssft_bench.checkpoints.delta import EXTRA, SUFFIX, mismatches
from ssft_bench.checkpoints.hf_folder import import_hf
from ssft_bench.checkpoints.pickles import open_pickle
from ssft_bench.errors import MissingError, UsageError

KINDS = {
    "runner": "states-*.ckpt of s3prl's runner (SCORE, LASER)",
    "spin": "Lightning .ckpt of SPIN",
    "converted": "converted .pt of s3prl (HuBERT, wav2vec 2.0, WavLM)",
    "hf": "Hugging Face folder with config.json",
}
_FUNCTION = (
    "activation_fn",
    "layer_norm_first",
    "extractor_mode",
    "encoder_attention_heads",
    "conv_pos_groups",
    "relative_position_embedding",
    "gru_rel_pos",
    "num_buckets",
    "max_distance",
)
"""Settings of s3prl's models that no tensor's shape gives away."""

_SPIN_PARTS = {
    "pred_head.layers.0.weight": "head.weight",
    "pred_head.layers.0.bias": "head.bias",
    "loss_module.codebook.weight": "codebook.weight",
}
"""The authors' names of what our method `spin` keeps beside the upstream, and ours."""


@dataclass(frozen=True)
class Imported:
    """A foreign checkpoint, brought to the names and shapes of the base expert."""

    state: dict[str, Tensor]
    """Every tensor of the base expert's state_dict; pre-training heads that the file lacks are the base's."""
    extra: dict[str, Tensor] = field(default_factory=dict)
    """What the file has beyond the base: prediction heads, codebooks."""
    kind: str = ""
    """A key of KINDS."""
    steps: int | None = None
    """Optimiser updates, when the file says."""
    recipe: dict[str, Any] = field(default_factory=dict)
    """What the file says about its training, plain values only."""


def import_checkpoint(
    path: Path, expert: nn.Module, *, kind: str | None = None, trust: bool = False
) -> Imported:
    """Read a foreign checkpoint of the kind given, or of the kind its content shows.

    `expert` is the base, which stays as it is. Pickles are opened with `weights_only=True` unless `trust`.
    Raises UsageError for an unknown kind; MissingError when the file is absent, damaged, refused, of
    no known kind, or does not have exactly the base's tensors (the first few are listed).
    """
    path = Path(path)
    if kind is not None and kind not in KINDS:
        raise UsageError(f"--kind {kind}: known are {', '.join(KINDS)}")
    if path.is_dir():
        if kind not in (None, "hf"):
            raise MissingError(f"{path} is a folder; only kind hf is one")
        state, extra = import_hf(path, expert, trust)
        return Imported(state, extra, "hf")
    if path.suffix == SUFFIX:
        raise MissingError(
            f"{path}: a single {SUFFIX} is no foreign checkpoint. One of ours needs no import; "
            "for Hugging Face weights give the folder that holds config.json too"
        )
    if kind == "hf":
        raise MissingError(f"{path} is a file; kind hf is a folder with config.json")
    content = open_pickle(path, trust)
    if not isinstance(content, dict):
        raise MissingError(f"{path} holds a {type(content).__name__}; {_known()}")
    return _READERS[kind or _kind(path, content)](path, content, expert)


def _known() -> str:
    return "known kinds: " + "; ".join(f"{name}: {what}" for name, what in KINDS.items())


def _kind(path: Path, content: Mapping[str, Any]) -> str:
    """What the keys of a pickled dictionary show."""
    keys = set(content)
    if "Upstream" in keys or {"Downstream", "Args"} <= keys:
        return "runner"
    if "state_dict" in keys:
        return "spin"
    if "model_weight" in keys or {"cfg", "model"} <= keys:
        return "converted"
    shown = ", ".join(sorted(map(str, keys))[:8])
    raise MissingError(f"{path} is of no known kind (keys {shown}); {_known()}")


def _runner(path: Path, content: Mapping[str, Any], expert: nn.Module) -> Imported:
    """s3prl's runner keeps the whole expert under `Upstream`, if it was trainable."""
    if "Upstream" not in content:
        raise MissingError(
            f"{path} has no 'Upstream': the upstream of that run was frozen, so there is nothing to import"
        )
    state = _fitted(path, expert, _tensors(path, "Upstream", content["Upstream"]))
    config = content.get("Config")
    return Imported(state, {}, "runner", _steps(content.get("Step")), _plain({"config": config}))


def _spin(path: Path, content: Mapping[str, Any], expert: nn.Module) -> Imported:
    """SPIN's Lightning module: the encoder without its pre-training head, a head and a codebook."""
    stored = _tensors(path, "state_dict", content.get("state_dict"))
    prefix = "encoder.model."
    encoder = {n: t for n, t in stored.items() if n.startswith("encoder.")}
    if not encoder:
        raise MissingError(f"{path} has no {prefix}* in its state_dict; {_known()}")
    extra = {_SPIN_PARTS.get(n, n): t for n, t in stored.items() if n not in encoder}
    named = {
        f"model.{n.removeprefix(prefix)}" if n.startswith(prefix) else n: t
        for n, t in encoder.items()
    }
    state = _fitted(path, expert, named, head_may_lack=True)
    recipe = _plain(content.get("hyper_parameters"))
    return Imported(state, extra, "spin", _steps(content.get("global_step")), recipe)


def _converted(path: Path, content: Mapping[str, Any], expert: nn.Module) -> Imported:
    """s3prl's own format: {task_cfg, model_cfg, model_weight[, dictionaries_symbols]} or {cfg, model}."""
    weights = "model_weight" if "model_weight" in content else "model"
    stored = _tensors(path, weights, content.get(weights))
    state = _fitted(path, expert, {f"model.{n}": t for n, t in stored.items()})
    _same_function(path, content, expert)
    return Imported(state, {}, "converted")


def _same_function(path: Path, content: Mapping[str, Any], expert: nn.Module) -> None:
    """Equal shapes do not make equal networks: refuse a file whose settings compute something else."""
    model = content.get("model_cfg", content.get("cfg"))
    task = content.get("task_cfg", model)
    if not isinstance(model, dict) or not isinstance(task, dict):
        raise MissingError(f"{path}: its configuration is missing or not a dictionary")
    if isinstance(model.get("model"), dict):
        raise MissingError(
            f"{path} is fairseq's own layout; convert it first: python -m s3prl.upstream.hubert.convert "
            "(or wav2vec2.convert), which needs fairseq"
        )
    base = architecture.model_config(expert)
    model = architecture.default_config(architecture.family(expert)) | model
    problems = [hf_names.differences(base, model, _FUNCTION)]
    if "conv_feature_layers" in model:
        try:
            convs = architecture.parse_convolutions(str(model["conv_feature_layers"]))
        except ValueError as error:
            raise MissingError(f"{path}: conv_feature_layers: {error}") from error
        if convs != architecture.convolutions(expert):
            problems.append(f"conv_feature_layers {convs} for {architecture.convolutions(expert)}")
    problems.append(hf_names.normalisation(expert, base["extractor_mode"], task.get("normalize")))
    found = "; ".join(p for p in problems if p)
    if found:
        raise MissingError(f"{path} is built unlike its base: {found}. Give the base it came from")


def _fitted(
    path: Path, expert: nn.Module, stored: Mapping[str, Tensor], head_may_lack: bool = False
) -> dict[str, Tensor]:
    """The stored tensors in the base's order and types; the base's own pre-training head where allowed."""
    base = expert.state_dict()
    lacking = [n for n in base if n not in stored] if head_may_lack else []
    allowed = {n for n in lacking if architecture.is_head(n.removeprefix("model."))}
    problems = mismatches({n: t for n, t in base.items() if n not in allowed}, stored)
    if problems:
        raise MissingError(f"{path} does not fit the base {type(expert).__name__}: {problems}")
    return {n: stored.get(n, t).detach().to("cpu", t.dtype) for n, t in base.items()}


def _tensors(path: Path, key: str, value: Any) -> dict[str, Tensor]:
    if not isinstance(value, dict) or not value:
        raise MissingError(f"{path}: '{key}' is missing or not a state_dict")
    wrong = [str(n) for n, t in value.items() if not isinstance(t, Tensor) or EXTRA in str(n)]
    if wrong:
        raise MissingError(f"{path}: '{key}' holds no tensor under {', '.join(wrong[:3])}")
    return dict(value)


def _steps(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _plain(value: Any) -> dict[str, Any]:
    """The parts of a nested dictionary that JSON can hold."""
    simple = (str, int, float, bool, type(None))

    def keep(item: Any) -> Any:
        if isinstance(item, dict):
            return {str(k): keep(v) for k, v in item.items() if _is_plain(v)}
        return [keep(v) for v in item if _is_plain(v)] if isinstance(item, list | tuple) else item

    def _is_plain(item: Any) -> bool:
        if isinstance(item, float):
            return item == item and abs(item) != float("inf")
        return isinstance(item, (*simple, dict, list, tuple))

    kept: dict[str, Any] = keep(value) if isinstance(value, dict) else {}
    return {k: v for k, v in kept.items() if v is not None}


_READERS: dict[str, Callable[[Path, Mapping[str, Any], nn.Module], Imported]] = {
    "runner": _runner,
    "spin": _spin,
    "converted": _converted,
}
