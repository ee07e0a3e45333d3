"""An upstream whose last hidden state also says what its whole segment is about.

A re-implementation from the abstract of arXiv:2212.08542, with our hyper-parameters. It wraps another
upstream's expert; every hidden state but the last one is the base's.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from s3prl.upstream.interfaces import UpstreamBase
from torch import Tensor, nn

from ssft_bench import registry
from ssft_bench.audio import read_utterance
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import UsageError
from ssft_bench.files import write_json
from ssft_bench.names import split_options
from ssft_bench.seeds import seed_for
from ssft_bench.upstreams.context.collapse import CollapseMonitor
from ssft_bench.upstreams.context.loss import neighbour_loss
from ssft_bench.upstreams.context.module import ContextInput, ContextModule
from ssft_bench.upstreams.context.neighbours import Neighbours, coverage_text
from ssft_bench.upstreams.context.options import read_options, told
from ssft_bench.upstreams.context.overhead import overhead
from ssft_bench.upstreams.context.sampler import consecutive_batches

LABEL = "re-implementation from the abstract, our hyper-parameters"
"""What every table says of a row made with it: no number of the paper is to stand beside it."""
ALWAYS_TRAINED = ("context.", "context_input.")
"""Prefixes of parameters that are new: they learn from the first update on, whatever else is frozen."""


class UpstreamExpert(UpstreamBase):  # type: ignore[misc]
    """A base expert with a context module on top of its last hidden state.

    Beside s3prl's methods it has those that protocol `finetuned` asks for: `begin`, `batches`,
    `expect`, `auxiliary_loss`, `describe`.
    """

    always_trained = ALWAYS_TRAINED

    def __init__(
        self, name: str, *, hooks: Any = None, refresh: bool = False, **options: Any
    ) -> None:
        """`options` are those of `ContextOptions`; `refresh` (s3prl: download again) means nothing here.

        Raises UsageError for an option that does not fit, or a base that is no transformer of ours,
        s3prl's or Hugging Face's.
        """
        super().__init__()
        if hooks:
            raise UsageError(f"upstream {name} has hidden states of its own and takes no hooks")
        self.name, self.options = name, read_options(name, options)
        base_name, base_options = split_options(self.options.base, f"{name}: base")
        base = registry.load("upstreams", base_name)(**base_options)
        self._base = [base]  # in a list: its parameters are those of `model`, and count once
        if hasattr(base, "checkpoint_about"):  # what tuned the base has tuned this
            self.checkpoint_about = base.checkpoint_about
        self.model: nn.Module = _network(name, self.options.base, base)
        self.neighbours = Neighbours([], self.options.offsets)
        self._splits: dict[str, list[Utterance]] = {}
        self._expected: list[Utterance] = []
        self._given: list[Tensor] | None = None
        self._kept: tuple[int, dict[str, Tensor]] = (-1, {})
        self.looked_up = {"found": 0, "missing": 0}
        self._build()

    def _build(self) -> None:
        o = self.options
        with torch.no_grad():
            noise = torch.randn(8000, generator=torch.Generator().manual_seed(0))
            dim = self._base[0].eval()([noise])["hidden_states"][-1].shape[-1]
        if o.mode != "none":
            self.context = ContextModule(dim, o.context_dim, o.pool)
            injected = len(o.offsets) if o.mode == "inject" else 0
            self.context_input = ContextInput(dim, o.context_dim, o.concat, injected)
            self.monitor = CollapseMonitor(o.context_dim)
            self._initialise(0)

    def _initialise(self, seed: int) -> None:
        """First weights of the new modules, by the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(seed, "context"))
            for part in (self.context, self.context_input):
                for module in part.modules():
                    if isinstance(module, nn.Linear):
                        module.reset_parameters()

    # s3prl's contract

    def get_downsample_rates(self, key: str) -> Any:
        """The base's."""
        return self._base[0].get_downsample_rates(key)

    def train(self, mode: bool = True) -> UpstreamExpert:
        """Also of the base, which is no submodule."""
        super().train(mode)
        self._base[0].training = mode
        return self

    def forward(self, wavs: Sequence[Tensor]) -> dict[str, Any]:
        """The base's hidden states; the last one with the context of its segment in every frame."""
        expected, self._expected = self._expected[: len(wavs)], self._expected[len(wavs) :]
        states = list(self._base[0](list(wavs))["hidden_states"])
        if self.options.mode != "none":
            own = self.context(states[-1], self._frames(wavs, states[-1]))
            if self.training and self._given is not None:
                self._given.append(own)
            around: list[list[Tensor | None]] = []
            if self.options.mode == "inject":
                around = self._injected(expected, own)
            states[-1] = self.context_input(states[-1], own, around)
        return {"hidden_states": states}

    def _frames(self, wavs: Sequence[Tensor], last: Tensor) -> Tensor:
        """Frames [B] that each waveform really has, by the strides of its convolutions."""
        stack: Any = self.model.feature_extractor
        counts = []
        for wav in wavs:
            frames = len(wav)
            for conv in (m for m in stack.modules() if isinstance(m, nn.Conv1d)):
                frames = (frames - conv.kernel_size[0]) // conv.stride[0] + 1
            counts.append(min(max(1, frames), last.shape[1]))
        return torch.tensor(counts, device=last.device)

    # Neighbours

    def _injected(self, rows: Sequence[Utterance], own: Tensor) -> list[list[Tensor | None]]:
        """Vectors of each segment's neighbours, all None where nobody said whose segments these are."""
        if not rows:
            if self.training:
                raise RuntimeError("mode inject trains on segments that expect() has named")
            return [[None] * len(self.options.offsets)] * len(own)
        found = self._around(rows, own)
        self.looked_up["found"] += sum(v is not None for row in found for v in row)
        self.looked_up["missing"] += sum(v is None for row in found for v in row)
        if self.options.stop_grad:
            return [[None if v is None else v.detach() for v in row] for row in found]
        return found

    def _around(self, rows: Sequence[Utterance], own: Tensor) -> list[list[Tensor | None]]:
        """Vectors of the neighbours: by id from the batch, else encoded without gradients, else None."""
        here = {row.id: vector for row, vector in zip(rows, own, strict=True)}
        wanted = [self.neighbours.of(row) for row in rows]
        if self.options.outside == "encode":
            absent = {o.id: o for near in wanted for o in near if o and o.id not in here}
            here |= self._encoded(absent)
        return [[here.get(o.id) if o else None for o in near] for near in wanted]

    @torch.no_grad()
    def _encoded(self, rows: Mapping[str, Utterance]) -> dict[str, Tensor]:
        """Context vectors of other segments, by id; remembered while no weight changes, and in training
        for one batch: dropout differs from batch to batch."""
        if not rows:
            return {}
        changes = sum(p._version for p in self.parameters())
        if self._kept[0] != changes:
            self._kept = (changes, {})
        kept = self._kept[1]
        device = next(self.parameters()).device
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):  # the task's own draws stay as they are
            for row in (r for r in rows.values() if r.id not in kept):
                wave = torch.from_numpy(read_utterance(row)).to(device)
                last = self._base[0]([wave])["hidden_states"][-1]
                kept[row.id] = self.context(last, self._frames([wave], last))[0]
        return {name: kept[name] for name in rows}

    # What protocol finetuned asks for

    def check_protocol(self, protocol: str) -> None:
        """Raises UsageError where the module would stay as it was drawn: it is never stored apart."""
        if protocol != "finetuned" and self.options.mode != "none":
            raise UsageError(
                f"--protocol {protocol}: the context module of {self.name} has learned nothing yet, and "
                f"there is no checkpoint of one; use --protocol finetuned, or {self.name}:mode=none"
            )

    def begin(self, splits: Mapping[str, Sequence[Utterance]], seed: int, folder: Path) -> None:
        """Before training: learn which segments are neighbours, draw first weights from the run's seed.

        Tells the coverage on standard error and writes `neighbours.json`, the ids of every training
        segment's neighbours, into the run's folder. Raises UsageError where no training segment has a
        neighbour and the mode needs them: it would be another mode under a false name.
        """
        self._splits = {split: list(rows) for split, rows in splits.items()}
        everything = [row for rows in self._splits.values() for row in rows]
        self.neighbours = Neighbours(everything, self.options.offsets)
        if self.options.mode == "none":
            return
        self._initialise(seed)
        coverage, mode = self.coverage(), self.options.mode
        print(f"{self.name}: {coverage_text(coverage)}", file=sys.stderr, flush=True)
        if mode != "module_only":
            if not coverage["train"]["any"]:
                raise UsageError(
                    f"upstream {self.name}: mode={mode} needs neighbours, and by session and segment of "
                    f"the corpus no training row has one at {told(self.options)['offsets']}; take "
                    "mode=module_only, or another corpus"
                )
            write_json(folder / "neighbours.json", self.neighbours.ids(self._splits["train"]))

    def batches(
        self, rows: Sequence[Utterance], seconds: Sequence[float], *,
        batch_size: int, batch_seconds: float | None, seed: int, epoch: int,
    ) -> list[list[int]]:  # fmt: skip
        """One pass over the training rows, see `consecutive_batches`; the same in all four modes."""
        return consecutive_batches(
            rows, seconds, batch_size=batch_size, batch_seconds=batch_seconds,
            run_length=self.options.run_length, seed=seed, epoch=epoch,
        )  # fmt: skip

    def expect(self, utterances: Sequence[Utterance]) -> None:
        """Says whose waveforms the next forward passes get, in their order."""
        self._expected, self._given = list(utterances), []
        if self.training:
            self._kept = (-1, {})

    def auxiliary_loss(self, utterances: Sequence[Utterance]) -> tuple[Tensor, dict[str, float]]:
        """What is added to the task's loss after the forward passes of a training batch, and logs.

        Raises CheckFailed when the context vectors have collapsed under the loss.
        """
        if self.options.mode == "none":
            return torch.zeros(()), {}
        given, self._given = self._given or [], None
        if sum(map(len, given)) != len(utterances):
            raise RuntimeError(
                "a batch has an auxiliary loss after expect() and its forward passes"
            )
        own = torch.cat(given)
        logs = self.monitor.watch(own, *_pairs(self.neighbours, utterances))
        o = self.options
        if o.mode != "aware" or o.alpha == 0:
            return own.new_zeros((), dtype=torch.float32), logs
        loss = neighbour_loss(
            own, self._around(utterances, own),
            kind=o.dist, stop_grad=o.stop_grad, missing=o.missing,
        )  # fmt: skip
        self.monitor.require_spread()
        return o.alpha * loss, {**logs, "context_distance": float(loss.detach())}

    def coverage(self) -> dict[str, Any]:
        """Share of each split's utterances with a neighbour, per offset and with at least one."""
        return {split: self.neighbours.coverage(rows) for split, rows in self._splits.items()}

    def describe(self) -> dict[str, Any]:
        """What the record says: label, options, coverage, collapse numbers, overhead."""
        found = {"label": LABEL, "options": told(self.options), "coverage": self.coverage()}
        if self.options.mode == "none":
            return found
        if self._splits:
            train = self._splits["train"]
            found["neighbours_sha256"] = self.neighbours.ids_sha256(train)
        if self.options.mode == "inject":
            found["injected"] = dict(self.looked_up)
        return {**found, "collapse": self.monitor.numbers(), "overhead": overhead(self)}


