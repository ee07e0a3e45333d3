"""The learner against the frozen path, its stages, its seeds, and what an expert may add."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.downstream import Downstream
from ssft_bench.downstreams.asr.task import ASR, ASROptions
from ssft_bench.features import FrozenFeatures
from ssft_bench.finetuning.batches import WaveBatch, Waves
from ssft_bench.finetuning.learner import FineTunedDownstream
from ssft_bench.finetuning.spec import FineTuneSpec
from ssft_bench.interfaces.hconv import HConv
from ssft_bench.interfaces.last import Last
from ssft_bench.interfaces.weighted_sum import WeightedSum
from ssft_bench.upstream import Upstream
from tests.finetuning.models import FEW, build, fresh, waves
from tests.speech import write

pytestmark = pytest.mark.usefixtures("one_thread")
STILL = {"dropout": 0.0, "activation_dropout": 0.0}
NOISY = {
    "time_mask_prob": 0.5, "time_mask_length": 2, "channel_mask_prob": 0.5, "channel_mask_length": 5,
    "layerdrop": 0.3,
}  # fmt: skip


def task() -> ASR:
    """With masks that leave something of 16 to 32 channels and 15 to 25 frames."""
    masks = {"warp_window": 2, "freq_masks": 2, "freq_width": 4, "time_masks": 2, "time_width": 3}
    options = {"project_dim": 12, "hidden_dim": 10, "layers": 1, "dropout": 0.2}
    return ASR(ASROptions.model_validate(options | {"specaugment": masks}))


def parts(upstream: Upstream, interface: Any, seed: int) -> tuple[Any, nn.Module]:
    """Interface and head with random weights."""
    torch.manual_seed(seed)
    built = interface(upstream.spec)
    return built, task().head(built.output_dim, built.output_stride)


def learner(
    kind: str, folder: Path, seed: int, interface: Any = WeightedSum, **spec: Any
) -> FineTunedDownstream:
    upstream = build(kind, folder, seed)
    made = FineTuneSpec.model_validate(STILL | spec)
    return FineTunedDownstream(upstream, *parts(upstream, interface, seed), task(), made, seed=seed)


def rows(count: int) -> list[Utterance]:
    return [Utterance(f"u{i}", Path(f"u{i}.flac"), "train", text="AB") for i in range(count)]


def batch(seed: int, samples: Sequence[int] = (8000, 6400, 4801)) -> WaveBatch:
    heard = rows(len(samples))
    return WaveBatch(waves(seed, samples), heard, [task().encode(u) for u in heard])


def loss_of(model: Any, given: Any, seed: int) -> Tensor:
    """Loss of a micro-batch, all draws by the seed, after a backward pass."""
    model.zero_grad()
    model.train()
    torch.manual_seed(seed)
    loss: Tensor = model(given, torch.Generator().manual_seed(seed))[0]
    loss.backward()
    return loss.detach()


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("interface", [WeightedSum, HConv, Last])
@pytest.mark.parametrize("kind", FEW)
def test_all_frozen_is_the_frozen_path(kind: str, interface: Any, tmp_path: Path) -> None:
    """Loss and gradients of interface and head are those of the frozen protocol on the same recordings."""
    seed = fresh()
    heard = [Utterance(f"u{i}", tmp_path / f"u{i}.wav", "train", text="AB CAB") for i in range(3)]
    for utterance, wave in zip(heard, waves(seed), strict=True):
        write(utterance.audio, wave.numpy())
    targets = [task().encode(u) for u in heard]
    frozen = build(kind, tmp_path, seed)
    features = FrozenFeatures(
        frozen, parts(frozen, interface, seed)[0].layers_used(), torch.device("cpu"), 1.0
    )
    downstream = Downstream(*parts(frozen, interface, seed), task())
    wanted = loss_of(downstream, features.batch(heard, targets), seed)
    tuned = learner(kind, tmp_path, seed, interface, frozen_steps=1, padded=False)
    tuned.begin_update(0)
    given = Waves(1.0).batch(heard, targets)
    found = loss_of(tuned, given, seed)
    assert abs(float(found - wanted)) < 1e-5 * float(wanted), seed
    ours, theirs = gradients(tuned), gradients(downstream)
    assert ours.keys() == theirs.keys(), seed  # so nothing of the upstream has any
    scale = max(float(g.abs().max()) for g in theirs.values())
    assert max(float((ours[n] - theirs[n]).abs().max()) for n in ours) < 1e-4 * scale, seed
    tuned.begin_update(1)
    found = loss_of(tuned, given, seed)
    assert abs(float(found - wanted)) < 1e-5 * float(wanted), seed
    inside = [g for n, g in gradients(tuned).items() if n.startswith("upstream.")]
    assert max(float(g.abs().max()) for g in inside) > 1e-6, seed


@torch.no_grad()
def test_padding_reaches_features_of_base_models(tmp_path: Path) -> None:
    """Why there is `padded: false`: the first block of Base models normalises over padding too."""
    seed = fresh()
    for kind, apart in (("hubert-base", True), ("tiny-hubert", False)):
        made = [learner(kind, tmp_path, seed, padded=p).eval() for p in (True, False)]
        short = [m.hidden(batch(seed), padded=m.spec.padded).states[-1][2, :10] for m in made]
        assert (float((short[0] - short[1]).abs().max()) > 1e-3) == apart, (kind, seed)


def test_stages(tmp_path: Path) -> None:
    """While frozen only interface, head and modules on top get gradients; what learns is told all along."""
    seed = fresh()
    upstream = build("hubert-base", tmp_path, seed)
    expert: Any = upstream.expert
    expert.extra = nn.Linear(32, 32)
    expert.always_trained = ("extra.",)
    expert.hook_postprocess = lambda states: [
        (name, expert.extra(s) if name == "self.model.encoder" else s) for name, s in states
    ]
    made = FineTunedDownstream(
        upstream, *parts(upstream, Last, seed), task(),
        FineTuneSpec(frozen_steps=2, time_mask_prob=0.4, time_mask_length=2), seed=seed,
    )  # fmt: skip
    told = {n for n, p in made.named_parameters() if p.requires_grad}
    assert "upstream.expert.model.mask_emb" in told
    for step in range(4):
        made.begin_update(step)
        loss_of(made, batch(seed), seed)
        learned = {n for n, g in gradients(made).items() if float(g.abs().max()) > 0}
        inside = {n for n in learned if n.startswith("upstream.expert.model.")}
        assert bool(inside) == (step >= 2), (step, seed)
        assert {"upstream.expert.extra.weight", "head.output.weight"} <= learned
        assert {n for n, p in made.named_parameters() if p.requires_grad} == told
    assert inside >= {"upstream.expert.model.mask_emb", "upstream.expert.model.layer_norm.weight"}


@pytest.mark.parametrize("trainable", ["lora:r=2", "adapter:4"])
def test_new_parameters_wait_too(trainable: str, tmp_path: Path) -> None:
    made = learner("hubert-base", tmp_path, fresh(), trainable=trainable, frozen_steps=1)
    for step, learns in ((0, False), (1, True)):
        made.begin_update(step)
        loss_of(made, batch(1), 1)
        found = {n for n, g in gradients(made).items() if float(g.abs().max()) > 0}
        assert any(n.startswith("upstream.") for n in found) == learns


def test_groups(tmp_path: Path) -> None:
    """Two groups with the parameters that learn, each once, and the scale of the upstream's rate."""
    made = learner("hubert-base", tmp_path, 0, trainable="top:1", upstream_lr_scale=0.1)
    outside, inside = made.parameter_groups()
    assert (outside["lr_scale"], inside["lr_scale"]) == (1.0, 0.1)
    names = {id(p): n for n, p in made.named_parameters()}
    assert all("encoder.layers.2." in names[id(p)] for p in inside["params"])
    assert {names[id(p)].split(".")[0] for p in outside["params"]} == {"interface", "head"}
    both = [id(p) for group in (outside, inside) for p in group["params"]]
    learning = [id(p) for p in made.parameters() if p.requires_grad]
    assert sorted(both) == sorted(learning)


