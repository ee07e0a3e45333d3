"""s3prl upstreams as givers of HiddenStates: layers, lengths, checkpoints in s3prl's own layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ssft_bench.errors import MissingError, UsageError
from ssft_bench.upstream import Upstream, load_upstream, weights_sha256

MODEL = {
    "label_rate": 50, "extractor_mode": "layer_norm", "encoder_layers": 2, "encoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 32, "encoder_attention_heads": 2, "final_dim": 8,
    "conv_feature_layers": "[(8,10,5)] + [(8,3,2)] * 4 + [(8,2,2)] * 2", "conv_pos": 16, "conv_pos_groups": 2,
}  # fmt: skip


def checkpoint(path: Path, seed: int) -> Path:
    """A HuBERT of two layers in the layout of s3prl's converted checkpoints."""
    from s3prl.upstream.hubert.hubert_model import (
        HubertConfig,
        HubertModel,
        HubertPretrainingConfig,
    )

    torch.manual_seed(seed)
    task = {"label_rate": 50, "sample_rate": 16000, "normalize": False}
    symbols = [[str(i) for i in range(10)]]
    model = HubertModel(HubertConfig(**MODEL), HubertPretrainingConfig(**task), symbols)
    state = {
        "task_cfg": task, "model_cfg": MODEL, "model_weight": model.state_dict(),
        "dictionaries_symbols": symbols,
    }  # fmt: skip
    torch.save(state, path)
    return path


def test_a_converted_s3prl_checkpoint(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "tiny.pt", 1)
    upstream = load_upstream("hubert_local", {"ckpt": str(path)}).eval()
    assert upstream.spec.num_layers == 3
    assert set(upstream.spec.dims) == {16}
    assert set(upstream.spec.strides) == {320}
    waves = [torch.randn(n) for n in (16000, 7531)]
    with torch.no_grad():
        hidden = upstream(waves)
        raw = upstream.expert(waves)["hidden_states"]
    assert hidden.lengths.tolist() == [49, 24]  # min(round(n / 320), frames)
    for mine, theirs in zip(hidden.states, raw, strict=True):
        assert torch.equal(mine, theirs)
    # s3prl gives [T, B, D] memory seen as [B, T, D]; no copy was made of it.
    assert not hidden.states[1].is_contiguous()
    assert hidden.states[1].transpose(0, 1).is_contiguous()


def test_weights_are_known_by_their_bytes(tmp_path: Path) -> None:
    first = load_upstream("hubert_local", {"ckpt": str(checkpoint(tmp_path / "a.pt", 1))})
    moved = load_upstream("hubert_local", {"ckpt": str(checkpoint(tmp_path / "b.pt", 1))})
    other = load_upstream("hubert_local", {"ckpt": str(checkpoint(tmp_path / "c.pt", 2))})
    assert weights_sha256(first) == weights_sha256(moved) != weights_sha256(other)


def test_a_missing_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"nowhere\.pt"):
        load_upstream("hubert_local", {"ckpt": str(tmp_path / "nowhere.pt")})
    (tmp_path / "text.pt").write_text("not a checkpoint")
    with pytest.raises(MissingError, match=r"text\.pt is not a checkpoint"):
        load_upstream("hubert_local", {"ckpt": str(tmp_path / "text.pt")})


def test_fbank_through_s3prl() -> None:
    upstream = load_upstream("fbank", {})
    hidden = upstream([torch.randn(16000)])
    assert upstream.spec.strides == (160,)
    assert upstream.spec.dims == (240,)  # 80 mel filters with two deltas
    assert int(hidden.lengths[0]) in range(98, 101)


class Liar(torch.nn.Module):
    """Declares twice the frames it gives."""

    def get_downsample_rates(self, key: str) -> int:
        return 160

    def forward(self, wavs: list[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
        return {"hidden_states": [torch.zeros(len(wavs), max(map(len, wavs)) // 320, 4)]}


def test_a_wrong_frame_rate_is_noticed() -> None:
    with pytest.raises(UsageError, match="get_downsample_rates"):
        Upstream("liar", Liar())([torch.zeros(16000)])


@pytest.mark.parametrize("name", ["hubert_mini", "wav2vec2_mini", "wavlm_mini"])
def test_packaged_models(name: str) -> None:
    upstream, control = load_upstream(name, {}).eval(), load_upstream(f"{name}_random", {}).eval()
    assert upstream.spec.num_layers >= 7
    assert set(upstream.spec.strides) == {320}
    assert weights_sha256(upstream) != weights_sha256(control)
    waves = [torch.randn(n) * 0.1 for n in (16000, 9000)]
    with torch.no_grad():
        both = upstream(waves)
        single = upstream([waves[1]])
    frames = int(single.lengths[0])
    for batched, alone in zip(both.states, single.states, strict=True):
        torch.testing.assert_close(batched[1, :frames], alone[0, :frames], rtol=1e-3, atol=1e-3)
    with pytest.raises(UsageError, match="sed"):
        load_upstream(name, {"sed": 3})
    with pytest.raises(MissingError, match="nowhere"):
        load_upstream(f"{name}_local", {"ckpt": "nowhere.safetensors"})


def test_names_in_s3prl() -> None:
    from s3prl.nn import S3PRLUpstream

    import ssft_bench  # noqa: F401

    model = S3PRLUpstream("hubert_mini").eval()
    with torch.no_grad():
        states, lengths = model(torch.randn(1, 16000), torch.tensor([16000]))
    assert len(states) == model.num_layers
    assert int(lengths[0][0]) == 50
