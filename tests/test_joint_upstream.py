"""Several upstreams side by side: `--upstream a+b`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ssft_bench import registry
from ssft_bench.errors import UsageError
from ssft_bench.upstream import load_upstream
from tests.conftest import SMALL

Bench = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hubert_mini", ["hubert_mini"]),
        ("hubert_mini+wav2vec2_mini", ["hubert_mini", "wav2vec2_mini"]),
        ("hubert_local:ckpt=/a/c++/x.pt", ["hubert_local:ckpt=/a/c++/x.pt"]),
        ("hubert_local:ckpt=/a+b.pt+fbank", ["hubert_local:ckpt=/a+b.pt", "fbank"]),
        ("./mine.py:Mine:gain=2+hubert_mini", ["./mine.py:Mine:gain=2", "hubert_mini"]),
        ("./mine.py:Mine+fbank+fbank", ["./mine.py:Mine", "fbank", "fbank"]),
    ],
)
def test_where_names_are_split(text: str, parts: list[str]) -> None:
    assert registry.split_joint(text) == parts


def test_layers_of_all_in_their_order() -> None:
    joint = load_upstream("hubert_mini+fbank+wav2vec2_mini", {}).eval()
    single = [load_upstream(n, {}).eval() for n in ("hubert_mini", "fbank", "wav2vec2_mini")]
    assert joint.spec.parts == tuple(own.spec.num_layers for own in single)
    assert joint.spec.dims == sum((own.spec.dims for own in single), ())
    assert joint.spec.strides == sum((own.spec.strides for own in single), ())
    waves = [torch.randn(n) * 0.1 for n in (16000, 9000)]
    with torch.no_grad():
        hidden = joint(waves)
        alone = [own(waves) for own in single]
    states = [state for own in alone for state in own.states]
    lengths = [length for own in alone for length in own.layer_lengths]
    assert len(hidden) == len(states)
    for mine, theirs in zip(hidden.states, states, strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(hidden.layer_lengths, lengths, strict=True):
        assert torch.equal(mine, theirs)
    assert hidden.layer_lengths[7][0] > hidden.layer_lengths[0][0]  # fbank has twice the frames


def test_a_misspelt_part_is_named() -> None:
    with pytest.raises(UsageError, match=r"unknown upstream 'hubert_minni'.*hubert_mini"):
        load_upstream("fbank+hubert_minni", {})


@pytest.mark.parametrize(
    ("interface", "second"),
    [
        ("hconv", "{}/spectrum.py:Spectrum:gain=2"),
        ("chconv", "{}/spectrum.py:Spectrum:gain=2"),
        ("chconv", "fbank"),
        ("weighted_sum", "fbank"),
    ],
)
def test_runs(
    bench: Bench, toy_an4: Path, toy_plugins: Path, tmp_path: Path, interface: str, second: str
) -> None:
    """fbank has another width and frame rate than the toy upstream."""
    joint = f"{toy_plugins}/spectrum.py:Spectrum+{second.format(toy_plugins)}"
    code, out, err = bench(
        "run", "--upstream", joint, "--interface", interface, "--task", "pr", "--corpus", "an4",
        "--data", toy_an4, "--out", tmp_path / "runs", *SMALL, "--set", "train.steps=3", "--json",
    )  # fmt: skip
    assert code == 0, err
    record = json.loads(out)
    layers = 3 if second == "fbank" else 4
    assert len(record["interface_state"]["layer_usage"]) == layers
    assert sum(record["interface_state"]["layer_usage"]) == pytest.approx(1)
    assert record["interface_state"]["output_stride"] == (160 if second == "fbank" else 320)
    assert record["content"]["upstream_source"] is not None
