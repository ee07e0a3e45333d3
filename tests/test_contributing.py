"""What CONTRIBUTING.md says works as written."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ssft_bench import registry, results
from tests.conftest import SMALL
from tests.states import random_states, require_grad, spec
from tests.upstreams.tiny import write_tiny

ROOT = Path(__file__).resolve().parent.parent
Bench = Callable[..., tuple[int, str, str]]


@pytest.fixture
def example(tmp_path: Path) -> str:
    """Name of the example interface, as a file outside the repository."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code, _ = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "two_layers.py").write_text(code)
    return f"{tmp_path}/two_layers.py:TwoLayers"


def test_the_example_interface(example: str) -> None:
    cls = registry.load("interfaces", example)
    interface = cls(spec(13, 8), start=0.25).double()
    assert interface.layers_used() == (6, 12)
    hidden = require_grad(random_states(13, 8, 1))
    features, _ = interface(hidden)
    wanted = 0.25 * hidden.states[6] + 0.75 * hidden.states[12]
    assert torch.allclose(features, wanted, atol=1e-6)
    features.square().sum().backward()
    assert interface.mix.grad is not None
    one = cls(spec(1, 8)).double()(random_states(1, 8, 2))[0]
    assert one.shape[-1] == 8


def test_the_example_interface_trains(
    bench: Bench, example: str, toy_an4: Path, toy_plugins: Path, tmp_path: Path
) -> None:
    code, _, err = bench(
        "run", "--upstream", f"{toy_plugins}/spectrum.py:Spectrum", "--task", "pr",
        "--interface", f"{example}:start=0.3", "--corpus", "an4", "--data", toy_an4,
        "--out", tmp_path / "runs", *SMALL, "--set", "train.steps=5",
    )  # fmt: skip
    assert code == 0, err
    ((_, record),) = results.find_all(tmp_path / "runs")
    assert record.spec.interface.options == {"start": 0.3}
    assert record.interface_state["layers_used"] == [0, 1]


def test_the_example_method_tunes(bench: Bench, toy_an4: Path, tmp_path: Path) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (recipe,) = re.findall(r"(?m)^    hubert_mini:\n(?:      .*\n)+", text)
    (tmp_path / "denoise.py").write_text(code)
    (tmp_path / "recipe.yaml").write_text(textwrap.dedent(recipe))
    code_, printed, err = bench(
        "tune", "--method", f"{tmp_path}/denoise.py:Denoise:noise=0.1", "--base",
        f"hubert_mini_local:ckpt={write_tiny(tmp_path)}", "--corpus", "an4", "--data", toy_an4,
        "-o", tmp_path / "tuned", "--set", "train.steps=3", "--workers", 0,
    )  # fmt: skip
    assert code_ == 0, err
    assert "3 updates" in printed


def test_links_lead_somewhere() -> None:
    for name in ("CONTRIBUTING.md", "README.md", "CHANGELOG.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for link in re.findall(r"\]\(([^)#]+)", text):
            assert link.startswith("https://") or (ROOT / link).exists(), f"{name}: {link}"
