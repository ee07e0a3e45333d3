"""In the training loop: resume to the bit, what is stored, and what storing gives back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

from ssft_bench.finetuning.learner import FineTunedDownstream
from ssft_bench.training import Trainer
from ssft_bench.training_spec import TrainSpec
from tests.finetuning.models import fresh, values
from tests.finetuning.test_learner import NOISY, batch, learner

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS = 8


class Stop(Exception):
    pass


class Batches:
    """Another batch at each place, and an end to the power after `until` of them."""

    def __init__(self, seed: int, until: int = 99) -> None:
        self.seed, self.until = seed, until

    def __call__(self, first: int, rank: int, world: int) -> Iterator[Any]:
        index = first
        while True:
            if index >= self.until:
                raise Stop
            yield batch(self.seed + index, (6400, 4801, 5600))
            index += 1


def trainer(made: FineTunedDownstream, folder: Path, batches: Batches, **changes: Any) -> Trainer:
    spec = {
        "steps": STEPS, "optimizer": {"lr": 3e-3}, "save_every": 2, "eval_every": 2,
        "schedule": {"name": "tri_stage", "warmup": 0.2, "final_scale": 0.1}, **changes,
    }  # fmt: skip

    def evaluate() -> dict[str, float]:
        logits, _ = made.logits(batch(1, (6400,)))
        return {"number": float(logits.square().mean())}

    return Trainer(
        made, batches, TrainSpec.model_validate(spec), folder, seed=7,
        fabric=Fabric(accelerator="cpu", devices=1), evaluate=evaluate, select="number",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("hubert-base", {"dropout": 0.2, "frozen_steps": 3, "upstream_lr_scale": 0.3}),
        ("hf_hubert-large", {"padded": False}),
        ("tiny-hubert", {"trainable": "lora:r=2", "activation_dropout": 0.2}),
        ("wavlm-large", {"trainable": "adapter:3", "frozen_steps": 1}),
    ],
)
@pytest.mark.parametrize("stop_at", [3, 5])
def test_resume(kind: str, spec: dict[str, Any], stop_at: int, tmp_path: Path) -> None:
    """Masks, layer drop, dropout and stages of a stopped run go on as if it had not been stopped."""
    seed = fresh()
    whole = learner(kind, tmp_path, seed, **NOISY, **spec)
    outcome = trainer(whole, tmp_path / "whole", Batches(seed)).run()
    first = learner(kind, tmp_path, seed, **NOISY, **spec)
    with pytest.raises(Stop):
        trainer(first, tmp_path / "parts", Batches(seed, stop_at)).run()
    second = learner(kind, tmp_path, seed, **NOISY, **spec)
    start = values(second.upstream)
    torch.manual_seed(99)
    resumed = trainer(second, tmp_path / "parts", Batches(seed)).run()
    wanted, found = whole.state_dict(), second.state_dict()
    assert [n for n in wanted if not torch.equal(wanted[n], found[n])] == [], seed
    assert resumed.curve == outcome.curve, seed
    moved = {n for n, v in values(second.upstream).items() if not torch.equal(v, start[n])}
    assert moved, seed
    if "trainable" in spec:
        assert moved == set(second.learned.encoder), seed
    # The control: other masks, other parameters.
    third = learner(kind, tmp_path, seed, **(NOISY | {"time_mask_prob": 0.45}), **spec)
    trainer(third, tmp_path / "third", Batches(seed)).run()
    other = third.state_dict()
    assert any(not torch.equal(wanted[n], other[n]) for n in wanted), seed


@pytest.mark.parametrize("trainable", ["lora:r=2", "adapter:3", "top:1", "all"])
def test_what_is_stored(trainable: str, tmp_path: Path) -> None:
    """What learned and nothing else; a fresh learner that loads it gives the same outputs."""
    seed = fresh()
    made = learner("wavlm-base", tmp_path, seed, trainable=trainable, frozen_steps=2)
    trainer(made, tmp_path / "run", Batches(seed)).run()
    for stored in (
        load_file(tmp_path / "run" / "best.safetensors"),
        torch.load(tmp_path / "run" / "last.pt", weights_only=True)["learner"],
    ):
        inside = {n.removeprefix("upstream.expert.") for n in stored if n.startswith("upstream.")}
        assert inside == set(made.learned.encoder)
        outside = {n for n in stored if not n.startswith("upstream.")}
        assert outside == {
            n for n, _ in made.named_parameters() if n.startswith(("interface.", "head."))
        }
        if trainable.startswith("lora"):
            assert all("lora_" in n for n in inside)
    made.load_state_dict(stored, strict=False)
    made.eval()
    again = learner("wavlm-base", tmp_path, seed, trainable=trainable)
    with torch.no_grad():
        for parameter in [*again.interface.parameters(), *again.head.parameters()]:
            parameter.zero_()
    again.eval()
    with torch.no_grad():
        wanted = made.logits(batch(5))[0]
        assert not torch.equal(again.logits(batch(5))[0], wanted)
        assert again.load_state_dict(stored, strict=False).unexpected_keys == []
        assert torch.equal(again.logits(batch(5))[0], wanted), seed


def test_rates_of_the_groups(tmp_path: Path) -> None:
    """Plain gradient steps of the upstream are shorter by the factor, those of the head are not."""
    seed = fresh()
    moved = {}
    for scale in (1.0, 0.25):
        made = learner("hubert-base", tmp_path, seed, trainable="top:1", upstream_lr_scale=scale)
        before = {n: p.detach().clone() for n, p in made.named_parameters()}
        options = {"steps": 1, "optimizer": {"name": "sgd", "lr": 0.05}, "clip": None}
        trainer(made, tmp_path / str(scale), Batches(seed), **options).run()
        moved[scale] = {n: p.detach() - before[n] for n, p in made.named_parameters()}
    for name, whole in moved[1.0].items():
        factor = 0.25 if name.startswith("upstream.") else 1.0
        assert torch.allclose(moved[0.25][name], factor * whole, rtol=1e-2, atol=2e-7), (seed, name)
    assert any(float(d.abs().max()) > 1e-5 for n, d in moved[0.25].items() if "upstream." in n), (
        seed
    )
