"""Names of SSFT upstreams: mini checkpoints, suite full, anyone's s3prl code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ssft_bench import registry, spec
from ssft_bench.checkpoints.delta import changed_tensors, read_checkpoint, save_checkpoint
from ssft_bench.checkpoints.exporters import export_hf
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.tuned_upstream import ENVIRONMENT
from ssft_bench.tuning.spec import resolve
from ssft_bench.upstream import load_upstream, weights_sha256
from tests.checkpoints.layouts import content, seeded
from tests.upstreams.tiny import write_tiny

Bench = Callable[..., tuple[int, str, str]]
NAMES = [
    "score_hubert", "score_wavlm", "spin_hubert", "spin_wavlm", "laser_hubert", "laser_wavlm",
    "rewire_wav2vec2", "rewire_hubert",
]  # fmt: skip


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """One tensor of a tiny model, changed."""
    weights = write_tiny(tmp_path)
    base = load_upstream("hubert_mini_local", {"ckpt": str(weights)}).expert
    state = {k: v.clone() for k, v in base.state_dict().items()}
    state["model.encoder.layers.2.fc1.weight"] += 1.0
    about = {
        "name": "score_hubert", "method": "score", "recipe": {}, "steps": 1, "hours_processed": 0.1,
        "versions": {},
        "base": {"name": "hubert_mini_local", "options": {"ckpt": str(weights)},
                 "sha256": weights_sha256(base)},
    }  # fmt: skip
    path = tmp_path / "score_hubert.safetensors"
    save_checkpoint(path, changed_tensors(base.state_dict(), state), about)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_mini_checkpoints_are_in_the_package(name: str) -> None:
    upstream = load_upstream(name, {})
    facts = registry.load("upstreams", name).tuned
    assert facts.packaged.is_file()
    about = upstream.expert.checkpoint_about
    assert about["method"] == facts.method
    assert about["base"]["name"] == f"{name.split('_')[1]}_mini"
    base = load_upstream(about["base"]["name"], {})
    wave = torch.randn(8000, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        one, two = (u.eval()([wave]).states for u in (base, upstream))
    assert not torch.allclose(one[-1], two[-1], atol=1e-3)
    assert torch.equal(one[0], two[0]) == (facts.method != "rewire")


@pytest.mark.parametrize("name", NAMES)
def test_mini_checkpoints_are_of_the_committed_recipes(name: str) -> None:
    facts = registry.load("upstreams", name).tuned
    about = read_checkpoint(facts.packaged).about
    recipe = resolve(method=facts.method, base=about["base"]["name"])
    assert about["recipe"] == recipe.model_dump(mode="json", exclude={"data": {"root"}})
    assert about["steps"] == recipe.train.steps
    assert facts.packaged.stat().st_size < 16 * 2**20


@pytest.mark.parametrize("name", NAMES)
def test_suite_full_needs_a_checkpoint_and_says_how(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    with pytest.raises(MissingError) as caught:
        spec.resolve(upstream=name, interface="last", task="pr", suite="full")
    text = str(caught.value)
    facts = registry.load("upstreams", name).tuned
    assert f"ssft-bench tune --method {facts.method} --base {facts.base} " in text
    assert ENVIRONMENT in text
    assert ("huggingface.co/datasets/vectominist/spin_ckpt" in text) == name.startswith("spin")


@pytest.mark.parametrize("suite", ["mini", "pocket"])
def test_small_suites_take_the_packaged_one(suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, "elsewhere")
    resolved = spec.resolve(upstream="score_hubert", interface="last", task="pr", suite=suite)
    assert resolved.upstream.options == {}


def test_where_suite_full_finds_it(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"upstream": "score_hubert", "interface": "last", "task": "pr", "suite": "full"}
    given = spec.resolve(**arguments, checkpoint=str(checkpoint))  # type: ignore[arg-type]
    assert given.upstream.options == {"ckpt": str(checkpoint)}
    monkeypatch.setenv(ENVIRONMENT, str(checkpoint.parent))
    assert spec.resolve(**arguments).upstream.options == {"ckpt": str(checkpoint)}  # type: ignore[arg-type]
    folder = tmp_path / "all" / "score_hubert"
    folder.mkdir(parents=True)
    monkeypatch.setenv(ENVIRONMENT, str(folder.parent))
    with pytest.raises(MissingError, match="has none"):
        spec.resolve(**arguments)  # type: ignore[arg-type]
    (folder / "checkpoint.safetensors").write_bytes(checkpoint.read_bytes())
    found = spec.resolve(**arguments).upstream.options["ckpt"]  # type: ignore[arg-type]
    assert found == str(folder / "checkpoint.safetensors")
    joint = spec.resolve(**{**arguments, "upstream": "score_hubert+fbank"})  # type: ignore[arg-type]
    assert joint.upstream.name == f"score_hubert:ckpt={found}+fbank"
    with pytest.raises(UsageError, match="takes no checkpoint"):
        spec.resolve(**{**arguments, "upstream": "fbank"}, checkpoint="x")  # type: ignore[arg-type]


def test_moving_a_checkpoint_does_not_change_the_signature(
    checkpoint: Path, tmp_path: Path
) -> None:
    content: dict[str, str | None] = {"upstream_weights": "same"}
    signatures = {
        spec.signature(
            spec.resolve(upstream="score_hubert", interface="last", task="pr", checkpoint=place),
            content,
        )
        for place in (str(checkpoint), str(tmp_path / "elsewhere.safetensors"))
    }
    assert len(signatures) == 1


def test_another_base_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = write_tiny(tmp_path / "other")
    with pytest.raises(MissingError, match="belongs to base"):
        load_upstream(
            "score_hubert_local",
            {"ckpt": str(checkpoint), "base": f"hubert_mini_local:ckpt={other}"},
        )
    moved = tmp_path / "moved.safetensors"
    (tmp_path / "tiny_hubert.safetensors").rename(moved)
    (tmp_path / "tiny_hubert.sha256").unlink()
    found = load_upstream(
        "score_hubert_local", {"ckpt": str(checkpoint), "base": f"hubert_mini_local:ckpt={moved}"}
    )
    assert found.spec.num_layers == 4


def test_local_names_need_a_file(bench: Bench) -> None:
    code, _, err = bench(
        "run", "--upstream", "score_hubert_local", "--interface", "last", "--task", "pr"
    )
    assert code == 3
    assert "score_hubert_local:ckpt=FILE" in err
    code, _, err = bench(
        "run", "--upstream", "score_hubert:ckpt=/no/file", "--interface", "last", "--task", "pr"
    )
    assert code == 3
    assert "/no/file" in err


SCRIPT = """
import sys
import torch
import ssft_bench
from s3prl.nn import S3PRLUpstream

