"""Run a recipe: stages in order, each one resumable, then the exported weights."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from ssft_bench.errors import BenchError, UsageError
from ssft_bench.files import atomic_path, write_json
from ssft_bench.seeds import seed_for
from ssft_bench.training import Trainer
from ssft_bench.upstreams.pretraining import audio, clusters
from ssft_bench.upstreams.pretraining.batches import CropBatches, frame_count
from ssft_bench.upstreams.pretraining.models import (
    build_model,
    layer_output,
    zero_relative_positions_,
)
from ssft_bench.upstreams.pretraining.recipe import Recipe, Stage, Targets, load_recipe
from ssft_bench.upstreams.pretraining.weights import load_weights, save_weights

if TYPE_CHECKING:
    from lightning_fabric import Fabric

MakeLearner = Callable[[nn.Module, Stage], nn.Module]
HEAD = ("final_proj", "label_embs_concat", "quantizer", "project_q")
"""Modules of the prediction head: not carried from stage to stage by `start: body`."""


@dataclass(frozen=True)
class Speech:
    """Where the recordings are; the embedded corpora are in the package."""

    recorded: Path
    """Folder of the recorded corpora."""
    synthetic: Path | None = None
    """Folder that `pretraining.synthetic` has filled."""


@dataclass(frozen=True)
class Start:
    """Weights that the stages up to and with `after` have left: only the later ones are run."""

    after: str
    weights: Path


def run(
    recipe: Recipe, speech: Speech, out: Path, make: MakeLearner, start: Start | None = None
) -> Path:
    """Train all stages below `out`; returns the exported weights. Finished stages are not repeated."""
    from lightning_fabric import Fabric

    model = initial_model(recipe.init)
    hours: dict[str, float] = {}
    done: dict[str, Any] = {"hours_processed": 0.0, "steps": 0, "seconds": 0.0}
    first = 0
    if start is not None:
        first = _stage_after(recipe, start.after)
        loaded = load_weights(start.weights)
        model, hours = loaded.model, dict(loaded.about["hours"])
        done = {name: loaded.about[name] for name in done}
    for number, stage in list(enumerate(recipe.stages))[first:]:
        folder = out / stage.name
        recordings = gather(stage, speech)
        hours |= audio.hours_by_corpus(recordings)
        targets = make_targets(stage.targets, model, recordings, folder, recipe.seed)
        fresh = new_model(recipe, stage, model)
        fabric = Fabric(accelerator="cpu", devices=1, precision=stage.train.precision)
        model, seconds = train(
            stage, fresh, recordings, targets, folder, recipe.seed + number, fabric, make
        )
        done["steps"] += stage.train.steps
        heard = stage.train.steps * stage.train.accumulate * stage.data.batch_seconds / 3600
        done["hours_processed"] = round(done["hours_processed"] + heard, 2)
        done["seconds"] = round(done["seconds"] + seconds, 1)
    assert model is not None
    about = {**describe(recipe, recipe.stages[-1]), **done, "hours": hours}
    path = out / f"{recipe.kind}_mini.safetensors"
    save_weights(path, model, about)
    write_json(out / "about.json", about)
    return path


def describe(recipe: Recipe, stage: Stage) -> dict[str, Any]:
    """What a weights file says about itself, apart from the length of the run."""
    count = stage.targets.clusters if stage.targets else 0
    origin = {"init": recipe.init} if recipe.init else {}
    return {"kind": recipe.kind, "model": recipe.model, "task": recipe.task, "clusters": count,
            "recipe": recipe.digest, **origin}  # fmt: skip


def _stage_after(recipe: Recipe, name: str) -> int:
    """Place of the stage that follows `name`; UsageError when there is none."""
    names = [stage.name for stage in recipe.stages]
    if name not in names[:-1]:
        raise UsageError(f"--after {name}: stages with one after them: {', '.join(names[:-1])}")
    return names.index(name) + 1


def gather(stage: Stage, speech: Speech) -> list[audio.Recording]:
    """The recordings a stage hears."""
    files = [*audio.recorded_files(speech.recorded), *audio.embedded_files()]
    if "synthetic" in stage.data.corpora:
        if speech.synthetic is None:
            raise UsageError(
                f"{stage.name} hears synthetic speech: give its folder with --synthetic "
                "(made by python -m ssft_bench.upstreams.pretraining.synthetic)."
            )
        files += audio.synthetic_files(speech.synthetic)
    wanted = [(corpus, path) for corpus, path in files if corpus in stage.data.corpora]
    return audio.read_recordings(wanted, stage.data.min_seconds)


def initial_model(name: str | None) -> nn.Module | None:
    """The packaged model that a recipe starts from, if it names one; MissingError when there is none."""
    if name is None:
        return None
    return load_weights(Path(__file__).parents[1] / name / f"{name}.safetensors").model


def new_model(recipe: Recipe, stage: Stage, previous: nn.Module | None) -> nn.Module:
    """A model for a stage, with the previous stage's body when the stage asks for it.

    Relative positions that the previous model had not are zero: the start computes what it did. Raises
    UsageError when the new model has no place for a part of the previous one.
    """
    count = stage.targets.clusters if stage.targets else 0
    seed = seed_for(recipe.seed, stage.name) % 2**31
    model = build_model(recipe.kind, recipe.model, recipe.task, count, seed)
    if stage.start != "fresh" and previous is not None:
        skip = HEAD if stage.start == "body" else ()
        kept = {k: v for k, v in previous.state_dict().items() if not k.startswith(skip)}
        missing, unexpected = model.load_state_dict(kept, strict=False)
        if unexpected:
            raise UsageError(f"{stage.name}, start: the model lacks {', '.join(unexpected)}")
        if any("relative_attention_bias" in name for name in missing):
            zero_relative_positions_(model)
    return model


def make_targets(
    spec: Targets | None,
    model: nn.Module | None,
    recordings: Sequence[audio.Recording],
    folder: Path,
    seed: int,
) -> list[NDArray[np.int16]] | None:
    """Cluster numbers of every frame, computed once per stage and kept in `targets.safetensors`."""
    if spec is None:
        return None
    path = folder / "targets.safetensors"
    if not path.exists():
        features = []
        for recording in recordings:
            if spec.kind == "mfcc":
                features.append(clusters.mfcc39(recording.samples))
                continue
            assert model is not None, "hidden targets need a previous stage"
            wave = torch.from_numpy(audio.normalised(recording.samples))
            with torch.autocast("cpu", torch.bfloat16):
                features.append(layer_output(model.eval(), wave, spec.layer))
        ready = (
            clusters.smoothed_mfcc(features, spec.kernel, spec.acceleration)
            if spec.kind == "mfcc"
            else clusters.standardised(features)
        )
        labels, explained = clusters.cluster_targets(
            ready, spec.clusters, iterations=spec.iterations, rows=spec.rows, seed=seed
        )
        tensors = {str(i): torch.from_numpy(t.copy()) for i, t in enumerate(labels)}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, {"variance_explained": f"{explained:.4f}"})
        print(f"{folder.name}: {spec.clusters} clusters explain {explained:.1%} of the variance")
    stored = load_file(path)
    lengths = [len(stored[str(i)]) for i in range(len(stored))]
    if lengths != [frame_count(len(r.samples)) for r in recordings]:
        raise UsageError(f"{path} belongs to other recordings; remove it or give another --out.")
    return [stored[str(i)].numpy() for i in range(len(recordings))]


def train(
    stage: Stage,
    model: nn.Module,
    recordings: Sequence[audio.Recording],
    targets: Sequence[NDArray[np.int16]] | None,
    folder: Path,
    seed: int,
    fabric: Fabric,
    make: MakeLearner,
) -> tuple[nn.Module, float]:
    """Train one stage, or continue it; returns the model and the seconds its training took."""
    data = stage.data
    batches = CropBatches(
        recordings,
        targets,
        batch_seconds=data.batch_seconds,
        crop_seconds=data.crop_seconds,
        weights=data.corpora,
        seed=seed,
        surroundings=data.surroundings,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, stage.name, "learner"))  # a learner may bring its own head
        learner = make(model, stage)
    trainer = Trainer(
        learner, batches, stage.train, folder, seed=seed, fabric=fabric, label=stage.name
    )
    outcome = trainer.run()
    return model, outcome.seconds


def main(recipe_path: Path, make: MakeLearner, arguments: Sequence[str] | None = None) -> int:
    """Command line of a pretraining script."""
    parser = argparse.ArgumentParser(description="Pretrain a small upstream by its recipe.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the recorded corpora")
    parser.add_argument("--synthetic", type=Path, help="folder of synthetic speech")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints and weights")
    parser.add_argument("--recipe", type=Path, default=recipe_path, help="another recipe.yaml")
    parser.add_argument("--after", metavar="STAGE", help="run only the stages after this one")
    parser.add_argument("--weights", type=Path, help="with --after: what that stage has left")
    parser.add_argument("--threads", type=int, help="threads of torch")
    options = parser.parse_args(arguments)
    if bool(options.after) != bool(options.weights):
        parser.error("--after and --weights go together")
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        speech = Speech(options.data, options.synthetic)
        start = Start(options.after, options.weights) if options.after else None
        path = run(load_recipe(options.recipe), speech, options.out, make, start)
    except BenchError as error:
        print(f"error: {error}")
        return error.exit_code
    print(path)
    return 0
