"""The work of one run in its folder, whatever its protocol: record, failures, scores."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ssft_bench import cost, ranks, results
from ssft_bench.data import RunData
from ssft_bench.interface import Interface
from ssft_bench.interface_in_run import usage
from ssft_bench.metric import Metric, Prediction
from ssft_bench.names import split_options
from ssft_bench.results import MetricValue, ResultRecord
from ssft_bench.spec import RunSpec
from ssft_bench.statistics import score
from ssft_bench.task import BaseTask
from ssft_bench.tracking import TrackerChoice
from ssft_bench.upstream import Upstream

if TYPE_CHECKING:
    from ssft_bench.feature_store import FeatureStore, StoreView


@dataclass(frozen=True)
class Machine:
    """Where and how a run is executed; none of it enters the signature."""

    accelerator: str = "auto"
    devices: int = 1
    trackers: tuple[TrackerChoice, ...] = ()
    """Where training is also logged to."""
    states: dict[tuple[Any, ...], dict[str, list[Tensor]]] | None = None
    """Hidden states that runs of one process hand on: by weights, layers and corpus, then utterance."""
    store: FeatureStore | None = None
    """Hidden states on disk, shared by processes."""
    group_layers: tuple[int, ...] | None = None
    """Layers that any cell of the group needs: a forward pass stores all of them at once."""

    def kept(self, record: ResultRecord, layers: Sequence[int]) -> dict[str, list[Tensor]] | None:
        """What earlier runs left of this run's hidden states; None where runs share nothing."""
        if self.states is None:
            return None
        content, spec = record.content, record.spec
        upstream = (content["upstream_weights"], content["upstream_source"], spec.upstream.label)
        key = (*upstream, content["corpus"], spec.data.states, *layers)
        return self.states.setdefault(key, {})

    def view(
        self, record: ResultRecord, upstream: Upstream, layers: Sequence[int], device: torch.device
    ) -> StoreView | None:
        """This run's part of the feature store; None where there is no store."""
        return self.stored(
            record.spec, record.content["upstream_weights"], upstream, layers, device
        )

    def stored(
        self,
        spec: RunSpec,
        weights: str | None,
        upstream: Upstream,
        layers: Sequence[int],
        device: torch.device,
    ) -> StoreView | None:
        """The same before there is a record; `weights` is the digest of the upstream's."""
        if self.store is None:
            return None
        from ssft_bench.feature_store import upstream_key

        key = upstream_key(upstream, spec.upstream.name, spec.upstream.options, weights, device)
        return self.store.view(
            key, spec.data.states, sorted({*layers, *(self.group_layers or ())}),
            corpus=split_options(spec.data.corpus, "--corpus")[0],
            about={"upstream": spec.upstream.label, "device": device.type},
        )  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """What a run is made of, checked and ready."""

    record: ResultRecord
    folder: Path
    task: BaseTask
    data: RunData
    upstream: Upstream
    interface: Interface
    twin: Path | None = None
    """Folder of a finished run that trained the very same parameters; None where there is none."""


Turn = tuple[int, Any]
"""How far a run has come, in the order of the work; runs that have come equally far compare equal."""


