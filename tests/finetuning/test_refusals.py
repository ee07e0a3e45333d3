"""Upstreams in which there is nothing to choose, and packages that are not there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssft_bench.errors import MissingError, UsageError
from ssft_bench.finetuning.spec import FineTuneSpec
from ssft_bench.finetuning.trainable import choose
from ssft_bench.upstream import JointUpstream, Upstream
from tests.finetuning.models import build, values

pytestmark = pytest.mark.usefixtures("one_thread")


class OneMatrix(nn.Module):
    """An expert whose attention has its queries, keys and values in one matrix."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.encoder = nn.Module()
        self.model.encoder.layers = nn.ModuleList([nn.Module()])
        layer: Any = self.model.encoder.layers[0]
        if kind == "fused":
            layer.qkv, layer.out_proj = nn.Linear(20, 60), nn.Linear(20, 20)
        else:
            layer.self_attn = nn.MultiheadAttention(20, 2)
        self.kind = kind

    def get_downsample_rates(self, key: str) -> int:
        return 320

    def forward(self, wavs: list[Tensor]) -> dict[str, Any]:
        x = torch.stack([w[: len(w) // 320 * 320].view(-1, 320)[:, :20] for w in wavs])
        layer: Any = self.model.encoder.layers[0]  # type: ignore[union-attr]
        if self.kind == "fused":
            return {"hidden_states": [x, layer.out_proj(layer.qkv(x)[..., 20:40])]}
        return {"hidden_states": [x, layer.self_attn(x, x, x)[0]]}


def test_one_matrix_for_all() -> None:
    upstream = Upstream("fused", OneMatrix("fused"))
    with pytest.raises(UsageError, match=r"in one matrix; say targets=q\+k\+v"):
        choose(upstream, FineTuneSpec(trainable="lora:r=2"), 0)
    learned = choose(upstream, FineTuneSpec(trainable="lora:r=2,targets=q+k+v"), 0)
    sizes = {n.split(".")[-3]: values(upstream)[n].shape for n in learned.encoder}
    assert sizes == {"lora_A": (2, 20), "lora_B": (60, 2)}
    with pytest.raises(UsageError, match="cannot be reached; use top:K"):
        choose(Upstream("whole", OneMatrix("whole")), FineTuneSpec(trainable="lora:r=2"), 0)


@pytest.mark.parametrize(
    ("kind", "trainable", "words"),
    [
        ("hubert-base", "top:4", r"finetune.trainable=top:4: hubert-base has 3 layers"),
        ("fused", "lora:r=2,targets=fc1", "target fc1: the layers of fused have no fc1"),
        ("fused", "adapter:2", "transformer layers have no norm"),
        ("bare", "lora:r=2", "bare has no transformer layers"),
        ("bare", "all", "nothing of bare can learn"),
    ],
)
def test_what_cannot_be(kind: str, trainable: str, words: str, tmp_path: Path) -> None:
    class Bare(OneMatrix):
        def forward(self, wavs: list[Tensor]) -> dict[str, Any]:
            return {"hidden_states": [torch.ones(len(wavs), len(wavs[0]) // 320, 4)]}

    experts = {"fused": OneMatrix("fused"), "bare": Bare("fused")}
    if kind == "bare":
        del experts["bare"].model.encoder
    upstream = Upstream(kind, experts[kind]) if kind in experts else build(kind, tmp_path, 0)
    with pytest.raises(UsageError, match=words):
        choose(upstream, FineTuneSpec(trainable=trainable), 0)


def test_joint_upstream(tmp_path: Path) -> None:
    joint = JointUpstream("a+b", [build("hubert-base", tmp_path, 0)])
    with pytest.raises(UsageError, match=r"takes one upstream, not several \(a\+b\)"):
        choose(joint, FineTuneSpec(), 0)


def test_peft_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingError, match=r"needs the package peft"):
        choose(build("hubert-base", tmp_path, 0), FineTuneSpec(trainable="lora:r=2"), 0)
