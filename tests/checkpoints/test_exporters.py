"""What leaves is what stock s3prl and transformers load: tensors, hidden states, and the way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import s3prl.upstream.hf_hubert.hubconf as hf_hubert
import s3prl.upstream.hf_wav2vec2.hubconf as hf_wav2vec2
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

from ssft_bench.checkpoints import exporters, hf_names
from ssft_bench.checkpoints.architecture import model_config, parse_convolutions
from ssft_bench.checkpoints.delta import (
    apply_checkpoint,
    changed_tensors,
    read_checkpoint,
    save_checkpoint,
)
from ssft_bench.checkpoints.exporters import export_hf, export_s3prl
from ssft_bench.checkpoints.importers import import_checkpoint
from ssft_bench.errors import UsageError
from ssft_bench.upstream import load_upstream, weights_sha256
from tests.checkpoints.layouts import (
    FAMILIES,
    LOADERS,
    SHAPES,
    base_expert,
    save_runner,
    seeded,
    tuned_state,
)

MINI = ("hubert_mini", "wav2vec2_mini", "wavlm_mini")
EVERY = [(family, shape) for family in FAMILIES for shape in SHAPES]


def mini(name: str) -> Any:
    """A packaged mini expert, read anew."""
    return load_upstream(name, {}).expert.eval()


@torch.no_grad()
def states(expert: Any, wave: Tensor) -> list[Tensor]:
    return [s[0] for s in expert([wave])["hidden_states"]]


@torch.no_grad()
def hf_states(folder: Path, class_name: str, wave: Tensor) -> list[Tensor]:
    """Hidden states by transformers alone, as its documentation does it."""
    model = getattr(transformers, class_name).from_pretrained(folder).eval()
    extracter = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder)
    batch = extracter(wave.numpy(), sampling_rate=16000, return_tensors="pt")
    output = model(batch.input_values, output_hidden_states=True)
    assert torch.equal(output.hidden_states[-1], output.last_hidden_state)
    return [s[0] for s in output.hidden_states]


def furthest(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Largest difference, relative to the largest value of the layer."""
    assert len(ours) == len(theirs)
    assert all(a.shape == b.shape for a, b in zip(ours, theirs, strict=True))
    return max(
        float((a - b).abs().max() / a.abs().max()) for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize(("family", "shape"), EVERY)
def test_s3prl_round_trip(family: str, shape: str, tmp_path: Path) -> None:
    """delta -> base -> .pt -> stock s3prl -> import -> the same delta, bit by bit."""
    generator, seed = seeded()
    expert = base_expert(family, shape, tmp_path, generator)
    before = {n: t.clone() for n, t in expert.state_dict().items()}
    delta = delta_of(expert, tmp_path / "d.safetensors", generator)
    apply_checkpoint(expert, read_checkpoint(tmp_path / "d.safetensors"), "d.safetensors")
    assert export_s3prl(expert, tmp_path / "out.pt") == f"{family}_local"
    stock = LOADERS[family](str(tmp_path / "out.pt")).eval()
    assert not changed_tensors(expert.state_dict(), stock.state_dict()), seed
    for samples in (16000, 12377):
        wave = torch.randn(samples, generator=generator)
        assert furthest(states(expert, wave), states(stock, wave)) < 1e-5, seed
    again = base_expert_of(tmp_path / "base.pt", family)
    found = changed_tensors(before, import_checkpoint(tmp_path / "out.pt", again).state)
    assert found.keys() == delta.keys(), seed
    assert all(torch.equal(found[n], delta[n]) for n in delta), seed


def base_expert_of(path: Path, family: str) -> Any:
    return LOADERS[family](str(path)).eval()


def delta_of(expert: Any, path: Path, generator: torch.Generator) -> dict[str, Tensor]:
    """Save the delta of a "tuned" copy; the expert itself stays the base."""
    state, changed = tuned_state(expert, generator)
    base = {"name": "x", "options": {}, "sha256": weights_sha256(expert)}
    about = {"name": "n", "method": "m", "base": base, "recipe": {}, "steps": 1}
    delta = changed_tensors(expert.state_dict(), state)
    assert set(delta) == changed
    save_checkpoint(path, delta, about | {"hours_processed": 0.1, "versions": {}})
    return delta


@pytest.mark.parametrize(("family", "shape"), EVERY)
def test_hf_round_trip(family: str, shape: str, tmp_path: Path) -> None:
    """delta -> base -> folder -> transformers (hidden states) -> import -> the same delta."""
    generator, seed = seeded()
    expert = base_expert(family, shape, tmp_path, generator)
    delta = delta_of(expert, tmp_path / "d.safetensors", generator)
    apply_checkpoint(expert, read_checkpoint(tmp_path / "d.safetensors"), "d.safetensors")
    folder = tmp_path / "new" / "hf"
    class_name = export_hf(expert, folder)
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json", "model.safetensors", "preprocessor_config.json",
    ]  # fmt: skip
    assert [p.name for p in folder.parent.iterdir()] == ["hf"]
    said = json.loads((folder / "preprocessor_config.json").read_text())
    assert said["do_normalize"] is (shape != "base")
    for samples in (16000, 12377):
        wave = torch.randn(samples, generator=generator)
        apart = furthest(states(expert, wave), hf_states(folder, class_name, wave))
        assert apart < 1e-4, (apart, seed)
    again = base_expert_of(tmp_path / "base.pt", family)
    found = changed_tensors(again.state_dict(), import_checkpoint(folder, again).state)
    assert found.keys() == delta.keys(), seed
    assert all(torch.equal(found[n], delta[n]) for n in delta), seed


