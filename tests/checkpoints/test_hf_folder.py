"""Hugging Face folders, transformers' own and ours, onto a base expert."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from s3prl.upstream.hubert.hubert_model import HubertConfig, HubertModel, HubertPretrainingConfig
from s3prl.upstream.wav2vec2.wav2vec2_model import Wav2Vec2Config, Wav2Vec2Model
from s3prl.upstream.wavlm.WavLM import WavLM, WavLMConfig
from safetensors.torch import load_file, save_file

from ssft_bench.checkpoints.delta import changed_tensors
from ssft_bench.checkpoints.exporters import export_hf
from ssft_bench.checkpoints.hf_folder import hf_classes, import_hf
from ssft_bench.checkpoints.hf_names import translation
from ssft_bench.checkpoints.importers import import_checkpoint
from ssft_bench.errors import MissingError
from tests.checkpoints.layouts import TARGETS, base_expert, seeded


def hf_folder(folder: Path, *, head: bool = True, **options: Any) -> transformers.HubertForCTC:
    """A folder of transformers' own: HuBERT with a CTC head, in the shape `large` of layouts.py."""
    model = transformers.HubertForCTC(
        transformers.HubertConfig(
            hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
            conv_dim=[20] * 4, conv_kernel=[10, 8, 8, 4], conv_stride=[5, 4, 4, 4], conv_bias=True,
            feat_extract_norm="layer", do_stable_layer_norm=True, num_conv_pos_embeddings=17,
            num_conv_pos_embedding_groups=4, vocab_size=TARGETS,
        )
    )  # fmt: skip
    (model if head else model.hubert).save_pretrained(folder, **options)
    return model


def test_folder_with_a_head(tmp_path: Path) -> None:
    """Shards and names with a prefix; the CTC head is kept aside, the pre-training head is the base's."""
    generator, seed = seeded()
    expert = base_expert("hubert", "large", tmp_path, generator)
    model = hf_folder(tmp_path / "ctc", max_shard_size="20KB")
    assert len(list((tmp_path / "ctc").glob("*.safetensors"))) > 1
    imported = import_checkpoint(tmp_path / "ctc", expert)
    assert imported.kind == "hf"
    assert torch.equal(imported.extra["lm_head.weight"], model.lm_head.weight), seed
    assert set(imported.extra) == {"lm_head.weight", "lm_head.bias"}
    layer = model.hubert.encoder.layers[1]
    pairs = {
        "encoder.layers.1.self_attn.k_proj.weight": layer.attention.k_proj.weight,
        "encoder.layers.1.fc2.bias": layer.feed_forward.output_dense.bias,
        "encoder.layers.1.self_attn_layer_norm.weight": layer.layer_norm.weight,
        "encoder.pos_conv.0.weight_g": (
            model.hubert.encoder.pos_conv_embed.conv.parametrizations.weight.original0
        ),
        "mask_emb": model.hubert.masked_spec_embed,
    }
    for name, tensor in pairs.items():
        assert torch.equal(imported.state[f"model.{name}"], tensor), (name, seed)
    kept = {n for n in imported.state if "final_proj" in n or "label_embs" in n}
    same = set(imported.state) - set(changed_tensors(expert.state_dict(), imported.state))
    assert kept <= same


def test_old_and_half_precision_folders(tmp_path: Path) -> None:
    """`pytorch_model.bin` with the weight norm's old names, stored in half precision."""
    generator, seed = seeded()
    expert = base_expert("hubert", "large", tmp_path, generator)
    folder = tmp_path / "old"
    model = hf_folder(folder, head=False)
    old = {".parametrizations.weight.original0": ".weight_g",
           ".parametrizations.weight.original1": ".weight_v"}  # fmt: skip
    state = {}
    for name, tensor in model.hubert.state_dict().items():
        for new, ours in old.items():
            name = name.replace(new, ours)
        state[name] = tensor.half()
    del state["masked_spec_embed"]  # absent where the config switches masking off
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    found, extra = import_hf(folder, expert)
    assert extra == {}
    assert {t.dtype for t in found.values()} == {torch.float32}
    name = "encoder.pos_conv.0.weight_v"
    assert torch.equal(
        found[f"model.{name}"], state["encoder.pos_conv_embed.conv.weight_v"].float()
    )
    assert torch.equal(found["model.mask_emb"], expert.model.mask_emb), seed


