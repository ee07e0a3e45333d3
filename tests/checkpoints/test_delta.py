"""Checkpoints of ours: what is in them, and when they are refused."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ssft_bench.checkpoints.delta import (
    FORMAT,
    Checkpoint,
    apply_checkpoint,
    changed_tensors,
    read_checkpoint,
    save_checkpoint,
)
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.files import hash_path
from ssft_bench.upstream import weights_sha256


class Small(nn.Module):
    """A stand-in for an expert: parameters of two types, a buffer of integers."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.a = nn.Parameter(torch.randn(5, 3, generator=generator))
        self.b = nn.Parameter(torch.randn(4, generator=generator).double())
        self.c = nn.Parameter(torch.randn(2, 2, generator=generator))
        self.register_buffer("count", torch.tensor([1, 2, 3]))


def fresh_seed() -> int:
    return int(np.random.default_rng().integers(2**31))


def about(expert: nn.Module, **more: Any) -> dict[str, Any]:
    base = {"name": "hubert_x", "options": {"ckpt": "x.pt"}, "sha256": weights_sha256(expert)}
    return {
        "name": "score_hubert", "method": "score", "base": base, "recipe": {"steps": 3}, "steps": 3,
        "hours_processed": 0.5, "versions": {"torch": torch.__version__}, **more,
    }  # fmt: skip


def state_of(expert: nn.Module) -> dict[str, Tensor]:
    return {name: t.detach().clone() for name, t in expert.state_dict().items()}


def test_changed_tensors_against_bytes() -> None:
    seed = fresh_seed()
    rng = np.random.default_rng(seed)
    base = {f"t{i}": torch.from_numpy(rng.standard_normal((3, 4))) for i in range(12)}
    base["half"] = torch.zeros(4, dtype=torch.bfloat16)
    base["nan"] = torch.full((2,), float("nan"))
    tuned = {k: v.clone() for k, v in base.items()}
    for i in rng.choice(12, 5, replace=False):
        tuned[f"t{i}"].view(-1)[int(rng.integers(12))] *= 1 + 2**-52
    tuned["half"][2] = -0.0  # equal by value, another bit

    def raw(t: Tensor) -> bytes:
        return t.contiguous().view(torch.uint8).numpy().tobytes()

    expected = {k for k in base if raw(base[k]) != raw(tuned[k])}
    found = changed_tensors(base, tuned)
    assert set(found) == expected, seed
    assert len(expected) == 6, seed
    assert all(raw(found[k]) == raw(tuned[k]) for k in found), seed
    # Negative control: comparing values finds the unchanged NaN and misses the changed bit.
    by_value = {k for k in base if not torch.equal(base[k], tuned[k])}
    assert by_value ^ expected == {"nan", "half"}


@pytest.mark.parametrize("change", ["missing", "unknown", "other shape"])
def test_changed_tensors_names_what_does_not_match(change: str) -> None:
    base = {"a.weight": torch.zeros(2), "b.weight": torch.zeros(3)}
    tuned = dict(base)
    if change == "missing":
        del tuned["b.weight"]
    elif change == "unknown":
        tuned["b.weight_g"] = torch.zeros(1)
    else:
        tuned["b.weight"] = torch.zeros(4)
    with pytest.raises(UsageError, match=f"{change}: b.weight"):
        changed_tensors(base, tuned)


def test_round_trip(tmp_path: Path) -> None:
    seed = fresh_seed()
    base, tuned = Small(seed), Small(seed)
    with torch.no_grad():
        tuned.a.add_(0.1)
        tuned.b.mul_(1.5)
    before, path = state_of(base), tmp_path / "deep" / "score.safetensors"
    extra = {"codebook.weight": torch.randn(3, 2), "a": torch.ones(1)}
    digest = save_checkpoint(path, changed_tensors(before, tuned.state_dict()), about(base), extra)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert hash_path(path).read_text() == f"{digest}  score.safetensors\n"
    assert sorted(p.name for p in path.parent.iterdir()) == ["score.safetensors", "score.sha256"]

    read = read_checkpoint(path)
    assert set(read.tensors) == {"a", "b"}
    assert read.about == about(base)
    assert set(read.extra) == {"codebook.weight", "a"}
    assert torch.equal(read.extra["codebook.weight"], extra["codebook.weight"])
    apply_checkpoint(base, read, path)
    assert not changed_tensors(tuned.state_dict(), base.state_dict()), seed
    assert torch.equal(base.c, before["c"])
    assert base.b.dtype == torch.float64
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == FORMAT
    assert metadata["about"] == json.dumps(about(Small(seed)), sort_keys=True)


def test_half_precision_storage(tmp_path: Path) -> None:
    seed = fresh_seed()
    base, path = Small(seed), tmp_path / "half.safetensors"
    tensors = {"a": torch.randn(5, 3), "count": torch.tensor([7, 8, 70000])}
    save_checkpoint(path, tensors, about(base), {"head": torch.randn(4)}, torch.float16)
    read = read_checkpoint(path)
    assert read.tensors["a"].dtype == read.extra["head"].dtype == torch.float16
    assert read.tensors["count"].dtype == torch.int64
    apply_checkpoint(base, read, path)
    expected = torch.from_numpy(tensors["a"].numpy().astype(np.float16).astype(np.float32))
    assert torch.equal(base.a, expected)
    assert base.a.dtype == torch.float32
    assert not torch.equal(base.a, tensors["a"]), "no rounding happened: the test shows nothing"
    assert torch.equal(base.count, tensors["count"])
    with pytest.raises(UsageError, match=r"tensor a has values that torch.float16 cannot hold"):
        save_checkpoint(path, {"a": torch.full((5, 3), 7e4)}, about(base), None, torch.float16)


