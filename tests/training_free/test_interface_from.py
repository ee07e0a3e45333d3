"""Interfaces that another run has trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import SMALL
from tests.training_free.toy import Bench, Run, folder_of, values

POOLED = '''
from ssft_bench.interface import Interface


class Pooled(Interface):
    """The mean over time of the last hidden state."""

    pools_time = True

    def combine(self, states):
        return states[-1].mean(1, keepdim=True)
'''


@pytest.fixture
def trained(bench: Bench, common: list[str], tmp_path: Path) -> Callable[..., Path]:
    """The folder of a short run that trained an interface."""

    def call(interface: str, *more: object) -> Path:
        code, out, err = bench(
            *common, "--interface", interface, "--task", "pr", *SMALL,
            "--set", "train.steps=20", "--set", "train.optimizer.lr=0.3", *more,
        )  # fmt: skip
        assert code == 0, err
        return folder_of(tmp_path, json.loads(out))

    return call


def test_states_are_standardised_as_the_interface_learned_them(
    run: Run, trained: Callable[..., Path]
) -> None:
    """The run's own means and deviations, so scaling them is seen; without its file the way out is told."""
    folder = trained("weighted_sum", "--set", "data.standardize=true")
    plain = trained("weighted_sum", "--set", "data.standardize=false")
    assert not (plain / "standardizer.safetensors").exists()
    stored = load_file(folder / "standardizer.safetensors")
    assert stored.keys() == {f"{k}.{n}" for k in ("mean", "deviation") for n in (0, 1)}
    record = run("weighted_sum", "--interface-from", folder)
    # The same shares on other scales is another sum of the layers.
    stored["deviation.0"] *= 1000
    save_file(stored, folder / "standardizer.safetensors")
    other = run("weighted_sum", "--interface-from", folder)
    assert other["signature"] != record["signature"]
    assert values(other, "test") != values(record, "test")
    assert values(other, "test")["map"] == pytest.approx(
        values(run("layer:index=1"), "test")["map"], abs=3
    )
    (folder / "standardizer.safetensors").unlink()
    with pytest.raises(AssertionError, match=r"cannot read standardizer\.safetensors.*overwrite"):
        run("weighted_sum", "--interface-from", folder)


def test_a_trained_interface(run: Run, trained: Callable[..., Path], tmp_path: Path) -> None:
    folder = trained("weighted_sum", "--set", "data.standardize=false")
    record = run("weighted_sum", "--interface-from", folder)
    shares = load_file(folder / "best.safetensors")["interface.weights"].softmax(0).tolist()
    assert record["interface_state"]["layer_usage"] == pytest.approx(shares)
    assert max(shares) > 0.55  # it has learned something
    assert record["content"]["interface_tensors"]
    # One layer alone, by the same way.
    tensors = load_file(folder / "best.safetensors")
    tensors["interface.weights"] = torch.tensor([100.0, 0.0])
    save_file(tensors, folder / "best.safetensors")
    first = run("weighted_sum", "--interface-from", folder)
    assert first["signature"] != record["signature"]  # bytes count
    assert values(first, "test")["map"] == values(run("layer:index=0"), "test")["map"]
    assert values(first, "test") != values(record, "test")
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    assert run("weighted_sum", "--interface-from", moved)["signature"] == first["signature"]


def test_a_fitted_interface(run: Run, trained: Callable[..., Path]) -> None:
    folder = trained("pca_concat:components=3")
    record = run("pca_concat:components=3", "--interface-from", folder)
    assert record["interface_state"]["output_dim"] == 6
    assert values(record, "test")["map"] > 30


def test_runs_that_do_not_fit(
    bench: Bench, common: list[str], trained: Callable[..., Path], toy_plugins: Path, tmp_path: Path
) -> None:
    folder = trained("weighted_sum")

    def refused(interface: str, *more: object, upstream: str | None = None) -> tuple[int, str]:
        arguments = [*common, "--interface", interface, "--task", "qbe", *more]
        if upstream:
            arguments[arguments.index("--upstream") + 1] = upstream
        code, _, err = bench(*arguments)
        assert "Traceback" not in err
        return code, err

    spectrum = f"{toy_plugins}/spectrum.py:Spectrum"
    source = ("--interface-from", folder)
    for interface in ("weighted_sum", "pca_concat:components=3", "hconv"):
        code, err = refused(interface)
        assert code == 2
        assert "--interface-from" in err
    (toy_plugins / "pooled.py").write_text(POOLED)
    code, err = refused(f"{toy_plugins}/pooled.py:Pooled")
    assert (code, "one vector per utterance" in err) == (2, True)
    code, err = refused("last", *source)
    assert (code, "leave out --interface-from" in err) == (2, True)
    code, err = refused("weighted_sum:temperature=2", *source)
    assert (code, "holds interface weighted_sum, not" in err) == (2, True)
    code, err = refused("gumbel", *source)
    assert (code, "holds interface weighted_sum, not gumbel" in err) == (2, True)
    code, err = refused("weighted_sum", *source, upstream=f"{spectrum}:gain=2")
    assert (code, "other weights" in err) == (2, True)
    code, err = refused("weighted_sum", "--interface-from", tmp_path / "nowhere")
    assert (code, "no result.json" in err) == (3, True)
    record = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**record, "status": "failed"}))
    code, err = refused("weighted_sum", *source)
    assert (code, "finish it first" in err) == (1, True)
    tuned = {**record, "spec": {**record["spec"], "protocol": "finetuned"}}
    (folder / "result.json").write_text(json.dumps(tuned))
    code, err = refused("weighted_sum", *source)
    assert (code, "Give a frozen run" in err) == (2, True)
    (folder / "result.json").write_text(json.dumps(record))
    (folder / "best.safetensors").write_bytes(b"no")
    code, err = refused("weighted_sum", *source)
    assert (code, "cannot read" in err) == (3, True)
    save_file({"interface.other": torch.zeros(2)}, folder / "best.safetensors")
    code, err = refused("weighted_sum", *source)
    assert (code, "does not fit" in err) == (2, True)
    (folder / "best.safetensors").unlink()
    code, err = refused("weighted_sum", *source)
    assert (code, "run it again" in err) == (3, True)
