"""wavlm_mini: s3prl's WavLM, started from hubert_mini, trained on mixtures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ssft_bench.errors import MissingError, UsageError
from ssft_bench.files import sha256_file
from ssft_bench.seeds import seed_everything_for
from ssft_bench.upstreams.hubert_mini.expert import UpstreamExpert as HubertExpert
from ssft_bench.upstreams.pretraining.batches import Crops, frame_count
from ssft_bench.upstreams.pretraining.models import build_model
from ssft_bench.upstreams.pretraining.recipe import Recipe, Stage, load_recipe
from ssft_bench.upstreams.pretraining.run import Speech, initial_model, new_model, run
from ssft_bench.upstreams.wavlm_mini import expert
from ssft_bench.upstreams.wavlm_mini.hubconf import wavlm_mini, wavlm_mini_local, wavlm_mini_random
from ssft_bench.upstreams.wavlm_mini.learner import WavLMLearner
from tests.speech import murmur, noise, write

RECIPE = load_recipe(Path(expert.__file__).with_name("recipe.yaml"))
SMALL = {
    **RECIPE.model, "encoder_layers": 2, "encoder_embed_dim": 32, "encoder_ffn_embed_dim": 48,
    "conv_feature_layers": "[(24,320,80)] + [(24,3,2)] + [(24,2,2)]", "conv_pos": 8, "conv_pos_groups": 2,
}  # fmt: skip


def waves(*seconds: float) -> list[Tensor]:
    """Speech-like waves with some noise, fresh ones."""
    rng = np.random.default_rng()
    return [torch.from_numpy(murmur(rng, s) + 0.1 * noise(rng, s)) for s in seconds]


def states(upstream: Any, wavs: list[Tensor]) -> list[Tensor]:
    with torch.no_grad():
        hidden: list[Tensor] = upstream.eval()(wavs)["hidden_states"]
    return hidden


def farthest(some: list[Tensor], others: list[Tensor]) -> float:
    assert len(some) == len(others)
    return max(float((a - b).abs().max()) for a, b in zip(some, others, strict=True))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """s3prl's own expert with the packaged weights, through a checkpoint in s3prl's layout."""
    from s3prl.upstream.wavlm.expert import UpstreamExpert

    ours = wavlm_mini()
    path = tmp_path_factory.mktemp("wavlm") / "wavlm.pt"
    config = {**ours.about["model"], **ours.about["task"]}
    torch.save({"cfg": config, "model": ours.model.state_dict()}, path)
    return UpstreamExpert(str(path))


def test_single_utterances_as_in_s3prl(theirs: Any) -> None:
    ours = wavlm_mini()
    for wave in waves(0.5, 1.37, 2.611):
        mine, reference = states(ours, [wave]), states(theirs, [wave])
        assert [s.shape for s in mine] == [(1, frame_count(len(wave)), 256)] * 7
        assert farthest(mine, reference) < 1e-5
    # Negative control: the relative positions are used, in the first layer's attention and after it.
    bias = ours.model.encoder.layers[0].self_attn.relative_attention_bias.weight
    bias.data.zero_()
    changed = states(ours, [wave])
    assert farthest(changed[:1], reference[:1]) < 1e-5
    assert all(farthest([a], [b]) > 1e-3 for a, b in zip(changed[1:], reference[1:], strict=True))


def test_padding_changes_nothing(theirs: Any) -> None:
    ours, batch = wavlm_mini(), waves(1.9, 0.71, 1.2)
    together = states(ours, batch)
    for row, wave in enumerate(batch):
        frames = frame_count(len(wave))
        alone = states(ours, [wave])
        assert farthest([s[row : row + 1, :frames] for s in together], alone) < 1e-4
    # Negative control: s3prl's expert pads waves before a group norm, and that does change them.
    padded = states(theirs, batch)
    frames = frame_count(len(batch[1]))
    assert farthest([s[1:2, :frames] for s in padded], states(ours, [batch[1]])) > 1e-2


def test_the_start_computes_what_hubert_mini_does() -> None:
    start = new_model(RECIPE, RECIPE.stages[0], initial_model(RECIPE.init)).eval()
    upstream, hubert = wavlm_mini(), HubertExpert()
    upstream.model.load_state_dict(start.state_dict())
    batch = waves(1.3, 0.8)
    frames = frame_count(len(batch[1]))

    def valid(hidden: list[Tensor]) -> list[Tensor]:
        return [s[:1] for s in hidden] + [s[1:, :frames] for s in hidden]

    reference = valid(states(hubert, batch))
    assert farthest(valid(states(upstream, batch)), reference) < 1e-5
    bias = upstream.model.encoder.layers[0].self_attn.relative_attention_bias.weight
    upstream.train()(batch)["hidden_states"][-1].pow(3).sum().backward()
    assert bias.grad is not None
    assert float(bias.grad.abs().max()) > 0  # a start of zero that is not stuck there
    torch.nn.init.normal_(bias)  # negative control
    assert farthest(valid(states(upstream, batch)), reference) > 1e-2


def stage(**changes: Any) -> Stage:
    """The packaged recipe's stage with few clusters, and no mixing unless told."""
    plain = RECIPE.stages[0].model_dump() | {"mixing": None} | changes
    plain["targets"] = {"kind": "hidden", "layer": 1, "clusters": 7}
    return Stage.model_validate(plain)


