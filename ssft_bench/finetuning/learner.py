"""Upstream, interface and head as one thing that learns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssft_bench import encoder
from ssft_bench.finetuning.batches import WaveBatch
from ssft_bench.finetuning.dropout import set_dropout
from ssft_bench.finetuning.layerdrop import LayerDrop
from ssft_bench.finetuning.masking import Masking
from ssft_bench.finetuning.spec import FineTuneSpec
from ssft_bench.finetuning.trainable import choose
from ssft_bench.hidden_states import HiddenStates
from ssft_bench.interface import Interface
from ssft_bench.task import Task
from ssft_bench.upstream import SAMPLE_RATE, Upstream


class FineTunedDownstream(nn.Module):
    """The learner of protocol `finetuned`:

        FineTunedDownstream(upstream, interface, head, task, spec.finetune, seed=spec.seed)

    Of the upstream, exactly what `finetune.trainable` names learns. In training the whole network is in
    train mode, frozen parts too, as in fairseq; masks and layer drop are drawn from the micro-batch's
    generator, dropout from torch's. Scoring (`logits`) takes one recording at a time, in eval mode, and
    draws nothing. The upstream is changed in place (LoRA, adapters, hooks): build one for each learner.
    """

    def __init__(
        self,
        upstream: Upstream,
        interface: Interface,
        head: nn.Module,
        task: Task,
        spec: FineTuneSpec,
        *,
        seed: int,
    ) -> None:
        """New parameters inside the upstream (LoRA, adapters) are drawn from `seed`.

        Raises UsageError where the upstream has not what the specification asks for, MissingError for a
        package that is not installed.
        """
        super().__init__()
        self.learned = choose(upstream, spec, seed)
        set_dropout(upstream, spec.dropout, spec.activation_dropout)
        self.masking, self.layerdrop = Masking(upstream, spec), LayerDrop(upstream, spec.layerdrop)
        self.upstream, self.interface, self.head = upstream, interface, head
        self.spec, self.frozen = spec, False
        self.seconds_of_audio = 0.0
        """What the upstream has processed so far, in training and scoring."""
        self._task = [task]  # in a list: a task is no module, and keeps no parameters

    def begin_update(self, step: int) -> None:
        """The training loop says which update (0-based) comes next."""
        self.frozen = step < self.spec.frozen_steps

    def forward(
        self, batch: WaveBatch, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        """Loss of a training batch: the task's, and what the upstream's expert adds to it."""
        task = self._task[0]
        rng = self._rng(generator)
        with self._encoder_fixed(), self.masking.drawing(rng), self.layerdrop.drawing(rng):
            hidden = self.hidden(batch, padded=self.spec.padded)
        features, lengths = self.interface(hidden)
        features = task.augment(features, lengths, generator)
        logits, lengths = self.head(features, lengths)
        loss = task.loss(logits, lengths, [t.to(logits.device) for t in batch.targets])
        logs = {"masked_frames": self.masking.share()} if self.masking.active else {}
        auxiliary = getattr(self.upstream.expert, "auxiliary_loss", None)
        if auxiliary is None:
            return loss, logs
        added, own = auxiliary(batch.utterances)
        return loss + added.to(loss.device), {**logs, "task_loss": float(loss.detach()), **own}

    def logits(self, batch: WaveBatch) -> tuple[Tensor, Tensor]:
        """What the head gives for a batch, to be decoded: logits [B,T,V] and lengths [B]."""
        logits, lengths = self.head(*self.interface(self.hidden(batch)))
        return logits, lengths

    def hidden(self, batch: WaveBatch, *, padded: bool = False) -> HiddenStates:
        """Hidden states that the interface uses, from one pass over the padded batch, or one a recording."""
        device = next(self.upstream.parameters()).device
        waves = [wave.to(device) for wave in batch.waves]
        self.seconds_of_audio += sum(map(len, waves)) / SAMPLE_RATE
        expect = getattr(self.upstream.expert, "expect", None)
        if expect is not None:
            expect(batch.utterances)
        layers = self.interface.layers_used()
        if padded:
            found: HiddenStates = self.upstream(waves)
            return found.select(layers)
        alone = [self._alone(wave, layers) for wave in waves]
        return HiddenStates.pad(alone, layers).to(device)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The optimiser's groups; `lr_scale` multiplies the learning rate of each."""
        inside = {id(p) for p in self._encoder_parameters()}
        learning = [p for p in self.parameters() if p.requires_grad]
        return [
            {"params": [p for p in learning if id(p) not in inside], "lr_scale": 1.0},
            {
                "params": [p for p in learning if id(p) in inside],
                "lr_scale": self.spec.upstream_lr_scale,
            },
        ]

    def describe(self) -> dict[str, Any]:
        """For the record: how many parameters of the upstream learn, and what is drawn while they do."""
        parameters = dict(self.upstream.expert.named_parameters())
        counts = {
            part: sum(parameters[name].numel() for name in names)
            for part, names in (("encoder", self.learned.encoder), ("on_top", self.learned.on_top))
        }
        tell = getattr(self.upstream.expert, "describe", None)
        return {
            "parameters_learned": counts,
            "draws": {**encoder.no_layerdrop(self.upstream), "layerdrop": self.spec.layerdrop},
            **({"upstream": tell()} if tell is not None else {}),
        }

    def _alone(self, wave: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Used layers' states of one recording, each [T_l, D_l]."""
        used = self.upstream([wave]).select(layers)
        each = zip(used.states, used.layer_lengths, strict=True)
        return [state[0, : int(own[0])] for state, own in each]

    def _rng(self, generator: torch.Generator) -> np.random.Generator | None:
        """What masks and layer drop are drawn from; nothing is taken from `generator` without them."""
        if not (self.training and (self.masking.active or self.spec.layerdrop)):
            return None
        return np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))

    def _encoder_parameters(self) -> list[nn.Parameter]:
        parameters = dict(self.upstream.expert.named_parameters())
        return [parameters[name] for name in self.learned.encoder]

    @contextmanager
    def _encoder_fixed(self) -> Iterator[None]:
        """While frozen: no graph is built through the encoder, but one through modules on top of it.

        What learns is told by `requires_grad` everywhere else (checkpoints, optimiser), so it changes
        during the forward pass alone.
        """
        fixed = self._encoder_parameters() if self.frozen else []
        for parameter in fixed:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in fixed:
                parameter.requires_grad_(True)
