"""Recipes of ner and sa: they resolve, and suite full in protocol finetuned has SLUE's numbers."""

from __future__ import annotations

from typing import Any

import pytest

from ssft_bench import registry
from ssft_bench.errors import MissingError
from ssft_bench.spec import RunSpec, resolve


def spec(task: str, suite: str, protocol: str) -> RunSpec:
    return resolve(
        upstream="hubert_mini", interface="last", task=task, suite=suite, protocol=protocol
    )


SLUE: dict[str, dict[str, Any]] = {
    # updates, lr, warm-up and hold, seconds of a micro-batch, accumulated, frozen, layer drop
    "ner": {"numbers": (20_000, 5e-5, (0.1, 0.4), 3_200_000 / 16_000, 8, 10_000, 0.05)},
    "sa": {"numbers": (50_000, 2e-5, (0.1, 0.0), 1_400_000 / 16_000, 1, 2_000, 0.1)},
}


@pytest.mark.parametrize("task", SLUE)
def test_full_and_finetuned_is_slues(task: str) -> None:
    found = spec(task, "full", "finetuned")
    train, tune = found.training, found.finetune
    assert tune is not None
    assert (
        train.steps,
        train.optimizer.lr,
        (train.schedule.warmup, train.schedule.hold),
        found.data.batch_seconds,
        train.accumulate,
        tune.frozen_steps,
        tune.layerdrop,
    ) == SLUE[task]["numbers"]
    assert (train.optimizer.betas, train.optimizer.eps) == ((0.9, 0.98), 1e-8)
    assert (train.schedule.name, train.schedule.final_scale) == ("tri_stage", 0.05)
    assert (train.clip, train.precision) == (None, "16-mixed")
    assert (tune.time_mask_prob, tune.time_mask_length) == (0.65, 10)
    assert (tune.channel_mask_prob, tune.channel_mask_length) == (0.5, 64)
    assert (tune.dropout, tune.activation_dropout) == (0.0, 0.1)
    assert (tune.trainable, tune.train_convolutions) == ("all", False)
    assert found.data.batch_size > 3_200_000 / 8_000  # half-second utterances would still fit


def test_what_picks_the_best_step() -> None:
    assert spec("ner", "full", "finetuned").selection.metric == "tagged_wer"
    assert spec("ner", "full", "frozen").selection.metric == "f1"
    for protocol in ("frozen", "finetuned"):
        assert spec("sa", "full", protocol).selection.metric == "macro_f1"


def test_heads() -> None:
    """Frozen: SUPERB's ASR head, as the defaults; fine-tuned: one linear layer, no SpecAugment."""
    options = registry.load("tasks", "ner").Options
    assert options.model_validate(spec("ner", "full", "frozen").task.options) == options()
    tuned = options.model_validate(spec("ner", "full", "finetuned").task.options)
    assert (tuned.layers, tuned.specaugment) == (0, None)
    own = registry.load("tasks", "sa").Options
    for protocol in ("frozen", "finetuned"):
        assert own.model_validate(spec("sa", "full", protocol).task.options) == own()


@pytest.mark.parametrize(("task", "steps"), [("ner", 20_000), ("sa", 10_000)], ids=["ner", "sa"])
def test_full_and_frozen(task: str, steps: int) -> None:
    found = spec(task, "full", "frozen")
    assert (found.training.steps, found.training.clip, found.data.batch_size) == (steps, 1.0, 16)
    assert (found.training.optimizer.name, found.finetune) == ("adam", None)


@pytest.mark.parametrize(
    ("task", "suite", "corpus"),
    [
        ("ner", "full", "slue_voxpopuli"),
        ("ner", "mini", "mini_phrases"),
        ("ner", "pocket", "speech_to_intent"),
        ("sa", "full", "slue_voxceleb"),
        ("sa", "mini", "mini_phrases"),
    ],
)
def test_corpora_have_the_labels(task: str, suite: str, corpus: str) -> None:
    for protocol in ("frozen", "finetuned"):
        assert spec(task, suite, protocol).data.corpus == corpus
    assert task in registry.load("corpora", corpus).tasks


def test_the_lm_recipe_is_slues() -> None:
    found = resolve(upstream="hubert_mini", interface="last", task="ner", suite="full", lm="x.arpa")
    assert found.lm is not None
    assert (found.lm.beam_size, found.lm.lm_weight, found.lm.word_score) == (500, 2.0, 1.0)
    assert (found.lm.beam_threshold, found.lm.sil_score) == (25.0, 0.0)
    assert found.lm.unk_score is None  # minus infinity


def test_sentiment_has_no_pocket_corpus() -> None:
    with pytest.raises(MissingError, match="sa in suite pocket: no English recordings"):
        spec("sa", "pocket", "frozen")
