"""What pretraining may hear, its targets, and weights that are what they say."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ssft_bench.errors import MissingError
from ssft_bench.upstreams.hubert_mini.expert import WEIGHTS
from ssft_bench.upstreams.pretraining.audio import (
    embedded_files,
    held_out,
    recorded_files,
)
from ssft_bench.upstreams.pretraining.batches import frame_count
from ssft_bench.upstreams.pretraining.clusters import assign, kmeans, mfcc39
from ssft_bench.upstreams.pretraining.recipe import load_recipe
from ssft_bench.upstreams.pretraining.weights import load_weights
from tests.speech import murmur, real_data


def test_no_test_recording_is_heard() -> None:
    root = real_data("an4").parent
    heard = [path.relative_to(root).as_posix() for _, path in recorded_files(root)]
    assert len(heard) > 1000
    assert not [p for p in heard if "an4test" in p or "test-other" in p]
    for name in ("keywords", "speech_to_intent"):
        everything = {p.relative_to(root).as_posix() for p in (root / name).rglob("*.flac")}
        kept_out = {p for p in everything if held_out(Path(p))}
        assert 0.1 < len(kept_out) / len(everything) < 0.3
        assert not kept_out & set(heard)


def test_only_the_training_parts_of_the_embedded_corpora_are_heard() -> None:
    heard = list(embedded_files())
    assert {corpus for corpus, _ in heard} == {"mini", "mini_phrases"}
    assert len(heard) > 700
    assert {path.parent.name for _, path in heard} == {"train"}


def test_the_rule_of_the_held_out_fifth() -> None:
    for stem in ("17", "a b", "x"):
        digest = hashlib.sha256(f"alexa/{stem}".encode()).hexdigest()
        assert held_out(Path(f"/any/alexa/{stem}.wav")) == (int(digest[:8], 16) % 5 == 0)


def test_targets_have_the_frames_of_the_model() -> None:
    rng = np.random.default_rng(0)
    for seconds in (0.5, 1.234, 2.0):
        wave = murmur(rng, seconds)
        features = mfcc39((wave * 32767).astype(np.int16))
        assert features.shape == (frame_count(len(wave)), 39)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_kmeans_finds_separated_clouds(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.arange(300) % 3
    points = 40.0 * torch.eye(3)[truth] + torch.randn(300, 3, generator=generator)
    centres = kmeans(points, 12, 20, generator)
    labels, _ = assign(points, centres)
    brute = torch.cdist(points, centres).argmin(1)
    assert torch.equal(labels, brute)
    for label in labels.unique():  # no cluster mixes two clouds
        assert len(truth[labels == label].unique()) == 1


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    for file in WEIGHTS.parent.glob("hubert_mini.s*"):
        shutil.copy(file, tmp_path)
    copy = tmp_path / WEIGHTS.name
    assert load_weights(copy).about["kind"] == "hubert"
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    with pytest.raises(MissingError):
        load_weights(copy)
    copy.unlink()
    with pytest.raises(MissingError):
        load_weights(copy)


@pytest.mark.parametrize("name", ["hubert_mini", "wav2vec2_mini", "wavlm_mini"])
def test_packaged_weights_name_their_recipe(name: str) -> None:
    folder = WEIGHTS.parents[1] / name
    recipe = load_recipe(folder / "recipe.yaml")
    about = load_weights(folder / f"{name}.safetensors").about
    assert about["recipe"] == recipe.digest
    assert about["steps"] == sum(stage.train.steps for stage in recipe.stages)
    for change in ({"seed": recipe.seed + 1}, {"init": "another_mini"}):
        assert recipe.model_copy(update=change).digest != recipe.digest
