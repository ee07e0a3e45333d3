"""The work of one run in its folder, whatever its protocol: record, failures, scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ssft_bench import cost, results
from ssft_bench.data import RunData
from ssft_bench.features import Batch
from ssft_bench.interface import Interface
from ssft_bench.interface_in_run import usage
from ssft_bench.metric import Metric, Prediction
from ssft_bench.results import MetricValue, ResultRecord
from ssft_bench.statistics import score
from ssft_bench.task import BaseTask
from ssft_bench.upstream import Upstream


@dataclass(frozen=True)
class Machine:
    """Where and how a run is executed; none of it enters the signature."""

    accelerator: str = "auto"
    devices: int = 1
    tensorboard: bool = False
    states: dict[tuple[Any, ...], dict[str, list[Tensor]]] | None = None
    """Hidden states that runs of one process hand on: by weights, layers and corpus, then utterance."""

    def kept(self, record: ResultRecord, layers: Sequence[int]) -> dict[str, list[Tensor]] | None:
        """What earlier runs left of this run's hidden states; None where runs share nothing."""
        if self.states is None:
            return None
        content = record.content
        key = (content["upstream_weights"], content["corpus"], *layers)
        return self.states.setdefault(key, {})


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


class Cell(ABC):
    """One run; a protocol is a subclass with `_execute`."""

    LEFT_BEHIND: tuple[str, ...] = ("predictions.jsonl",)
    """Files of an earlier attempt that a fresh one must not find."""

    def __init__(self, parts: Parts, machine: Machine) -> None:
        """Puts the upstream on the machine's device, frozen and in eval mode."""
        self.record, self.folder, self.data = parts.record, parts.folder, parts.data
        self.task = parts.task
        self.spec = parts.record.spec
        self.machine = machine
        self.fabric = Fabric(
            accelerator=machine.accelerator,
            devices=machine.devices,
            precision=self.spec.train.precision if self.spec.train else "32-true",
        )
        self.fabric.launch()
        self.upstream = parts.upstream.eval().requires_grad_(False).to(self.fabric.device)

    def execute(self, fresh: bool) -> ResultRecord:
        """Do the work and write the record. A failure is recorded and raised again."""
        if fresh:
            results.remove(self.folder, self.LEFT_BEHIND)
        results.save(self.folder, self.record)
        try:
            self._execute()
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
        self._tidy()
        return self.record

    @abstractmethod
    def _execute(self) -> None:
        """Fill the record: metrics, predictions, selection, cost, events."""

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

        def on_top() -> None:
            features = interface(hidden)
            if head is not None:
                head(*features)

        return {
            "parameters": {
                "upstream": cost.parameters(self.upstream),
                "interface": cost.parameters(interface),
                "head": cost.parameters(last),
            },
            "macs_per_second_of_audio": {
                "upstream": cost.macs(lambda: self.upstream([noise]), self.upstream),
                "interface_and_head": cost.macs(on_top, interface, last),
            },
        }

    def _interface_state(self, interface: Interface, batches: Iterable[Batch]) -> dict[str, Any]:
        """Widths, layers, and the share of each layer, counted over dev's `batches` where it has gates."""
        return {
            "options": dict(interface.built_with),
            "output_dim": interface.output_dim,
            "output_stride": interface.output_stride,
            "layers_used": list(interface.layers_used()),
            **usage(interface, batches),
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