def crops(rows: int, seconds: float) -> Crops:
    together = torch.stack(waves(*[seconds] * rows))
    frames = frame_count(together.shape[1])
    return Crops(together * 10, torch.randint(7, (rows, frames)))


def plain_loss(learner: WavLMLearner, batch: Crops, seed: int) -> tuple[float, float]:
    """Masked cross-entropy plus half the unmasked one, frame by frame, and masked accuracy."""
    from s3prl.upstream.wavlm.WavLM import compute_mask_indices

    model, head = learner.model.body, learner.model
    assert batch.targets is not None
    with torch.no_grad():
        inputs, _ = model.extract_features(batch.waves, ret_conv=True)
        seed_everything_for(seed)
        where = compute_mask_indices(inputs.shape[:2], None, 0.65, 8, min_masks=2)
        for row, frame in np.argwhere(where):
            inputs[row, frame] = model.mask_emb
        hidden, _ = model.encoder(inputs)
        projected = head.final_proj(hidden).double().numpy()
        codes = head.label_embs_concat.double().numpy()
    losses: dict[bool, list[float]] = {True: [], False: []}
    right = []
    for row in range(len(where)):
        for frame in range(where.shape[1]):
            vector, target = projected[row, frame], int(batch.targets[row, frame])
            scores = [
                vector @ code / math.sqrt(vector @ vector) / math.sqrt(code @ code) / 0.1
                for code in codes
            ]
            masked = bool(where[row, frame])
            losses[masked].append(math.log(sum(map(math.exp, scores))) - scores[target])
            if masked:
                right.append(scores[target] == max(scores))
    return float(np.mean(losses[True]) + 0.5 * np.mean(losses[False])), float(np.mean(right))


def small_learner(**changes: Any) -> WavLMLearner:
    model = build_model("wavlm", SMALL, RECIPE.task, 0, 3)
    return WavLMLearner(model, stage(**changes)).eval()


def test_the_loss_against_a_plain_reference() -> None:
    seed = int(np.random.default_rng().integers(10**6))
    learner, batch = small_learner(), crops(3, 0.9)
    with torch.no_grad():
        loss, logs = learner(batch, seed_everything_for(seed))
    wanted, right = plain_loss(learner, batch, seed)
    assert float(loss) == pytest.approx(wanted, rel=1e-4), seed
    assert logs["accuracy"] == pytest.approx(right, abs=1e-6), seed
    assert batch.targets is not None
    wrong = batch._replace(targets=(batch.targets + 1) % 7)  # negative control
    assert abs(float(loss) - plain_loss(learner, wrong, seed)[0]) > 1e-3, seed