@pytest.mark.parametrize("padded", [True, False])
def test_draws_by_the_seed(padded: bool, tmp_path: Path) -> None:
    """Same seed, same loss to the bit, whatever was drawn before; another seed, another loss."""
    seed = fresh()
    made = learner("hubert-base", tmp_path, seed, padded=padded, **NOISY)
    one = loss_of(made, batch(seed), 1)
    np.random.seed(0)
    np.random.random(9)
    other = loss_of(made, batch(seed), 2)
    assert torch.equal(loss_of(made, batch(seed), 1), one), seed
    assert not torch.equal(one, other), seed


def test_nothing_is_drawn_for_nothing(tmp_path: Path) -> None:
    """Without masks and layer drop the micro-batch's generator is the task's alone."""
    made = learner("hubert-base", tmp_path, 0).train()
    generator = torch.Generator().manual_seed(1)
    assert made._rng(generator) is None
    assert torch.equal(
        torch.rand(1, generator=generator), torch.rand(1, generator=generator.manual_seed(1))
    )
    noisy = learner("hubert-base", tmp_path, 0, layerdrop=0.5)
    assert noisy.train()._rng(generator) is not None
    assert noisy.eval()._rng(generator) is None


@torch.no_grad()
@pytest.mark.parametrize("kind", FEW)
def test_scoring(kind: str, tmp_path: Path) -> None:
    """One recording at a time, and nothing is drawn: batch mates, masks and layer drop do not matter."""
    seed = fresh()
    made = learner(kind, tmp_path, seed, **NOISY)
    made.train()
    made(batch(seed), torch.Generator().manual_seed(seed))  # leaves nothing behind
    made.eval()
    logits, lengths = made.logits(batch(seed))
    again, _ = made.logits(batch(seed))
    assert torch.equal(logits, again), seed
    for place, wave in enumerate(batch(seed).waves):
        alone, frames = made.logits(WaveBatch([wave], rows(1), []))
        count = int(frames[0])
        assert count == int(lengths[place])
        assert float((alone[0] - logits[place, :count]).abs().max()) < 1e-4, (kind, seed)


