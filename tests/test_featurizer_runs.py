"""Real runs of s3prl's unchanged downstream code with our interfaces."""

from __future__ import annotations

import builtins
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from ssft_bench import s3prl_runner as module
from ssft_bench.s3prl_runner import use_in_s3prl
from tests.speech import noise, write
from tests.test_upstream import checkpoint

CONFIG = {
    "runner": {
        "total_steps": 3, "gradient_clipping": 1, "gradient_accumulate_steps": 1, "log_step": 1,
        "eval_step": 3, "save_step": 3, "max_keep": 1, "eval_dataloaders": ["dev"], "evaluate_ratio": 0.001,
    },
    "optimizer": {"name": "TorchOptim", "torch_optim_name": "Adam", "lr": 0.01},
    "downstream_expert": {
        "datarc": {"train_batch_size": 1, "eval_batch_size": 1, "num_workers": 0},
        "modelrc": {"input_dim": 16},
    },
}  # fmt: skip
"""What s3prl does not ship for its `example`: three steps, and one batch each time it evaluates."""


pytestmark = pytest.mark.usefixtures("one_thread")


Run = Callable[..., dict[str, float]]


@pytest.fixture
def s3prl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line in this process on the tiny upstream: what s3prl logged, by `step,name`."""
    monkeypatch.setattr(builtins, "isinstance", isinstance)  # s3prl's main() replaces it for good
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(yaml.safe_dump(CONFIG))
    checkpoint(Path("tiny.pt"), 1)

    def run(interface: str, *arguments: str, own: tuple[str, ...] = ()) -> dict[str, float]:
        logged: dict[str, float] = {}

        class Writer:
            def __init__(self, logdir: str) -> None:
                pass

            def add_scalar(self, tag: str, value: float, global_step: int) -> None:
                logged[f"{global_step},{tag}"] = float(value)

            def close(self) -> None:
                pass

        with use_in_s3prl("last"):  # makes it importable
            from s3prl.downstream import runner
        monkeypatch.setattr(runner, "SummaryWriter", Writer)
        command = [
            "featurizer",
            "--interface",
            interface,
            *own,
            "--",
            *arguments,
            "--device",
            "cpu",
        ]
        monkeypatch.setattr(sys, "argv", command)
        module.main()
        return logged

    return run


TRAIN = ("-m", "train", "-u", "hubert_local", "-k", "tiny.pt", "-d", "example", "-c", "config.yaml")


def entry(folder: str) -> dict[str, Any]:
    """The featurizer in the checkpoint that s3prl wrote."""
    states: dict[str, Any] = torch.load(f"{folder}/states-3.ckpt", weights_only=False)
    assert "Downstream" in states
    found: dict[str, Any] = states["Featurizer"]
    return found


def test_train_and_evaluate(s3prl: Run) -> None:
    """Unchanged s3prl trains hconv, saves it, and evaluates the checkpoint to the same score."""
    logged = s3prl("hconv:kernel=3,stride=2", *TRAIN, "-p", "exp")
    assert {f"{step},example/train-loss" for step in (1, 2, 3)} < set(logged)
    saved = entry("exp")
    assert saved.pop("_extra_state") == "hconv:kernel=3,stride=2"
    assert {key: tuple(value.shape) for key, value in saved.items()} == {
        "interface.convs.0.weight": (3, 16, 8), "interface.convs.0.bias": (8,),
    }  # fmt: skip
    assert saved["interface.convs.0.bias"].any()
    evaluate = ("-m", "evaluate", "-e", "exp/states-3.ckpt", "-t", "dev")
    again = s3prl("hconv:kernel=3,stride=2", *evaluate)
    assert again["0,example/dev-loss"] == logged["3,example/dev-loss"]
    with pytest.raises(SystemExit) as stop:
        s3prl("hconv", *evaluate)
    assert stop.value.code == 2


def test_a_run_with_weighted_sum_repeats_s3prls_own(
    s3prl: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every loss and weight, with the upstream trained along (-f)."""
    from s3prl.upstream.interfaces import Featurizer

    def theirs(*args: Any, interface: str, fit: None, **kwargs: Any) -> Any:
        return Featurizer(*args, **kwargs)

    mine = s3prl("weighted_sum", *TRAIN, "-f", "-p", "mine")
    other = s3prl("mean", *TRAIN, "-f", "-p", "other")
    with monkeypatch.context() as patch:
        patch.setattr(module, "RunnerFeaturizer", theirs)
        wanted = s3prl("weighted_sum", *TRAIN, "-f", "-p", "theirs")
    assert mine == pytest.approx(wanted, rel=1e-4)
    assert other != pytest.approx(wanted, rel=1e-4)
    weights = entry("theirs")["weights"]
    assert weights.any()
    torch.testing.assert_close(entry("mine")["interface.weights"], weights, rtol=1e-3, atol=1e-5)


def test_an_interface_that_needs_a_fit(s3prl: Run, tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / f"speech/{number}.flac", noise(np.random.default_rng(number)))
    s3prl("pca_concat", *TRAIN, "-p", "exp", own=("--fit", "speech"))
    saved = entry("exp")
    assert saved["fitted"]
    assert saved["interface.mean_0"].any()
    s3prl("pca_concat", "-m", "evaluate", "-e", "exp", "-t", "dev")  # needs no --fit


def test_our_upstreams_in_s3prls_runner(s3prl: Run) -> None:
    arguments = ("-m", "train", "-u", "hubert_mini", "-d", "example", "-c", "config.yaml")
    assert s3prl("hconv", *arguments, "-p", "exp")
    assert entry("exp")["_extra_state"] == "hconv"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--interface", "hconv"], "s3prl's own arguments go after --"),
        (["--", "-m", "train"], "required: --interface"),
        (["--interface", "hkonv", "--", "-m", "train"], "Did you mean hconv"),
        (["--interface", "pca_concat", "--fit", "nowhere", "--", "-m", "train"], "no recordings"),
    ],
)
def test_mistakes_on_the_command_line(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["featurizer", *arguments])
    with pytest.raises(SystemExit) as stop:
        module.main()
    assert stop.value.code in (2, 3)
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_line_in_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    checkpoint(tmp_path / "tiny.pt", 1)
    start = [sys.executable, "-m", "ssft_bench.s3prl_runner", "--interface", "hconv", "--"]
    for arguments in ([*TRAIN, "-p", "exp"], ["-m", "evaluate", "-e", "exp", "-t", "dev"]):
        done = subprocess.run(
            [*start, *arguments, "--device", "cpu"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "interface hconv over 3 hidden_states of hubert" in done.stderr
    saved = torch.load(tmp_path / "exp/states-3.ckpt", weights_only=False)
    assert "interface.convs.0.weight" in saved["Featurizer"]
