"""What pretraining hears beside recordings: synthetic speech, rooms, noise; recipes that have grown."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy import signal

from ssft_bench.corpora.mini.make.voices import VOICES as MINI_VOICES
from ssft_bench.corpora.mini_phrases.make.voices import VOICES as PHRASE_VOICES
from ssft_bench.errors import MissingError
from ssft_bench.upstreams.hubert_mini.expert import WEIGHTS
from ssft_bench.upstreams.hubert_mini.pretrain import make_learner
from ssft_bench.upstreams.pretraining import synthetic
from ssft_bench.upstreams.pretraining.audio import Recording, normalised
from ssft_bench.upstreams.pretraining.batches import CropBatches
from ssft_bench.upstreams.pretraining.recipe import Surroundings, load_recipe
from ssft_bench.upstreams.pretraining.run import main
from ssft_bench.upstreams.pretraining.surroundings import surrounded
from ssft_bench.upstreams.pretraining.weights import load_weights
from tests.speech import murmur, write


@pytest.fixture
def rng() -> np.random.Generator:
    seed = int(np.random.default_rng().integers(2**31))
    print(f"seed {seed}")  # shown when the test fails
    return np.random.default_rng(seed)


def test_no_voice_of_a_test_part_speaks() -> None:
    heard = {(v.engine, v.settings["voice"].lower()) for v in synthetic.VOICES}
    kept = {
        (v.engine, v.settings["voice"].lower())
        for v in (*MINI_VOICES, *PHRASE_VOICES)
        if v.split != "train" and v.engine != "kokoro"
    }
    assert len(kept) > 25
    assert not heard & kept
    assert len(heard) == len(synthetic.VOICES) > 50


def test_the_plan(tmp_path: Path) -> None:
    """Fitting sentences only, each said once before any is said again; a seed is a plan."""
    lines = [f"please call number {'abcdefgh'[n]} again" for n in range(8)]
    (tmp_path / "a.txt").write_text("\n".join([*lines, "too short", "CALL 12 PEOPLE FROM HERE"]))
    (tmp_path / "b.jsonl").write_text(json.dumps({"sentence": "Turn the lights down in the hall"}))
    texts = synthetic.read_texts([tmp_path / "a.txt", tmp_path / "b.jsonl"])
    assert texts == sorted([*lines, "turn the lights down in the hall"])
    plan = synthetic.plan(texts, 30, 3)
    assert plan == synthetic.plan(texts, 30, 3) != synthetic.plan(texts, 30, 4)
    for start in (0, 9, 18):
        assert sorted(one.text for one in plan[start : start + 9]) == texts
    many = synthetic.plan(texts, 4000, 1)
    engines = Counter(one.voice.engine for one in many)
    assert engines["flite"] / 4000 == pytest.approx(0.45, abs=0.05)
    assert engines["festival"] / 4000 == pytest.approx(0.08, abs=0.03)
    assert all(0.84 <= one.warp <= 1.2 and 0.87 <= one.speed <= 1.13 for one in many)
    with pytest.raises(MissingError, match="no sentence"):
        synthetic.read_texts([])
    with pytest.raises(MissingError, match=r"none\.txt"):
        synthetic.read_texts([tmp_path / "none.txt"])


@pytest.mark.parametrize("engine", ["flite", "espeak-ng", "festival"])
def test_engines_speak(engine: str, tmp_path: Path) -> None:
    if shutil.which(engine) is None:
        pytest.skip(f"{engine} is not installed")
    voice = next(v for v in synthetic.VOICES if engine.startswith(v.engine))
    seconds = []
    for number, speed in enumerate((0.87, 1.13)):
        saying = synthetic.Saying(number, "the weather is rather mild today", voice, 1.1, speed, 50)
        try:
            wave, rate = soundfile.read(synthetic.speak(saying, tmp_path))
        except RuntimeError as error:
            pytest.skip(f"{engine} lacks the voice: {error}")
        assert rate == 16000
        assert np.abs(wave).max() == pytest.approx(0.5, abs=0.01)
        seconds.append(len(wave) / rate)
    assert 1.15 < seconds[0] / seconds[1] < 1.5  # 1.3 but for the silence at the ends


def test_noise_has_the_level_that_was_drawn(rng: np.random.Generator) -> None:
    """Without a room the speech is a scaled part of what is heard; the rest is the noise."""
    wave = normalised((murmur(rng, 2.0) * 32767).astype(np.int16))
    for _ in range(8):
        spec = Surroundings(probability={"x": 1.0}, rooms=0.0, decibels=(11.0, 13.0))
        heard = surrounded(wave, "x", spec, rng)
        assert heard.shape == wave.shape
        assert abs(float(heard.mean())) < 1e-3
        assert float(heard.std()) == pytest.approx(1.0, abs=1e-3)
        share = float(np.dot(heard, wave) / np.dot(wave, wave))
        ratio = 10 * np.log10((share * wave).var() / (heard - share * wave).var())
        assert 10.0 < ratio < 14.0


def test_a_room_moves_no_frame(rng: np.random.Generator) -> None:
    """The direct sound, which is the strongest, stays where it was: white noise is like itself at 0 alone."""
    wave = rng.normal(size=16000).astype(np.float32)
    spec = Surroundings(probability={"x": 1.0}, rooms=1.0, decibels=(60.0, 60.0))
    heard = surrounded(wave, "x", spec, rng)
    assert not np.allclose(heard, wave, atol=0.1)
    correlation = signal.correlate(heard, wave, mode="full")
    assert int(np.abs(correlation).argmax()) == len(wave) - 1


def test_crops_are_surrounded_and_targets_are_not(rng: np.random.Generator) -> None:
    recordings = [
        Recording(corpus, str(n), (murmur(rng, 1.5) * 32767).astype(np.int16))
        for n, corpus in enumerate(["loud", "calm"] * 6)
    ]
    targets = [np.full(74, n, np.int16) for n in range(12)]

    def batch(spec: Surroundings | None) -> tuple[torch.Tensor, torch.Tensor]:
        made = CropBatches(recordings, targets, batch_seconds=12, crop_seconds=3.0,
                           weights={}, seed=5, surroundings=spec)  # fmt: skip
        waves, labels = made.batch(7)
        assert labels is not None
        return waves, labels

    plain, labels = batch(None)
    heard, same = batch(Surroundings(probability={"loud": 1.0}))
    again, _ = batch(Surroundings(probability={"loud": 1.0}))
    assert torch.equal(labels, same)
    assert torch.equal(heard, again)
    for row, label in enumerate(labels[:, 0].tolist()):
        assert torch.equal(plain[row], heard[row]) == (label % 2 == 1)


def test_a_recipe_that_has_grown_goes_on(
    rng: np.random.Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the stages after the one whose weights are given are run; the file tells of all."""
    for n in range(6):
        write(tmp_path / f"synthetic/{n}.flac", murmur(rng, 1.2))
    text = (WEIGHTS.with_name("recipe.yaml")).read_text()
    head = text[: text.index("stages:")]
    stage = """
  - name: {name}
    start: body
    targets: {{kind: hidden, layer: 2, clusters: 4, iterations: 3, rows: 500}}
    data: {{corpora: {{synthetic: 1.0}}, batch_seconds: 2, crop_seconds: 1.0,
           surroundings: {{probability: {{synthetic: 0.5}}}}}}
    train:
      steps: 2
      optimizer: {{name: adamw, lr: 1.0e-4}}
      schedule: {{name: linear, warmup: 0.1}}
"""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(head + "stages:" + stage.format(name="old") + stage.format(name="new"))
    common = ["--data", str(tmp_path), "--recipe", str(recipe), "--out", str(tmp_path / "out")]
    start = ["--after", "old", "--weights", str(WEIGHTS)]
    speech = ["--synthetic", str(tmp_path / "synthetic")]
    assert main(recipe, make_learner, [*common, *start]) == 2
    assert "give its folder with --synthetic" in capsys.readouterr().out
    assert main(recipe, make_learner, [*common, *start[2:], "--after", "new", *speech]) == 2
    assert "stages with one after them: old" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(recipe, make_learner, [*common, "--after", "old"])
    assert main(recipe, make_learner, [*common, *start, *speech]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_dir()) == ["new"]
    before, after = (
        load_weights(p).about for p in (WEIGHTS, tmp_path / "out/hubert_mini.safetensors")
    )
    assert after["steps"] == before["steps"] + 2
    assert after["hours"].keys() == {*before["hours"], "synthetic"}
    assert after["recipe"] == load_recipe(recipe).digest