def test_refused_on_another_base(tmp_path: Path) -> None:
    seed = fresh_seed()
    base, path = Small(seed), tmp_path / "x.safetensors"
    save_checkpoint(path, {"a": torch.zeros(5, 3)}, about(base))
    other = Small(seed)
    with torch.no_grad():
        other.c.view(torch.int32)[0, 0] ^= 1  # the last bit of one weight
    before = state_of(other)
    with pytest.raises(MissingError, match=r"belongs to base hubert_x:ckpt=x.pt") as caught:
        apply_checkpoint(other, read_checkpoint(path), path)
    assert weights_sha256(base)[:12] in str(caught.value)
    assert weights_sha256(other)[:12] in str(caught.value)
    assert "Small" in str(caught.value)
    assert not changed_tensors(before, other.state_dict()), "a refused checkpoint left traces"
    apply_checkpoint(base, read_checkpoint(path), path)  # control: the right base takes it


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"a": torch.zeros(5, 3), "nope": torch.zeros(1)}, "unknown: nope"),
        ({"c": torch.zeros(2, 3)}, r"other shape: c \[2, 3\] for \[2, 2\]"),
    ],
)
def test_refused_tensors(tensors: dict[str, Tensor], said: str) -> None:
    base = Small(1)
    before = state_of(base)
    with pytest.raises(MissingError, match=said):
        apply_checkpoint(base, Checkpoint(tensors, {}, about(base)), "file.safetensors")
    assert not changed_tensors(before, base.state_dict())


def test_damaged_files(tmp_path: Path) -> None:
    base, path = Small(fresh_seed()), tmp_path / "x.safetensors"
    stored = torch.randn(5, 3)
    save_checkpoint(path, {"a": stored}, about(base))
    whole = path.read_bytes()
    at = int(np.random.default_rng().integers(len(whole) - 60, len(whole)))
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(MissingError, match=r"x.sha256 says .*: damaged"):
        read_checkpoint(path)
    hash_path(path).unlink()
    assert not torch.equal(read_checkpoint(path).tensors["a"], stored)  # unnoticed without a digest
    path.write_bytes(whole[:-8])
    with pytest.raises(MissingError, match="is not a safetensors file"):
        read_checkpoint(path)
    hash_path(path).write_text("")
    with pytest.raises(MissingError, match="says nothing: damaged"):
        read_checkpoint(path)
    save_checkpoint(path, {"a": torch.zeros(5, 3)}, about(base))  # writing again mends both
    assert read_checkpoint(path).tensors["a"].count_nonzero() == 0


def test_not_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no checkpoint .*gone.safetensors.*ssft-bench tune"):
        read_checkpoint(tmp_path / "gone.safetensors")
    for save, name in ((True, "states-3600.ckpt"), (False, "old.pt"), (True, "x.safetensors")):
        path = tmp_path / name
        torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=save)
        with pytest.raises(MissingError, match=re.escape(f"ssft-bench import {path} --base")):
            read_checkpoint(path)
    (tmp_path / "text.safetensors").write_text("hello, this is no checkpoint")
    with pytest.raises(MissingError, match="is not a safetensors file"):
        read_checkpoint(tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors", {"format": "pt"})
    with pytest.raises(MissingError, match="says format 'pt'; this release reads 'ssft-bench"):
        read_checkpoint(tmp_path / "other.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "b.safetensors", {"format": FORMAT, "about": "{"})
    with pytest.raises(MissingError, match="metadata 'about' cannot be read"):
        read_checkpoint(tmp_path / "b.safetensors")
    bare = json.dumps({"base": {"name": "x"}})
    save_file({"a": torch.zeros(2)}, tmp_path / "c.safetensors", {"format": FORMAT, "about": bare})
    with pytest.raises(MissingError, match=r"lacks name, method, .*sha256"):
        read_checkpoint(tmp_path / "c.safetensors")


def test_a_header_may_start_like_a_pickle(tmp_path: Path) -> None:
    """A safetensors header of 640 bytes starts with 0x80 0x02, as a pickle does."""
    base = Small(3)
    for padding in range(700):
        path = tmp_path / "x.safetensors"
        save_checkpoint(path, {"a": torch.zeros(5, 3)}, about(base, note="x" * padding))
        if path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04"):
            assert set(read_checkpoint(path).tensors) == {"a"}
            return
    pytest.fail("no header length of that kind came up")


def test_what_save_refuses(tmp_path: Path) -> None:
    base = Small(4)
    good = about(base)
    with pytest.raises(UsageError, match=r"name ends in .safetensors"):
        save_checkpoint(tmp_path / "x.pt", {}, good)
    lacking = {k: v for k, v in good.items() if k != "steps"} | {
        "base": {"name": "", "options": {}}
    }
    with pytest.raises(UsageError, match=r"about lacks steps, base.sha256"):
        save_checkpoint(tmp_path / "x.safetensors", {}, lacking)
    with pytest.raises(UsageError, match="not plain JSON"):
        save_checkpoint(tmp_path / "x.safetensors", {}, good | {"recipe": {"lr": float("nan")}})
    assert not list(tmp_path.iterdir())