def _network(name: str, base_name: str, base: nn.Module) -> nn.Module:
    """The base's `model`, which must hold all of its parameters."""
    model = getattr(base, "model", None)
    layers = getattr(getattr(model, "encoder", None), "layers", None)
    inside = {id(p) for p in model.parameters()} if isinstance(model, nn.Module) else set()
    outside = [n for n, p in base.named_parameters() if id(p) not in inside]
    if not isinstance(layers, nn.ModuleList) or outside:
        raise UsageError(
            f"upstream {name}: base={base_name} has no transformer in model.encoder.layers; take a "
            "HuBERT, wav2vec 2.0 or WavLM upstream of s3prl, Hugging Face or this package"
        )
    assert isinstance(model, nn.Module)
    return model


def _pairs(
    neighbours: Neighbours, rows: Sequence[Utterance]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Places in a batch of neighbours, and of segments of different sessions."""
    place = {row.id: i for i, row in enumerate(rows)}
    near = [
        (i, place[other.id])
        for i, row in enumerate(rows)
        for other in neighbours.of(row)
        if other is not None and other.id in place
    ]
    far = [
        (i, j)
        for i, a in enumerate(rows)
        for j, b in enumerate(rows[:i])
        if a.session is None or a.session != b.session
    ]
    return near, far
