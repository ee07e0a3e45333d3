"""What every analysis starts from: upstreams by name, utterances of a corpus, states of layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssft_bench import registry
from ssft_bench.corpora.base import Corpus
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.data import open_corpus
from ssft_bench.errors import MissingError, UsageError
from ssft_bench.features import FrozenFeatures
from ssft_bench.names import split_options
from ssft_bench.progress import Progress
from ssft_bench.upstream import Upstream, load_upstream

Vectors = NDArray[np.float64]
Frames = NDArray[np.float32]


@dataclass(frozen=True)
class Speech:
    """Utterances to look at, and the words that say where they come from."""

    corpus: Corpus
    split: str
    utterances: list[Utterance]

    @property
    def origin(self) -> str:
        """`corpus an4, split test, 130 utterances`; synthetic speech says so."""
        kind = " (synthetic speech)" if self.corpus.synthetic else ""
        count = len(self.utterances)
        return f"corpus {self.corpus.name}{kind}, split {self.split}, {count} utterances"


def speech(corpus: str, split: str, root: str | None, limit: int | None) -> Speech:
    """A split of a corpus, or `limit` of its utterances, evenly spread over its list.

    Raises MissingError when there is nothing, UsageError for a limit below 1.
    """
    opened = open_corpus(corpus, root)
    return Speech(opened, split, spread(opened.utterances(split), limit, f"{corpus}, {split}"))


def spread(rows: list[Utterance], limit: int | None, origin: str) -> list[Utterance]:
    """At most `limit` rows at even distances: the same on every call, and from all of the list."""
    if limit is not None and limit < 1:
        raise UsageError(f"--max-utterances {limit}: give 1 or more")
    if not rows:
        raise MissingError(f"there are no utterances in {origin}; choose another --split")
    if limit is None or limit >= len(rows):
        return rows
    return [rows[i * len(rows) // limit] for i in range(limit)]


def device_of(name: str) -> torch.device:
    """`auto` is CUDA where it is there, else the CPU. Raises UsageError for one torch cannot use."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--device {name}: torch cannot use it here ({reason})") from error


def upstream_named(text: str, device: torch.device) -> Upstream:
    """The frozen upstream of `--upstream` (`name`, `name:option=value`, `file.py:Class` or `a+b`)."""
    joint = registry.split_joint(text)
    name, options = split_options(text, "--upstream") if len(joint) == 1 else (text, {})
    upstream = load_upstream(name, options).eval().requires_grad_(False).to(device)
    upstream.spec = replace(upstream.spec, name=text)  # options tell two checkpoints apart
    return upstream


def chosen_layers(text: str, count: int, upstream: str) -> list[int]:
    """Indices of `--layers`: `all`, or numbers with commas, negative ones counted from the end.

    Raises UsageError for a layer that the upstream does not have.
    """
    if text.strip() == "all":
        return list(range(count))
    chosen = []
    for part in text.split(","):
        try:
            layer = int(part)
        except ValueError:
            raise UsageError(
                f"layers {text!r}: {part!r} is no number; give all, or e.g. 0,3,-1"
            ) from None
        if not -count <= layer < count:
            raise UsageError(
                f"layers {text!r}: upstream {upstream} has {count} hidden states, 0 to {count - 1}"
            )
        chosen.append(layer % count)
    return list(dict.fromkeys(chosen))


def hidden(
    upstream: Upstream,
    utterances: Sequence[Utterance],
    layers: Sequence[int],
    *,
    max_seconds: float | None = None,
) -> Iterator[list[Tensor]]:
    """States of the layers for each utterance, [T_l, D_l] float32 on the CPU, one at a time.

    `max_seconds` cuts every utterance after that time. Shows progress.
    """
    device = next(iter(upstream.parameters()), torch.empty(0)).device
    features = FrozenFeatures(upstream, layers, device, memory_gib=0.0)
    with Progress(f"hidden states {upstream.spec.name}", len(utterances), unit="utt") as bar:
        for utterance in utterances:
            yield features.states(_cut(utterance, max_seconds))
            bar.advance()


def _cut(utterance: Utterance, seconds: float | None) -> Utterance:
    if seconds is None:
        return utterance
    end = (utterance.start or 0.0) + seconds
    return replace(utterance, end=end if utterance.end is None else min(end, utterance.end))


def layer_means(
    upstream: Upstream, utterances: Sequence[Utterance], layers: Sequence[int]
) -> list[Vectors]:
    """Mean over time of each layer: a list over layers of float64 [utterances, D_l]."""
    rows = [
        [state.double().mean(dim=0).numpy() for state in states]
        for states in hidden(upstream, utterances, layers)
    ]
    return [np.stack(column) for column in zip(*rows, strict=True)]


def names_in_order(names: Sequence[str]) -> list[str]:
    """Upstreams as given. Raises UsageError when one is given twice."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"--upstream {twice[0]} is given twice")
    return list(names)