def test_the_learner_mixes_waves_and_keeps_targets() -> None:
    from ssft_bench.upstreams.wavlm_mini.mixing import mixed

    seed = int(np.random.default_rng().integers(10**6))
    learner, batch = small_learner(mixing={"probability": 1.0}), crops(4, 0.6)
    before = batch.waves.clone()
    with torch.no_grad():
        loss, _ = learner(batch, seed_everything_for(seed))
    assert torch.equal(batch.waves, before)
    assert learner.mixing is not None
    noisy = mixed(batch.waves, learner.mixing, seed_everything_for(seed))
    wanted, _ = plain_loss(learner, batch._replace(waves=noisy), seed)
    assert float(loss) == pytest.approx(wanted, rel=1e-4), seed
    clean, _ = plain_loss(learner, batch, seed)  # negative control
    assert abs(float(loss) - clean) > 1e-4, seed


def test_the_package_and_its_control() -> None:
    upstream, control = wavlm_mini(), wavlm_mini_random(seed=5)
    assert expert.WEIGHTS.stat().st_size < 16e6
    assert expert.WEIGHTS.with_suffix(".sha256").read_text().split()[0] == sha256_file(
        expert.WEIGHTS
    )
    assert upstream.about["kind"] == "wavlm"
    assert upstream.about["init"] == "hubert_mini"
    batch = waves(0.8)
    packaged = states(upstream, batch)
    assert farthest(packaged, states(wavlm_mini_local(expert.WEIGHTS), batch)) == 0
    assert farthest(states(control, batch), states(wavlm_mini_random(seed=5), batch)) == 0
    for other in (control, wavlm_mini_random(seed=6), HubertExpert()):
        assert all(s.isfinite().all() for s in states(other, batch))
        assert farthest(packaged[-1:], states(other, batch)[-1:]) > 0.1
    assert farthest(states(control, batch), states(wavlm_mini_random(seed=6), batch)) > 0.1


def tiny_recipe(**changes: Any) -> Recipe:
    """Two updates of the whole model on a second of sound, from hubert_mini."""
    plain = RECIPE.model_dump(mode="json") | changes
    own = plain["stages"][0]
    own["targets"] |= {"clusters": 5, "iterations": 2}
    own["data"] |= {"corpora": {"synthetic": 1.0}, "batch_seconds": 2.0}
    own["mixing"]["probability"] = 1.0
    own["train"] |= {"steps": 2, "precision": "32-true"}
    return Recipe.model_validate(plain)


def test_a_run_can_be_repeated(tmp_path: Path) -> None:
    rng = np.random.default_rng()
    for index in range(4):
        write(tmp_path / f"{index}.flac", murmur(rng, 1.0) + 0.1 * noise(rng, 1.0))
    recipes = {"a": tiny_recipe(), "b": tiny_recipe(), "c": tiny_recipe(seed=2)}
    wave, last = waves(0.5), {}
    for name, recipe in recipes.items():
        path = run(recipe, Speech(tmp_path, tmp_path), tmp_path / name, WavLMLearner)
        last[name] = states(wavlm_mini_local(path), wave)[-1:]
    assert path.name == "wavlm_mini.safetensors"
    assert farthest(last["a"], last["b"]) == 0
    assert farthest(last["a"], last["c"]) > 1e-3  # negative control: another seed
    assert farthest(last["a"], states(HubertExpert(), wave)[-1:]) > 1e-3  # two updates were made


def test_mistakes_in_a_recipe() -> None:
    with pytest.raises(UsageError, match="num_bucket"):
        build_model("wavlm", {**SMALL, "num_bucket": 4}, RECIPE.task, 0, 1)
    with pytest.raises(MissingError, match="hubert_maxi"):
        initial_model("hubert_maxi")
    with pytest.raises(UsageError, match="head"):
        small_learner(head=None)
    whole = RECIPE.stages[0].model_copy(update={"start": "all"})
    with pytest.raises(UsageError, match="final_proj"):
        new_model(RECIPE, whole, initial_model("hubert_mini"))