upstream = S3PRLUpstream("score_hubert_local", path_or_url=sys.argv[1]).eval()
states, lengths = upstream(torch.randn(2, 16000), torch.LongTensor([16000, 9000]))
print(len(states), tuple(states[-1].shape), lengths[-1].tolist())
"""


def test_a_script_that_imports_only_s3prl_and_ssft_bench(checkpoint: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(checkpoint)],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("4 (2, 50, 16) [50, 29]"), done.stdout


def test_contentvec_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "contentvec.pt"
    torch.save(content("hubert", "mini", seeded()[0]), path)
    one, two = (load_upstream(n, {"ckpt": str(path)}) for n in ("contentvec_local", "hubert_local"))
    assert weights_sha256(one) == weights_sha256(two)
    assert (
        spec.resolve(upstream="contentvec", interface="last", task="pr").upstream.name
        == "contentvec"
    )


def test_whole_models_by_a_local_name(tmp_path: Path) -> None:
    path = tmp_path / "tuned.pt"
    torch.save(content("wavlm", "mini", seeded()[0]), path)
    one, two = (load_upstream(n, {"ckpt": str(path)}) for n in ("laser_wavlm_local", "wavlm_local"))
    assert weights_sha256(one) == weights_sha256(two)
    export_hf(one.expert, tmp_path / "folder")
    with pytest.raises(UsageError, match="folder"):  # s3prl has no WavLM of Hugging Face's
        load_upstream("laser_wavlm_local", {"ckpt": str(tmp_path / "folder")})
