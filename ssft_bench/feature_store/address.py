"""What hidden states depend on, as digests: the upstream with its code, and a recording's bytes."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssft_bench import audio, hidden_states, registry
from ssft_bench import upstream as upstream_module
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.digests import file_digests
from ssft_bench.files import sha256_json
from ssft_bench.names import split_options

DECIDING_PACKAGES = ("torch", "torchaudio", "espnet-s3prl", "transformers", "numpy", "soundfile")
"""Installed code between a recording and its hidden states."""
_OURS = (audio, hidden_states, upstream_module)


def upstream_key(
    upstream: nn.Module, name: str, options: Mapping[str, Any], weights_sha256: str | None,
    device: torch.device,
) -> str:  # fmt: skip
    """Digest of everything but the recording that decides hidden states.

    Weights by their bytes; name and options, since one set of weights can be run in several ways (paths
    of checkpoints and of plug-in files left out: their bytes stand for them); the source files of every
    module in `upstream`, of the function that builds it, and of reading audio; versions of packages;
    kind of device, since a GPU rounds differently. A key too many costs a forward pass, a key too few
    a wrong number.
    """
    parts = [split_options(part, "--upstream") for part in registry.split_joint(name)]
    entries = [
        [own.rpartition(".py:")[2], {k: v for k, v in given.items() if k != "ckpt"}]
        for own, given in parts
    ]
    files = {*_source_files(upstream), *(Path(m.__file__ or "") for m in _OURS)}
    for own, _ in parts:
        files |= _file_of_module(getattr(registry.load("upstreams", own), "__module__", ""))
    return sha256_json(
        {
            "weights": weights_sha256,
            "entries": entries,
            "options": {k: v for k, v in options.items() if k != "ckpt"},
            "sources": sorted(set(file_digests(sorted(files)).values())),
            "packages": [[package, _version(package)] for package in DECIDING_PACKAGES],
            "device": device.type,
        }
    )


def _source_files(module: nn.Module) -> set[Path]:
    """Files that define the classes in a module tree and their bases, torch's own left out."""
    classes = {base for part in module.modules() for base in type(part).__mro__}
    found: set[Path] = set()
    for one in classes:
        if one.__module__.partition(".")[0] not in ("torch", "builtins"):
            found |= _file_of_module(one.__module__)
    return found


def _file_of_module(name: str) -> set[Path]:
    module = sys.modules.get(name)
    try:
        place = inspect.getsourcefile(module) if module is not None else None
    except TypeError:  # built in
        return set()
    return {Path(place)} if place and Path(place).is_file() else set()


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


class Addresses:
    """Address of each utterance: 32 hexadecimal digits over what is heard, whatever it is called.

    The recording's bytes, where the utterance begins and ends in it, its change of level, and whether the
    file is headerless (the suffix decides how it is read).
    """

    def __init__(self) -> None:
        self._known: dict[Utterance, str] = {}

    def of(self, utterance: Utterance) -> str:
        """One utterance's address. Raises OSError where the recording is gone."""
        if utterance not in self._known:
            self.learn([utterance])
        return self._known[utterance]

    def learn(self, utterances: Iterable[Utterance]) -> None:
        """Hash the recordings of many utterances at once; unchanged files are not read again."""
        new = [u for u in utterances if u not in self._known]
        digests = file_digests(u.audio for u in new)
        for u in new:
            heard = [digests[u.audio], u.audio.suffix == ".raw", u.start, u.end, u.gain_db]
            self._known[u] = sha256_json(heard)[:32]
