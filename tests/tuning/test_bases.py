"""Every kind of base can be tuned: s3prl's stock experts, Hugging Face folders, tuned checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ssft_bench.checkpoints.delta import read_checkpoint
from ssft_bench.checkpoints.exporters import export_hf
from ssft_bench.upstream import load_upstream
from tests.checkpoints.layouts import content, seeded

pytestmark = pytest.mark.usefixtures("one_thread")
Bench = Callable[..., tuple[int, str, str]]
NAMED = {("score", "hubert"), ("laser", "wavlm"), ("rewire", "wav2vec2")}
"""Methods and families with a name of their own."""


def converted(folder: Path, family: str) -> Path:
    """A stock checkpoint of s3prl with random weights, like Base but with the mini frame rate."""
    path = folder / f"{family}.pt"
    torch.save(content(family, "mini", seeded()[0]), path)
    return path


@pytest.mark.parametrize(
    ("family", "hf", "method"),
    [
        ("hubert", False, "score"), ("wavlm", False, "laser"), ("wav2vec2", False, "spin"),
        ("wavlm", False, "rewire"), ("hubert", True, "score"), ("wav2vec2", True, "rewire"),
    ],
)  # fmt: skip
def test_tune(
    bench: Bench, toy_an4: Path, tmp_path: Path, family: str, hf: bool, method: str
) -> None:
    path = converted(tmp_path, family)
    base = f"{family}_local:ckpt={path}"
    if hf:
        export_hf(load_upstream(f"{family}_local", {"ckpt": str(path)}).expert, tmp_path / "hf")
        base = f"hf_{family}_custom:ckpt={tmp_path / 'hf'}"
    recipe = "wav2vec2_mini" if method == "rewire" else "hubert_mini"
    more = ["--set", "method.options.positive=twin"] if method == "rewire" else []
    if method == "spin":
        more = ["--set", "data.batch_seconds=4", "--set", "data.min_seconds=0"]
    code, _, err = bench(
        "tune", "--method", method, "--base", base, "--recipe", recipe, "--corpus", "an4",
        "--data", toy_an4, "-o", tmp_path / "out", "--workers", 0, "--set", "train.steps=2",
        "--set", "train.precision=32-true", "--set", "store=float32", "--device", "cpu",
        "--set", "train.optimizer.lr=0.01", *more,
    )  # fmt: skip
    assert code == 0, err
    checkpoint = tmp_path / "out" / "checkpoint.safetensors"
    names = read_checkpoint(checkpoint).tensors.keys()
    if method == "rewire":
        assert any("conv_layers.0" in n for n in names)
    else:
        assert {n.split("layers.")[1].split(".")[0] for n in names} == {"1", "2"}
    if (method, family) in NAMED:  # a tuned checkpoint is a base again
        again, _, err = bench(
            "tune", "--method", "score", "--base", f"{method}_{family}_local:ckpt={checkpoint}",
            "--recipe", "hubert_mini", "--corpus", "an4", "--data", toy_an4, "--workers", 0,
            "-o", tmp_path / "twice", "--set", "train.steps=2", "--device", "cpu",
            "--set", "train.optimizer.lr=0.01",
        )  # fmt: skip
        assert again == 0, err
        base_of = read_checkpoint(tmp_path / "twice" / "checkpoint.safetensors").about["base"]
        assert base_of["name"] == f"{method}_{family}_local"