def test_what_was_heard_and_what_learns(tmp_path: Path) -> None:
    made = learner("hubert-base", tmp_path, 0, trainable="lora:r=2", dropout=0.1, layerdrop=0.25)
    made(batch(1), torch.Generator())
    made.logits(batch(1))
    assert made.seconds_of_audio == pytest.approx(2 * (8000 + 6400 + 4801) / 16000)
    assert made.describe() == {
        "parameters_learned": {"encoder": 3 * 2 * 2 * 2 * 32, "on_top": 0},
        "draws": {"layerdrop": 0.25, "dropout": 0.1},
    }


class Spy:
    """What an expert may add, as `ssft_bench.finetuning` has it; tells the order of the calls."""

    def __init__(self, upstream: Upstream) -> None:
        self.calls: list[Any] = []
        expert: Any = upstream.expert
        whole = expert.forward

        def forward(heard: Any) -> Any:
            self.calls.append(("forward", len(heard)))
            return whole(heard)

        expert.forward = forward
        expert.expect = lambda u: self.calls.append(("expect", [x.id for x in u]))
        expert.auxiliary_loss = self.auxiliary_loss
        expert.describe = lambda: {"label": "spied"}

    def auxiliary_loss(self, utterances: Sequence[Utterance]) -> tuple[Tensor, dict[str, float]]:
        self.calls.append(("auxiliary_loss", [u.id for u in utterances]))
        return torch.tensor(2.5), {"extra": 7.0}


@pytest.mark.parametrize(("padded", "passes"), [(True, [3]), (False, [1, 1, 1])])
def test_what_an_expert_adds(padded: bool, passes: list[int], tmp_path: Path) -> None:
    """Asked in order, added to the loss, told in the log; scoring asks for no loss."""
    seed = fresh()
    plain = learner("hubert-base", tmp_path, seed, padded=padded)
    made = learner("hubert-base", tmp_path, seed, padded=padded)
    spy = Spy(made.upstream)
    difference = loss_of(made, batch(seed), 1) - loss_of(plain, batch(seed), 1)
    assert float(difference) == pytest.approx(2.5, abs=1e-4), seed
    ids = ["u0", "u1", "u2"]
    forwards = [("forward", n) for n in passes]
    assert spy.calls == [("expect", ids), *forwards, ("auxiliary_loss", ids)]
    _, logs = made(batch(seed), torch.Generator())
    assert logs["extra"] == 7.0
    assert logs["task_loss"] > 0
    spy.calls.clear()
    made.logits(batch(seed))
    assert spy.calls == [("expect", ids), *[("forward", 1)] * 3]
    assert made.describe()["upstream"] == {"label": "spied"}


def test_hidden_states_alike(tmp_path: Path) -> None:
    """A padded batch has the states that the upstream gives for it, of the layers the interface uses."""
    made = learner("hubert-base", tmp_path, 0, Last).eval()
    found = made.hidden(batch(1), padded=True)
    wanted = made.upstream(waves(1))
    assert found.layers == (3,)
    assert torch.equal(found.states[0], wanted.states[3])
    assert torch.equal(found.lengths, wanted.lengths)