class Cell(ABC):
    """One run; a protocol is a subclass with `_work`."""

    LEFT_BEHIND: tuple[str, ...] = ("predictions.jsonl",)
    """Files of an earlier attempt that a fresh one must not find."""

    def __init__(self, parts: Parts, machine: Machine) -> None:
        """Puts the upstream on the machine's device, frozen and in eval mode."""
        self.record, self.folder, self.data = parts.record, parts.folder, parts.data
        self.task = parts.task
        self.spec = parts.record.spec
        self.machine = machine
        self._away = 0.0
        precision = self.spec.train.precision if self.spec.train else "32-true"
        self.fabric = ranks.fabric_for(machine.accelerator, machine.devices, precision)
        self.upstream = parts.upstream.eval().requires_grad_(False).to(self.fabric.device)

    def execute(self, fresh: bool) -> ResultRecord:
        """Do the work and write the record. A failure is recorded and raised again."""
        for _ in self.turns(fresh):
            pass
        return self.record

    def turns(self, fresh: bool) -> Generator[Turn]:
        """`execute` in pieces: yields what was reached, so that several cells can take turns."""
        if self.spec.train is None and ranks.rank() > 0:
            return  # nothing is trained: one process does it
        if fresh:
            results.remove(self.folder, self.LEFT_BEHIND)
        results.save(self.folder, self.record)
        try:
            for turn in self._work():
                left = time.monotonic()
                yield turn
                self._away += time.monotonic() - left
        except (
            Exception
        ) as error:  # a KeyboardInterrupt leaves it `running`: the next run resumes it
            self.record.status = "failed"
            self.record.error = f"{type(error).__name__}: {error}"
            results.save(self.folder, self.record)
            raise
        self.record.time["finished"] = results.now()
        self.record.status = "done"
        results.save(self.folder, self.record)
        if ranks.rank() == 0:
            self._tidy()

    @abstractmethod
    def _work(self) -> Iterator[Turn]:
        """Fill the record: metrics, predictions, selection, cost, events.

        Where it yields, others may run: no context (inference mode, autocast) is open then.
        """

    def _clock(self) -> float:
        """Seconds on a clock that stands still while other cells have their turn."""
        return time.monotonic() - self._away

    def _tidy(self) -> None:  # noqa: B027 (most have nothing to remove)
        """Remove what only an unfinished run needs."""

    @property
    def _selecting(self) -> Metric:
        """The task's metric that picks on dev."""
        return next(m for m in self.task.metrics if m.name == self.spec.selection.metric)

    def _static_cost(self, interface: Interface, head: nn.Module | None) -> dict[str, Any]:
        """Parameters by part, and multiply-adds for one second of audio; `head` None: there is none."""
        noise = cost.second_of_noise().to(self.fabric.device)
        with torch.no_grad():
            hidden = self.upstream([noise])
        last = nn.Identity() if head is None else head
        return {
            "parameters": {
                "upstream": cost.parameters(self.upstream),
                "interface": cost.parameters(interface),
                "head": cost.parameters(last),
            },
            "macs_per_second_of_audio": {
                "upstream": cost.macs(lambda: self.upstream([noise]), self.upstream),
                "interface_and_head": cost.macs_on_top(interface, head, hidden),
            },
            "tuning": cost.tuning(self.upstream),
        }

    def _interface_state(
        self, interface: Interface, gate_sums: Iterable[tuple[Tensor, int]]
    ) -> dict[str, Any]:
        """Widths, layers, and the share of each layer, from sums over dev's batches where it has gates."""
        return {
            "options": dict(interface.built_with),
            "output_dim": interface.output_dim,
            "output_stride": interface.output_stride,
            "layers_used": list(interface.layers_used()),
            **usage(interface, gate_sums),
        }

    def _metrics(self, split: str, found: Sequence[Prediction]) -> list[MetricValue]:
        """Every metric of the task with its interval; `<name>_lm` too where there is such a decoding."""
        values = self._scored(split, found, "")
        if found and found[0].hypothesis_lm is not None:
            decoded = [replace(p, hypothesis=p.hypothesis_lm or "") for p in found]
            values += self._scored(split, decoded, "_lm")
        return values

    def _scored(self, split: str, found: Sequence[Prediction], suffix: str) -> list[MetricValue]:
        values = []
        for metric in self.task.metrics:
            s = score(metric, found, seed=self.spec.seed)
            values.append(
                MetricValue(
                    name=metric.name + suffix,
                    split=split,
                    value=s.value,
                    unit=metric.unit,
                    n=s.n,
                    higher_is_better=metric.higher_is_better,
                    ci95=s.ci95,
                    ci_method=s.method,
                    primary=metric.primary and not suffix,
                )
            )
        return values
