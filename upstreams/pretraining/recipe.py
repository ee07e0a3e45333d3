"""The recipe of a pretraining run: every number that shapes the weights, read from recipe.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ssft_bench.errors import UsageError
from ssft_bench.files import sha256_json
from ssft_bench.training_spec import TrainSpec


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Surroundings(_Strict):
    """Rooms and noise put around crops; the targets stay those of the clean speech."""

    probability: dict[str, float]
    """Share of each corpus' crops that are changed; a corpus not named is left as it is."""
    rooms: float = Field(default=0.5, ge=0, le=1)
    """Share of these that are also put into a room."""
    rt60: tuple[float, float] = (0.12, 0.5)
    """Shortest and longest reverberation time, seconds."""
    decibels: tuple[float, float] = (8.0, 30.0)
    """Lowest and highest energy of the speech over that of the noise."""


class Data(_Strict):
    """Which recordings, in what measure, cut how."""

    corpora: dict[str, float]
    """Weight of each corpus in the sampling, times its hours; a corpus not named is not heard."""
    batch_seconds: float = Field(gt=0)
    """Audio in one micro-batch, seconds, about."""
    crop_seconds: float = Field(gt=0)
    """Longest crop, seconds."""
    min_seconds: float = 0.5
    """Shorter recordings are left out."""
    surroundings: Surroundings | None = None
    """Rooms and noise."""


class Targets(_Strict):
    """Where the cluster numbers of a HuBERT stage come from."""

    kind: Literal["mfcc", "hidden"]
    """39-dimensional MFCCs, or hidden states of the previous stage's model."""
    layer: int = 0
    """Hidden states: output of this transformer layer (1 is the first)."""
    kernel: list[float] = [1.0]
    """MFCCs: weights of neighbouring frames (an odd number) in the average over time."""
    acceleration: float = 1.0
    """MFCCs: weight of the second differences after standardising."""
    clusters: int = Field(ge=2)
    """Clusters of the k-means."""
    iterations: int = 30
    """Rounds of Lloyd's algorithm."""
    rows: int = 200_000
    """Frames the centres are fitted on."""


class Mixing(_Strict):
    """WavLM's utterance mixing: what is added to a crop whose targets stay those of the crop alone."""

    probability: float = Field(ge=0, le=1)
    """Share of the crops that something is added to."""
    noise: float = Field(default=0.1, ge=0, le=1)
    """Share of these that get coloured noise; the others get a part of another crop of the batch."""
    longest: float = Field(default=0.5, gt=0, le=1)
    """Longest added part, as a share of the crop."""
    speech_decibels: tuple[float, float] = (-5.0, 5.0)
    """Lowest and highest energy of the crop over that of added speech."""
    noise_decibels: tuple[float, float] = (-5.0, 20.0)
    """The same for added noise."""


class Head(_Strict):
    """Prediction head of a model class that has none of its own (WavLM)."""

    dim: int = Field(gt=0)
    """Width of the space in which states are compared with the embeddings of the clusters."""
    temperature: float = Field(gt=0)
    """Divides the cosines."""


class Stage(_Strict):
    """One training run."""

    name: str
    """Folder of the stage."""
    data: Data
    """What it hears."""
    train: TrainSpec
    """How long and how fast."""
    targets: Targets | None = None
    """HuBERT's and WavLM's targets; none for wav2vec 2.0."""
    start: Literal["fresh", "body", "all"] = "fresh"
    """Random weights, the previous stage's without its prediction head, or all of them.

    The stage before the first one is the upstream that the recipe's `init` names.
    """
    unmasked_weight: float = 0.0
    """HuBERT, WavLM: weight of the loss on unmasked frames."""
    diversity_weight: float = 0.1
    """wav2vec 2.0: weight of the codebook diversity loss."""
    penalty_weight: float = 0.0
    """Weight of the mean squared feature of the convolutional stack."""
    mixing: Mixing | None = None
    """WavLM: utterance mixing."""
    head: Head | None = None
    """WavLM: its prediction head."""


class Recipe(_Strict):
    """A whole pretraining."""

    kind: Literal["hubert", "wav2vec2", "wavlm"]
    """Which model class of s3prl."""
    seed: int = 0
    """Seed of initial weights, batches, masks and clusters."""
    model: dict[str, Any]
    """Arguments of HubertConfig, Wav2Vec2Config or WavLMConfig."""
    task: dict[str, Any]
    """Arguments of HubertPretrainingConfig or AudioPretrainingConfig; WavLM: more of WavLMConfig."""
    stages: list[Stage]
    """In order."""
    init: str | None = None
    """Upstream of this package, pretrained: where the first stage starts and takes hidden targets from."""

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON; fields added since the first weights count only when set."""
        plain = self.model_dump(mode="json")
        stages = plain["stages"]
        for part in (plain, *stages, *(stage["data"] for stage in stages)):
            for name in _ADDED & part.keys():
                if part[name] is None:
                    del part[name]
        return sha256_json(plain)


_ADDED = frozenset({"init", "mixing", "head", "surroundings"})


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; a wrong key or value is a UsageError."""
    try:
        return Recipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, ValidationError, yaml.YAMLError) as error:
        raise UsageError(f"recipe {path}: {error}") from error
