"""Labels, messages, options and recipes of asr and pr."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.downstreams.asr.task import ASR, SYMBOLS, ASROptions
from ssft_bench.downstreams.pr.task import PR, PROptions
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.language_model import LanguageModelSpec
from ssft_bench.task import Task
from ssft_bench.training_spec import TrainSpec

U = Utterance(
    "spk-1", Path("a.wav"), "train", text="IT'S A CAT", phones=("IH", "T", "S", "AH", "K", "AE")
)


def test_asr_target() -> None:
    task = ASR(ASROptions())
    task.prepare({"train": [U]})
    target = task.encode(U)
    assert target.dtype == torch.int64
    assert [SYMBOLS[i] for i in target] == [*"IT'S|A|CAT|", "</s>"]
    assert task.reference(U) == "IT'S A CAT"
    assert task.describe()["outputs"] == 32


def test_pr_target() -> None:
    task = PR(PROptions())
    task.prepare({"train": [U]})
    target = task.encode(U)
    assert [task.symbols[i] for i in target] == ["IH", "T", "S", "AH", "K", "AE", "<eos>"]
    assert task.reference(U) == "IH T S AH K AE"
    assert len(task.symbols) == task.describe()["outputs"] == 42
    assert len(PR(PROptions(), "superb71").symbols) == 74


@pytest.mark.parametrize("task", [ASR(ASROptions()), PR(PROptions())], ids=["asr", "pr"])
def test_missing_labels_are_named(task: Task) -> None:
    bare = replace(U, text=None, phones=None, split="dev")
    with pytest.raises(MissingError, match=r"'spk-1' \(dev\)"):
        task.prepare({"train": [U], "dev": [bare]})
    with pytest.raises(MissingError, match="spk-1"):
        task.encode(bare)


def test_librispeech_without_lexica_says_where_they_go() -> None:
    task = PR(PROptions(), "superb71")
    with pytest.raises(MissingError, match=r"200k-g2p\.txt.*into the folder that holds Libri"):
        task.prepare({"train": [replace(U, phones=None)]})


@pytest.mark.parametrize(
    ("text", "found"),
    [("HALLO, WELT", "','"), ("Abc", "'bc'"), ("A  B", "'extra spaces'"), ("R2D2", "'2'")],
)
def test_letters_that_cannot_be_spelled(text: str, found: str) -> None:
    with pytest.raises(MissingError, match=rf"spk-1.*found {found}"):
        ASR(ASROptions()).prepare({"train": [replace(U, text=text)]})


def test_phones_of_another_set() -> None:
    with pytest.raises(MissingError, match=r"spk-1.*superb71.*AE AH IH"):
        PR(PROptions(), "superb71").prepare({"train": [U]})
    with pytest.raises(UsageError, match="known: superb71, arpabet39"):
        PR(PROptions(), "timit61")


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValidationError):
        ASROptions.model_validate({"hiden_dim": 3})
    with pytest.raises(ValidationError):
        ASROptions.model_validate({"specaugment": {"freq_maks": 3}})


@pytest.mark.parametrize("suite", ["full", "mini"])
@pytest.mark.parametrize("task", [ASR, PR])
def test_recipes_fit_their_schemas(task: type[Task], suite: str) -> None:
    file = resources.files("ssft_bench.downstreams") / task.name / "recipe.yaml"
    recipe: dict[str, Any] = yaml.safe_load(file.read_text())[suite]
    task.Options.model_validate(recipe["options"])
    TrainSpec.model_validate(recipe["train"])
    for over in recipe.get("corpora", {}).values():
        TrainSpec.model_validate({**recipe["train"], **over["train"]})


@pytest.mark.parametrize(("task", "updates", "every"), [(ASR, 200_000, 2000), (PR, 100_000, 1000)])
def test_full_recipe_is_superbs(task: type[Task], updates: int, every: int) -> None:
    file = resources.files("ssft_bench.downstreams") / task.name / "recipe.yaml"
    recipe = yaml.safe_load(file.read_text())["full"]
    train = TrainSpec.model_validate(recipe["train"])
    assert task.Options.model_validate(recipe["options"]) == task.Options()
    assert (train.steps, train.eval_every, train.clip) == (updates, every, 1.0)
    assert (recipe["data"]["batch_size"], train.accumulate) == (16, 1 if task is ASR else 2)
    assert train.optimizer.lr == (1e-4 if task is ASR else 1e-2)


def test_full_recipe_decodes_as_superb_with_a_language_model() -> None:
    file = resources.files("ssft_bench.downstreams") / "asr" / "recipe.yaml"
    recipe = yaml.safe_load(file.read_text())["full"]
    superb = LanguageModelSpec(path="4-gram.arpa")
    assert LanguageModelSpec(path="4-gram.arpa", **recipe["lm"]) == superb
    assert (superb.beam_size, superb.beam_threshold, superb.beam_size_token) == (5, 25, None)
    assert (superb.lm_weight, superb.word_score, superb.sil_score) == (2, -1, 0)
    assert superb.unk_score is None  # minus infinity
    assert superb.silence == "gap"
    slue = recipe["lm"] | recipe["corpora"]["slue_voxpopuli"]["lm"]
    own = LanguageModelSpec(path="t3.arpa", **slue)
    assert (own.beam_size, own.lm_weight, own.word_score, own.silence) == (500, 2, -1, "blank")


def test_learns_what_the_features_say() -> None:
    """Three frames per phone, each phone its own direction: training reads it off."""
    torch.manual_seed(0)
    task = PR(PROptions(project_dim=32))
    phones = [("IH", "T", "S"), ("AH", "K", "AE", "T"), ("S", "AH")]
    rows = [replace(U, phones=p) for p in phones]
    targets = [task.encode(u) for u in rows]
    features = [torch.eye(42)[t].repeat_interleave(3, 0) for t in targets]
    batch = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
    lengths = torch.tensor([len(f) for f in features])
    head = task.head(42)
    optimizer = torch.optim.Adam(head.parameters(), 2e-2)
    for _ in range(120):
        optimizer.zero_grad()
        task.loss(*head(batch, lengths), targets).backward()
        optimizer.step()
    assert task.decode(*head(batch, lengths)) == [" ".join(p) for p in phones]
