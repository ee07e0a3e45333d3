"""Upstreams that an SSFT method left behind: a base upstream with the tensors of a checkpoint in it.

A method's `hubconf.py` declares its names with `@tuned`; each is an s3prl entry point. Without `ckpt`
a name stands for the mini checkpoint that comes with the package; suite `full` fills in `ckpt`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssft_bench.errors import MissingError, UsageError
from ssft_bench.names import split_options
from ssft_bench.suites import SMALL_MODELS

ENVIRONMENT = "SSFT_BENCH_CHECKPOINTS"
"""Folder that holds <name>.safetensors or <name>/checkpoint.safetensors for suite `full`."""
EXPERTS = {
    "hubert": ("hubert_local", "hf_hubert_custom"),
    "wav2vec2": ("wav2vec2_local", "hf_wav2vec2_custom"),
    "wavlm": ("wavlm_local", None),
}
"""Word in a base's name -> s3prl's entry points for a converted .pt and for a Hugging Face folder."""


@dataclass(frozen=True)
class Tuned:
    """What a name of an SSFT upstream stands for."""

    name: str
    base: str
    """The upstream that the published recipe tunes."""
    method: str
    packaged: Path
    """The mini checkpoint."""
    released: str
    """Where the authors published weights; empty where they did not."""

    def ways_out(self) -> str:
        """How to come by a checkpoint for suite `full`."""
        command = (
            f"ssft-bench tune --method {self.method} --base {self.base} --corpus librispeech "
            f"--data FOLDER -o {self.name}"
        )
        released = f"; the authors' weights are at {self.released} (ssft-bench import)"
        return (
            f"give --checkpoint FILE or set {ENVIRONMENT} to a folder with {self.name}.safetensors. "
            f"Make one: {command}{released if self.released else ''}"
        )


def tuned(
    *, base: str, released: str = "", local: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make an s3prl entry point of a function's name and docstring.

    `base` is the upstream of the published recipe; `local` names demand a checkpoint.
    """

    def decorate(declared: Callable[..., Any]) -> Callable[..., Any]:
        folder = Path(inspect.getfile(declared)).parent
        name = declared.__name__
        facts = Tuned(
            name.removesuffix("_local"), base, folder.name, folder / f"{name}.safetensors", released
        )

        def build(ckpt: str | Path | None = None, **kwargs: Any) -> Any:
            kwargs.pop("refresh", None)  # s3prl: download again
            if ckpt is None and local:
                raise MissingError(f"upstream {name} needs a checkpoint: {name}:ckpt=FILE")
            if ckpt is None and not facts.packaged.is_file():
                raise MissingError(f"upstream {name} has no mini checkpoint; {facts.ways_out()}")
            return load_tuned(ckpt or facts.packaged, base, **kwargs)

        build.__name__ = build.__qualname__ = name
        build.__doc__, build.__module__ = declared.__doc__, declared.__module__
        build.tuned = None if local else facts  # type: ignore[attr-defined]
        return build

    return decorate


def load_tuned(ckpt: str | Path, family: str, *, base: str | None = None, **kwargs: Any) -> Any:
    """The expert of a checkpoint: ours (.safetensors, applied to its base), a converted s3prl .pt, or a
    Hugging Face folder.

    `family` holds the word hubert, wav2vec2 or wavlm, for foreign files. `base`, as `name:option=value`,
    says where the base is to be had when it lies elsewhere than when it was tuned.

    Raises MissingError when the checkpoint is absent or belongs to another base.
    """
    from ssft_bench import registry
    from ssft_bench.checkpoints.delta import apply_checkpoint, read_checkpoint

    path = _local_file(str(ckpt))
    stock = next((entries for word, entries in EXPERTS.items() if word in family), (None, None))
    entry = stock[1] if path.is_dir() else stock[0]
    if path.is_dir() or path.suffix == ".pt":
        if entry is None or base is not None:
            raise UsageError(f"{path}: no base fits a whole model of {family} in this format")
        return registry.load("upstreams", entry)(str(path), **kwargs)
    checkpoint = read_checkpoint(path)
    about = checkpoint.about["base"]
    name, options = split_options(base, "base") if base else (about["name"], about["options"])
    expert = registry.load("upstreams", name)(**options, **kwargs)
    apply_checkpoint(expert, checkpoint, path)
    expert.checkpoint_about = checkpoint.about
    if {"head.weight", "head.bias", "codebook.weight"} <= checkpoint.extra.keys():
        parts = [
            checkpoint.extra[k].float() for k in ("head.weight", "head.bias", "codebook.weight")
        ]
        expert.codebook_of_layer = (-1, *parts)
    return expert


def _local_file(place: str) -> Path:
    """A path, or the file of a URL in s3prl's download cache."""
    if "://" not in place:
        return Path(place)
    from s3prl.util.download import _urls_to_filepaths

    return Path(_urls_to_filepaths(place))


def with_checkpoint(
    name: str, builder: Any, options: Mapping[str, Any], suite: str, given: str | None
) -> dict[str, Any]:
    """The options of an upstream with its checkpoint filled in.

    `--checkpoint` first, then (outside suites `mini` and `pocket`) SSFT_BENCH_CHECKPOINTS. Raises UsageError
    where `given` means nothing, MissingError with the exact tuning command when there is no checkpoint.
    """
    facts: Tuned | None = getattr(builder, "tuned", None)
    takes = facts is not None or name.endswith("_local")
    if given is not None and ("ckpt" in options or not takes):
        what = "has option ckpt too" if "ckpt" in options else "takes no checkpoint"
        raise UsageError(f"--checkpoint {given}: upstream {name} {what}")
    if given is not None:
        return {**options, "ckpt": given}
    if facts is None or suite in SMALL_MODELS or "ckpt" in options:
        return dict(options)
    folder = os.environ.get(ENVIRONMENT)
    if folder:
        for place in (
            Path(folder) / f"{name}.safetensors",
            Path(folder) / name / "checkpoint.safetensors",
        ):
            if place.is_file():
                return {**options, "ckpt": str(place)}
    looked = f"{ENVIRONMENT}={folder} has none" if folder else "none was given"
    raise MissingError(
        f"upstream {name} in suite {suite} needs a checkpoint, and {looked}: {facts.ways_out()}"
    )
