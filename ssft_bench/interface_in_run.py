"""What a run does with its interface beside training it: build, fit, tell which layers it uses."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor

from ssft_bench import registry
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.features import FrozenFeatures
from ssft_bench.hidden_states import UpstreamSpec
from ssft_bench.interface import Interface, build_interface
from ssft_bench.progress import Progress
from ssft_bench.spec import Choice
from ssft_bench.task import BaseTask


def interface_for(choice: Choice, upstream: UpstreamSpec, task: BaseTask) -> Interface:
    """The interface of that name for an upstream; UsageError for a wrong option.

    One that pools time gets its `frame_options` where the task's head needs a vector per frame.
    """
    build, flag = registry.load("interfaces", choice.name), f"--interface {choice.label}"
    interface = build_interface(build, upstream, choice.options, flag)
    if interface.pools_time and task.reads == "frames":
        options = {**interface.frame_options, **choice.options}
        interface = build_interface(build, upstream, options, flag)
    return interface


def fit(
    interface: Interface, features: FrozenFeatures, utterances: Sequence[Utterance]
) -> dict[str, Any]:
    """Let the interface see the training split's hidden states; what it saw and how long it took.

    Empty for an interface that learns by gradients alone.
    """
    if not interface.needs_fit:
        return {}
    began = time.monotonic()

    def states() -> Iterator[list[Tensor]]:
        with Progress("fit interface", len(utterances), unit="utt") as bar:
            for utterance in utterances:
                yield [state.to(features.device) for state in features.states(utterance)]
                bar.advance()

    frames = interface.fit(states())
    return {
        "fit": {
            "split": "train",
            "utterances": len(utterances),
            "frames": frames,
            "seconds": round(time.monotonic() - began, 1),
        }
    }


def usage(interface: Interface, gate_sums: Iterable[tuple[Tensor, int]]) -> dict[str, Any]:
    """Share of each layer: from the parameters, or for gates averaged over the frames of all `gate_sums`."""
    shares, frames = interface.layer_usage(), None
    if interface.has_gates:
        sums = list(gate_sums)
        frames = sum(count for _, count in sums)
        total = sum(part for part, _ in sums) / max(1, frames)
        shares = total.tolist() if isinstance(total, Tensor) else None
    return {
        "layer_usage": shares,
        "usage_kind": interface.usage_kind or None,
        "usage_frames": frames,
        "usage_details": interface.usage_details(),
    }
