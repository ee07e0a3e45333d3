"""s3prl's downstream runner, unchanged, with one of our interfaces as its featurizer.

From the command line, which hands everything after `--` to `s3prl.run_downstream`:

    python -m ssft_bench.s3prl_runner --interface hconv -- -m train -u hubert_mini -d example ...
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import sys
import types
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssft_bench.errors import BenchError, MissingError, UsageError
from ssft_bench.featurizer import Build, RunnerFeaturizer, resolve_interface


@contextmanager
def use_in_s3prl(interface: str | Build, fit: Iterable[Tensor] | None = None) -> Iterator[None]:
    """Within the block, s3prl's downstream runner builds its featurizer with this interface.

    `interface` is written as on the command line, or a class; `fit` gives training speech [samples]
    at 16 kHz to one that needs it. s3prl is not changed: `s3prl.run_downstream.main` and
    `s3prl.downstream.runner.Runner` work as ever, checkpoints of their own included.
    """
    resolve_interface(interface)  # a wrong name is told before an upstream is loaded
    with _what_s3prl_misses():
        import s3prl.run_downstream  # noqa: F401  # while all it asks for is there
        from s3prl.downstream import runner

        theirs = runner.Featurizer
        runner.Featurizer = functools.partial(RunnerFeaturizer, interface=interface, fit=fit)
        try:
            yield
        finally:
            runner.Featurizer = theirs


def main() -> None:
    """`python -m ssft_bench.s3prl_runner --interface NAME [--fit FOLDER] -- <arguments of s3prl>`."""
    own, dashes, theirs = _split(sys.argv[1:])
    parser = argparse.ArgumentParser(
        prog="python -m ssft_bench.s3prl_runner",
        usage="%(prog)s --interface NAME [--fit FOLDER] -- <arguments of s3prl.run_downstream>",
        description="Run s3prl's downstream code with one of our interfaces as its featurizer.",
    )
    parser.add_argument("--interface", required=True, help="name, name:option=value, file.py:Class")
    parser.add_argument("--fit", type=Path, help="recordings for an interface that needs a fit")
    options = parser.parse_args(own)
    if not dashes:
        parser.error(
            "s3prl's own arguments go after --, e.g. -- -m train -u hubert_mini -d asr ..."
        )
    try:
        with use_in_s3prl(options.interface, _recordings(options.fit) if options.fit else None):
            from s3prl import run_downstream

            sys.argv = ["run_downstream.py", *theirs]
            run_downstream.main()
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _split(arguments: list[str]) -> tuple[list[str], bool, list[str]]:
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], at < len(arguments), arguments[at + 1 :]


def _recordings(folder: Path) -> Iterator[Tensor]:
    """Waveforms [samples] of all recordings below a folder, read one at a time."""
    from ssft_bench.audio import read_audio

    kinds = {".wav", ".flac", ".ogg", ".opus", ".sph", ".mp3"}
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in kinds)
    if not files:
        raise MissingError(f"--fit {folder}: there are no recordings ({', '.join(sorted(kinds))})")
    return (torch.from_numpy(read_audio(file)) for file in files)


@contextmanager
def _what_s3prl_misses() -> Iterator[None]:
    """Let s3prl's runner work with the versions at hand, where it could not even be imported.

    It imports two names that huggingface_hub 1.0 dropped (for uploads only) and tensorboardX, which
    it does not ask for; and since torch 2.6 its own checkpoints cannot be read, because they hold an
    argparse.Namespace. All is taken back afterwards, but what s3prl imported it keeps.
    """
    import huggingface_hub

    absent = [name for name in ("HfFolder", "Repository") if not hasattr(huggingface_hub, name)]
    for name in absent:
        setattr(huggingface_hub, name, _Dropped())
    boards = _no_tensorboard()
    sys.modules.update(boards)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            yield
    finally:
        for name in absent:
            delattr(huggingface_hub, name)
        for name in boards:
            del sys.modules[name]


def _no_tensorboard() -> dict[str, types.ModuleType]:
    """A module in the place of tensorboardX, unless it is there; torch's writer where that works."""
    if "tensorboardX" in sys.modules or importlib.util.find_spec("tensorboardX"):
        return {}
    module = types.ModuleType("tensorboardX")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        warnings.warn("no tensorboardX: s3prl's curves go to scalars.csv instead", stacklevel=2)
        SummaryWriter = ScalarFile  # type: ignore[misc,assignment]
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    return {"tensorboardX": module}


class ScalarFile:
    """What s3prl needs of tensorboardX's SummaryWriter: lines `step,name,value` in `scalars.csv`."""

    def __init__(self, logdir: str) -> None:
        """Lines are appended to the file in `logdir`."""
        self._path = Path(logdir) / "scalars.csv"

    def add_scalar(self, tag: str, scalar_value: Any, global_step: int | None = None) -> None:
        """Append one line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{global_step},{tag},{float(scalar_value)}\n")

    def add_audio(self, *args: Any, **kwargs: Any) -> None:
        """Sounds are not kept."""

    def close(self) -> None:
        """Nothing is open."""


class _Dropped:
    """Stands for what huggingface_hub 1.0 dropped."""

    def __getattr__(self, name: str) -> Any:
        raise UsageError("s3prl's uploads to the Hugging Face hub need huggingface_hub below 1.0")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.called


if __name__ == "__main__":
    main()
