"""What the training loop trains when it tunes: the upstream, the method's own modules, no teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ssft_bench.errors import UsageError
from ssft_bench.method import FineTuningMethod, ViewBatch
from ssft_bench.tuning.alarms import CollapseAlarm
from ssft_bench.upstream import Upstream


class TuneLearner(nn.Module):
    """Loss of a micro-batch of views. The teacher is no part of it: it is neither trained nor stored."""

    remarked: Tensor

    def __init__(
        self, student: Upstream, method: FineTuningMethod, teacher: Upstream | None = None
    ) -> None:
        """Freezes all of the student but what the method names; `teacher` gets the student's weights.

        The teacher is an upstream built anew: the hooks of a deep copy would fill the original's states.
        Raises UsageError for names that the student does not have.
        """
        super().__init__()
        self.student, self.method = student, method
        if teacher is not None:
            teacher.load_state_dict(student.state_dict())
            teacher.eval().requires_grad_(False)
        self._teacher = [teacher]  # in a list, so that it is no submodule
        self.trained = _train_only(student, method.trainable(student))
        self.alarm, self.events = CollapseAlarm(), list[dict[str, Any]]()
        # Buffers are kept for a resumed run.
        self.register_buffer("remarked", torch.zeros(len(method.may_remark), dtype=torch.int64))
        if method.sums_gradients:
            self._sum_gradients()

    def forward(
        self, batch: ViewBatch, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        """The method's loss in nats (or its own unit), and its parts."""
        device = next(self.student.parameters()).device
        teacher = self._teacher[0]
        if teacher is not None:
            teacher.to(device)
        moved = ViewBatch(
            batch.ids, [[w.to(device) for w in view] for view in batch.views], batch.remarks
        )
        loss, logs = self.method.loss(self.student, teacher, moved)
        self.events += self.alarm.watch(logs)
        for number, remark in enumerate(self.method.may_remark):
            self.remarked[number] += batch.remarks.count(remark)
        return loss, logs

    def remarks(self) -> dict[str, int]:
        """How often the views said each of the method's remarks."""
        return dict(zip(self.method.may_remark, self.remarked.tolist(), strict=True))

    def _sum_gradients(self) -> None:
        """Add every gradient to the sum of all before it, as code does that never calls zero_grad."""
        for index, parameter in enumerate(p for p in self.parameters() if p.requires_grad):
            name = f"_gradient_sum_{index}"
            self.register_buffer(name, torch.zeros_like(parameter))

            def add(p: Tensor, name: str = name) -> None:
                total = self.get_buffer(name)
                assert p.grad is not None
                total += p.grad
                p.grad.copy_(total)

            parameter.register_post_accumulate_grad_hook(add)


def _train_only(student: Upstream, names: list[str]) -> list[str]:
    parameters = dict(student.expert.named_parameters())
    missing = sorted(set(names) - parameters.keys())
    if missing or not names:
        raise UsageError(
            f"{student.spec.name} has no parameters {missing[:3]}; a method's `trainable` names those "
            "of the upstream's expert"
        )
    wanted = set(names)
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in wanted)
    return names
