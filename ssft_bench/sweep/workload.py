"""What an opened cell would compute: multiply-adds are counted on a second of noise, once for cells alike."""

from __future__ import annotations

import torch
from torch import nn

from ssft_bench import cost
from ssft_bench.files import sha256_json
from ssft_bench.hidden_states import HiddenStates
from ssft_bench.runner import Ready
from ssft_bench.sweep.cost_model import Workload, evaluations, update_seconds
from ssft_bench.task import Task


class Workloads:
    """Counts for the cells of one plan."""

    def __init__(self) -> None:
        self._upstream: dict[str, tuple[HiddenStates, int]] = {}
        self._top: dict[str, int] = {}

    def of(self, made: Ready) -> Workload:
        """The workload of an opened cell."""
        spec, data = made.spec, made.data
        hidden, upstream_macs = self._upstream_macs(made)
        dev = data.splits["dev"]
        numbers = {
            "upstream_macs": upstream_macs,
            "top_macs": self._top_macs(made, hidden),
            "hours": round(sum(data.seconds.values()) / 3600, 6),
            "dev_hours": round(sum(data.seconds[u.id] for u in dev) / 3600, 6),
            "dev_utterances": len(dev),
            "learns_all": spec.protocol == "finetuned",
        }
        if spec.train is not None:
            rows = data.splits["train"]
            average = sum(data.seconds[u.id] for u in rows) / len(rows)
            rates = max(1, len(spec.lr_grid))
            numbers |= {
                "updates": spec.train.steps * rates,
                "evaluations": rates * evaluations(spec.train),
                "update_seconds": round(update_seconds(
                    spec.data.batch_size, spec.data.batch_seconds, average, spec.train.accumulate
                ), 3),
            }  # fmt: skip
        return Workload.model_validate(numbers)

    def _upstream_macs(self, made: Ready) -> tuple[HiddenStates, int]:
        key = made.spec.upstream.label
        if key not in self._upstream:
            noise, upstream = cost.second_of_noise(), made.upstream.eval()
            with torch.no_grad():
                hidden = upstream([noise])
            self._upstream[key] = hidden, cost.macs(lambda: upstream([noise]), upstream)
        return self._upstream[key]

    def _top_macs(self, made: Ready, hidden: HiddenStates) -> int:
        spec, interface = made.spec, made.interface
        key = sha256_json([spec.upstream.label, spec.interface_label, spec.task.model_dump(mode="json"),
                           made.task.describe()])  # fmt: skip
        if key not in self._top:
            head: nn.Module | None = None
            if isinstance(made.task, Task):
                with torch.random.fork_rng(devices=[]):
                    head = made.task.head(interface.output_dim, interface.output_stride).eval()
            training = interface.training
            interface.eval()
            try:
                self._top[key] = cost.macs_on_top(interface, head, hidden)
            except Exception:  # a plug-in that fails is the run's to report, not the estimate's
                self._top[key] = 0
            interface.train(training)
        return self._top[key]