def test_folder_refusals(tmp_path: Path) -> None:
    generator, _ = seeded()
    expert = base_expert("hubert", "large", tmp_path, generator)
    folder = tmp_path / "hf"
    hf_folder(folder)
    good = (folder / "config.json").read_text()

    def refused(old: str, new: str, said: str) -> None:
        assert old in good
        (folder / "config.json").write_text(good.replace(old, new))
        with pytest.raises(MissingError, match=said):
            import_checkpoint(folder, expert)
        (folder / "config.json").write_text(good)

    refused('"hubert"', '"wavlm"', "model_type 'wavlm', the base is a hubert")
    refused(
        '"hidden_act": "gelu"', '"hidden_act": "relu"', "unlike its base: hidden_act relu for gelu"
    )
    refused('"num_attention_heads": 4', '"num_attention_heads": 8', "num_attention_heads 8 for 4")
    refused("{", "[", r"config.json is not JSON")
    (folder / "preprocessor_config.json").write_text('{"do_normalize": false}')
    with pytest.raises(MissingError, match="normalize False for True"):
        import_checkpoint(folder, expert)
    (folder / "preprocessor_config.json").write_text('{"do_normalize": true}')
    assert import_checkpoint(folder, expert).kind == "hf"  # control
    smaller = base_expert("hubert", "mini", tmp_path, generator)
    with pytest.raises(MissingError, match=r"is built unlike its base: .*conv_dim"):
        import_checkpoint(folder, smaller)
    shutil.copy(folder / "model.safetensors", tmp_path / "m.safetensors")
    (folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(MissingError, match=r"model.safetensors cannot be read"):
        import_checkpoint(folder, expert)
    (folder / "model.safetensors").unlink()
    with pytest.raises(MissingError, match=r"neither model.safetensors nor pytorch_model.bin"):
        import_checkpoint(folder, expert)
    (folder / "config.json").unlink()
    with pytest.raises(MissingError, match=r"has no config.json"):
        import_checkpoint(folder, expert)


def test_a_projection_that_the_base_lacks(tmp_path: Path) -> None:
    generator, _ = seeded()
    expert = base_expert("hubert", "mini", tmp_path, generator)
    export_hf(expert, tmp_path / "hf")
    assert not changed_tensors(
        expert.state_dict(), import_checkpoint(tmp_path / "hf", expert).state
    )
    stored = load_file(tmp_path / "hf" / "model.safetensors")
    stored["feature_projection.projection.weight"][0, 1] = 0.1
    save_file(stored, tmp_path / "hf" / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        MissingError, match="is not the identity, and the base has no such projection"
    ):
        import_checkpoint(tmp_path / "hf", expert)


@pytest.mark.parametrize(
    ("family", "tensors", "heads"), [("hubert", 214, 3), ("wav2vec2", 218, 7), ("wavlm", 248, 0)]
)
def test_names_of_the_published_models(
    family: str, tensors: int, heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Base models of fairseq and Microsoft have all tensors, by shape, of transformers' own.

    214 and 248 tensors: specification of SCORE, section 5.
    """
    # Tensors without data cannot be initialised in WavLM's way.
    monkeypatch.setattr("s3prl.upstream.wavlm.WavLM.init_bert_params", lambda module: None)
    wavlm = {"relative_position_embedding": True, "gru_rel_pos": True, "max_distance": 800}
    with torch.random.fork_rng(), torch.device("meta"):
        model = {
            "hubert": lambda: HubertModel(
                HubertConfig(label_rate=50, final_dim=256), HubertPretrainingConfig(), [range(504)]
            ),
            "wav2vec2": lambda: Wav2Vec2Model(Wav2Vec2Config(quantize_targets=True, final_dim=256)),
            "wavlm": lambda: WavLM(WavLMConfig(wavlm)),
        }[family]()
        config, theirs = hf_classes(family)
        wanted = {n: t.shape for n, t in theirs(config()).state_dict().items()}
    ours = model.state_dict()
    names = translation(ours)
    assert len(ours) == tensors
    assert len(ours) - len(names) == heads
    assert {names[n]: t.shape for n, t in ours.items() if n in names} == wanted
