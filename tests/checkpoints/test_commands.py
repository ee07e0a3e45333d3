"""`ssft-bench import` and `export`, from the command line's functions on."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from ssft_bench.checkpoints.commands import (
    ExportFormat,
    ForeignKind,
    export_command,
    import_checkpoint_command,
)
from ssft_bench.checkpoints.delta import apply_checkpoint, changed_tensors, read_checkpoint
from ssft_bench.checkpoints.exporters import FORMATS
from ssft_bench.checkpoints.importers import KINDS
from ssft_bench.errors import BenchError, MissingError, UsageError
from ssft_bench.upstream import load_upstream, weights_sha256
from tests.checkpoints.layouts import save_runner, seeded, tuned_state

app = typer.Typer()
app.command("import")(import_checkpoint_command)
app.command("export")(export_command)


def run(*arguments: Any) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if isinstance(result.exception, BenchError):
        raise result.exception
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def test_there_and_back(tmp_path: Path) -> None:
    """A runner's checkpoint comes in; its upstream leaves as .pt and folder and comes in again the same."""
    generator, seed = seeded()
    expert = load_upstream("hubert_mini", {}).expert
    state, changed = tuned_state(expert, generator)
    source, out = tmp_path / "states-7.ckpt", tmp_path / "score.safetensors"
    save_runner(source, state, 7)
    told = json.loads(
        run(
            "import", source, "--base", "hubert_mini", "--method", "score", "-o", out, "--json"
        ).stdout
    )
    read = read_checkpoint(out)
    assert set(read.tensors) == changed, seed
    assert all(torch.equal(read.tensors[n], state[n]) for n in changed), seed
    base = {"name": "hubert_mini", "options": {}, "sha256": weights_sha256(expert)}
    assert (told["about"], told["tensors"]) == (read.about, len(changed))
    assert (read.about["name"], read.about["base"]) == ("score_hubert_mini", base)
    assert (read.about["method"], read.about["steps"]) == ("score", 7)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert read.about["imported"] == {"file": source.name, "kind": "runner", "sha256": digest}

    apply_checkpoint(expert, read, out)
    assert not changed_tensors(state, expert.state_dict())
    whole = tmp_path / "whole.safetensors"
    run("export", "hubert_mini", "--format", "s3prl", "-o", tmp_path / "base.pt")
    with pytest.raises(UsageError, match="equals its base hubert_mini tensor by tensor"):
        run("import", tmp_path / "base.pt", "--base", "hubert_mini", "-o", whole)
    assert not whole.exists()
    random = f"hubert_mini:random=true,seed={seed % 1000}"
    shown = run(
        "import", tmp_path / "base.pt", "--base", random, "-o", whole, "--name", "mine"
    ).stdout
    assert f"tensors differ from {random}" in shown
    about = read_checkpoint(whole).about
    assert about["name"] == "mine"
    assert about["base"]["options"] == {"random": True, "seed": seed % 1000}
    loader = json.loads(
        run("export", "hubert_mini", "--format", "hf", "-o", tmp_path / "hf", "--json").stdout
    )["load"]
    assert loader == f"transformers.HubertModel.from_pretrained({str(tmp_path / 'hf')!r})"
    run("import", tmp_path / "hf", "--base", random, "-o", tmp_path / "hf.safetensors")
    again, first = read_checkpoint(tmp_path / "hf.safetensors"), read_checkpoint(whole)
    assert again.tensors.keys() == {
        n for n in first.tensors if "final_proj" not in n and "label" not in n
    }
    assert all(torch.equal(t, first.tensors[n]) for n, t in again.tensors.items())
    assert again.about["imported"]["kind"] == "hf"


def test_mistakes(tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    with pytest.raises(UsageError, match=r"name ends in .safetensors"):
        run("import", "f.ckpt", "--base", "hubert_mini", "-o", tmp_path / "x.pt")
    with pytest.raises(MissingError, match=r"there is no checkpoint f.ckpt"):
        run("import", "f.ckpt", "--base", "hubert_mini", "-o", out)
    with pytest.raises(UsageError, match=r"unknown upstream 'hubert_min'.*hubert_mini"):
        run("import", __file__, "--base", "hubert_min", "-o", out)
    with pytest.raises(UsageError, match="give one upstream, not several"):
        run("export", "hubert_mini+wav2vec2_mini", "--format", "s3prl", "-o", tmp_path / "x.pt")
    result = CliRunner().invoke(app, ["import", "f", "--base", "x", "-o", "y", "--kind", "fairseq"])
    assert result.exit_code == 2
    with pytest.raises(UsageError, match="is a folder; --format s3prl writes one file"):
        run("export", "hubert_mini", "--format", "s3prl", "-o", tmp_path)
    assert not list(tmp_path.iterdir())


def test_choices_are_those_of_the_library() -> None:
    assert {kind.value for kind in ForeignKind} == set(KINDS)
    assert {to.value for to in ExportFormat} == set(FORMATS)


def test_commands_are_imported_without_torch() -> None:
    """The command line shows its help at once."""
    code = "import sys, ssft_bench.checkpoints.commands; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    control = "import sys, ssft_bench.checkpoints.delta; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", control], check=False).returncode == 1
