"""What a result says of its interface: what it was fitted on, which layers it uses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ssft_bench.hidden_states import HiddenStates
from ssft_bench.interface_in_run import usage
from ssft_bench.interfaces.gated import Gated
from tests.conftest import SMALL
from tests.states import randomize, spec

Bench = Callable[..., tuple[int, str, str]]


@pytest.fixture
def state(
    bench: Bench, toy_an4: Path, toy_plugins: Path, tmp_path: Path
) -> Callable[[str], dict[str, Any]]:
    """interface_state of a short run with an interface."""

    def of(interface: str) -> dict[str, Any]:
        code, out, err = bench(
            "run", "--upstream", f"{toy_plugins}/spectrum.py:Spectrum", "--interface", interface,
            "--task", "pr", "--corpus", "an4", "--data", toy_an4, "--out", tmp_path / "runs",
            *SMALL, "--set", "train.steps=3", "--json",
        )  # fmt: skip
        assert code == 0, err
        found: dict[str, Any] = json.loads(out)["interface_state"]
        return found

    return of


def test_what_pca_was_fitted_on(state: Callable[[str], dict[str, Any]]) -> None:
    found = state("pca_concat:components=8")
    assert found["output_dim"] == 16
    fit = found["fit"]
    assert fit["split"] == "train"
    assert 0 < fit["utterances"] < 50  # dev took some of the training speakers
    assert fit["frames"] > 10 * fit["utterances"]
    assert fit["seconds"] >= 0
    assert sum(found["layer_usage"]) == pytest.approx(1)


def test_gates_are_averaged_over_dev(state: Callable[[str], dict[str, Any]]) -> None:
    found = state("gated")
    assert sum(found["layer_usage"]) == pytest.approx(1)
    assert "gate" in found["usage_kind"]
    assert found["usage_frames"] > 100


def test_groups_and_pooling(state: Callable[[str], dict[str, Any]]) -> None:
    found = state("grouped_weighted_sum")
    assert found["usage_details"] == {
        "group 0": pytest.approx([1, 0]), "group 1": pytest.approx([0, 1])
    }  # fmt: skip
    pooled = state("mhfa")
    assert pooled["options"] == {"window": 25, "heads": 8}
    assert set(pooled["usage_details"]) == {"keys", "values"}
    assert state("mhfa:heads=2")["options"] == {"window": 25, "heads": 2}


@pytest.mark.parametrize("seed", [1, 2])
def test_the_average_against_plain_python(seed: int) -> None:
    torch.manual_seed(seed)
    interface = randomize(Gated(spec(5, 8)).double())
    sums = []
    gates = []
    for lengths in ([3, 6], [1], [4, 0, 2]):
        states = [torch.randn(len(lengths), 6, 8, dtype=torch.float64) for _ in range(5)]
        hidden = HiddenStates(states, torch.tensor(lengths))
        sums.append(interface.gate_sums(hidden))
        for row, length in enumerate(lengths):
            for frame in range(length):
                one = [state[row, frame] for state in states]
                scores = []
                for a, b, h in zip(interface.directions, interface.biases, one, strict=True):
                    normed = (h - h.mean()) / (h.var(unbiased=False) + 1e-5).sqrt()
                    scores.append(float((a @ normed + b).detach()))
                gates.append(torch.tensor(scores, dtype=torch.float64).softmax(0))
    found = usage(interface, sums)
    assert found["usage_frames"] == len(gates) == 16
    assert found["layer_usage"] == pytest.approx(torch.stack(gates).mean(0).tolist())