@pytest.mark.parametrize("wrong", ["q_proj", "layer_norm", "settings"])
def test_hidden_states_would_tell(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative controls: a swapped name or a wrong setting, of equal shapes, moves the hidden states."""
    generator, seed = seeded()
    expert = base_expert("wavlm", "large", tmp_path, generator)
    if wrong == "settings":
        right = hf_names.hf_settings(expert) | {"max_bucket_distance": 20}
        monkeypatch.setattr(hf_names, "hf_settings", lambda expert: right)
    else:
        first, second = {
            "q_proj": ("attention.q_proj", "attention.k_proj"),
            "layer_norm": ("encoder.layers.1.layer_norm", "encoder.layers.1.final_layer_norm"),
        }[wrong]
        right = hf_names.translation(exporters._weights(expert))
        swapped = {
            ours: theirs.replace(first, "-").replace(second, first).replace("-", second)
            for ours, theirs in right.items()
        }
        monkeypatch.setattr(hf_names, "translation", lambda names: swapped)
    class_name = export_hf(expert, tmp_path / "hf")
    wave = torch.randn(16000, generator=generator)
    assert furthest(states(expert, wave), hf_states(tmp_path / "hf", class_name, wave)) > 1e-3, seed


@pytest.mark.parametrize("name", MINI)
def test_mini_upstreams(name: str, tmp_path: Path) -> None:
    generator, seed = seeded()
    expert, family = mini(name), name.removesuffix("_mini")
    assert export_s3prl(expert, tmp_path / "mini.pt") == f"{family}_local"
    stock = base_expert_of(tmp_path / "mini.pt", family)
    assert not changed_tensors(expert.state_dict(), stock.state_dict())
    class_name = export_hf(expert, tmp_path / "hf")
    for samples in (16000, 30011):
        wave = 0.1 * torch.randn(samples, generator=generator)
        ours = states(expert, wave)
        assert furthest(ours, states(stock, wave)) < 1e-5, seed
        assert furthest(ours, hf_states(tmp_path / "hf", class_name, wave)) < 1e-4, seed
    state, changed = tuned_state(expert, generator)
    save_runner(tmp_path / "states-5.ckpt", state)
    for path in ("mini.pt", "hf"):
        assert not changed_tensors(
            expert.state_dict(), import_checkpoint(tmp_path / path, expert).state
        )
    imported = import_checkpoint(tmp_path / "states-5.ckpt", expert)
    assert set(changed_tensors(expert.state_dict(), imported.state)) == changed


@pytest.mark.parametrize("name", ["hubert_mini"])
def test_derived_configuration_is_the_recorded_one(name: str) -> None:
    """What is read off the modules equals what pretraining wrote down."""
    expert = mini(name)
    derived, recorded = model_config(expert), expert.about["model"]
    assert parse_convolutions(derived.pop("conv_feature_layers")) == parse_convolutions(
        recorded["conv_feature_layers"]
    )
    for key, value in recorded.items():
        assert key == "conv_feature_layers" or derived[key] == value, key


@pytest.mark.parametrize("family", ["hubert", "wav2vec2"])
def test_base_of_transformers(family: str, tmp_path: Path) -> None:
    """An expert of s3prl's that holds a transformers model: names are the same, save_pretrained writes it."""
    generator, seed = seeded()
    export_hf(base_expert(family, "large", tmp_path, generator), tmp_path / "base")
    load = {"hubert": hf_hubert.hf_hubert_custom, "wav2vec2": hf_wav2vec2.hf_wav2vec2_custom}[
        family
    ]
    expert = load(str(tmp_path / "base")).eval()
    delta = delta_of(expert, tmp_path / "d.safetensors", generator)
    apply_checkpoint(expert, read_checkpoint(tmp_path / "d.safetensors"), "d.safetensors")
    export_hf(expert, tmp_path / "out")
    wave = torch.randn(16000, generator=generator)
    stock = load(str(tmp_path / "out")).eval()
    assert furthest(states(expert, wave), states(stock, wave)) < 1e-6, seed
    again = load(str(tmp_path / "base")).eval()
    imported = import_checkpoint(tmp_path / "out", again)
    found = changed_tensors(again.state_dict(), imported.state)
    assert found.keys() == delta.keys(), seed
    assert all(torch.equal(found[n], delta[n]) for n in delta), seed
    with pytest.raises(UsageError, match=f"s3prl's {family}_local cannot load it; use --format hf"):
        export_s3prl(expert, tmp_path / "no.pt")


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    generator, _ = seeded()
    with pytest.raises(UsageError, match=r"holds no HuBERT, wav2vec 2.0 or WavLM"):
        export_s3prl(nn.Linear(2, 2), tmp_path / "x.pt")
    expert = base_expert("wavlm", "base", tmp_path, generator)
    expert.model.cfg.gru_rel_pos = False
    with pytest.raises(UsageError, match="wavlm has no attention without gated relative positions"):
        export_hf(expert, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()
    expert = base_expert("wav2vec2", "base", tmp_path, generator)
    expert.model.cfg.activation_fn = "linear"
    with pytest.raises(UsageError, match="has no activation_fn linear; export --format s3prl"):
        export_hf(expert, tmp_path / "hf")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("keep")
    with pytest.raises(UsageError, match="full is not an empty folder"):
        export_hf(base_expert("hubert", "base", tmp_path, generator), tmp_path / "full")
    assert (tmp_path / "full" / "mine").read_text() == "keep"


def test_random_state_is_left_alone_and_heads_are_dropped(tmp_path: Path) -> None:
    generator, _ = seeded()
    expert = base_expert("hubert", "base", tmp_path, generator)
    before = torch.random.get_rng_state()
    export_hf(expert, tmp_path / "hf")
    assert torch.equal(before, torch.random.get_rng_state())
    stored = load_file(tmp_path / "hf" / "model.safetensors")
    assert not [n for n in stored if "final_proj" in n or "label_embs" in n]
    assert len(stored) == len(expert.state_dict()) - 3
