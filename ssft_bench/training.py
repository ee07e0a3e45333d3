"""The one training loop: a downstream on frozen hidden states, an upstream being tuned or pretrained.

Resumable to the same numbers: every random draw of micro-batch `i` comes from a seed made of
(run seed, i), the learning rate is a function of the step alone, and batches are addressed by index.
So a checkpoint holds parameters and optimiser moments, and nothing about random generators.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ssft_bench import ranks
from ssft_bench.errors import CheckFailed
from ssft_bench.files import atomic_path
from ssft_bench.progress import Progress
from ssft_bench.seeds import seed_everything_for
from ssft_bench.tracking import Tracking
from ssft_bench.training_spec import TrainSpec

if TYPE_CHECKING:
    from lightning_fabric import Fabric


Numbers = Mapping[str, float]
Piece = TypeVar("Piece")
Found = TypeVar("Found")


class Batches(Protocol):
    """Endless and addressable: micro-batch `index` depends on nothing but the seed and `index`."""

    def __call__(self, first: int, rank: int, world: int) -> Iterator[Any]:
        """Yield micro-batches `first`, `first + 1`, ...; with several ranks, this rank's share of each."""
        ...


class Learner(Protocol):
    """What is trained: an nn.Module whose call gives the loss of one micro-batch.

    It may also have `parameter_groups()`, the optimiser's groups, in which `lr_scale` multiplies the
    rate, and `begin_update(step)`, called before each update (0-based).
    """

    def __call__(
        self, batch: Any, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, float]]:
        """Return (scalar mean loss, numbers to log). `generator` lives on the CPU."""
        ...


@dataclass
class Outcome:
    """What a training run leaves behind, beside its files."""

    best_step: int = 0
    best_value: float | None = None
    curve: list[dict[str, float]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    step: int = 0


def make_optimizer(parameters: Any, spec: TrainSpec) -> torch.optim.Optimizer:
    """Optimiser of the specification over parameters or parameter groups."""
    o = spec.optimizer
    if o.name == "sgd":
        return torch.optim.SGD(parameters, lr=o.lr, weight_decay=o.weight_decay)
    kind = torch.optim.Adam if o.name == "adam" else torch.optim.AdamW
    return kind(parameters, lr=o.lr, betas=o.betas, eps=o.eps, weight_decay=o.weight_decay)


class Trainer:
    """One run of the loop in one folder.

    Files: `last.pt` (resume), `best.safetensors` (best dev value, or the last step without
    evaluation), `log.jsonl` (one line every `log_every` updates and at each evaluation).
    """

    def __init__(
        self,
        learner: nn.Module,
        batches: Batches,
        spec: TrainSpec,
        folder: Path,
        *,
        seed: int,
        fabric: Fabric,
        evaluate: Callable[[], Numbers | Generator[int, None, Numbers]] | None = None,
        select: str = "",
        better: Literal["min", "max"] = "min",
        label: str = "train",
        tracking: Tracking | None = None,
    ) -> None:
        """`evaluate` returns dev numbers, at once or as a generator that yields after each of its pieces
        (1, 2, ...); `select` names the one that picks the best step."""
        self.spec, self.folder, self.seed, self.fabric = spec, folder, seed, fabric
        self.batches, self.evaluate = batches, evaluate
        self.select, self.better, self.label = select, better, label
        self.outcome = Outcome()
        self.module = learner
        folder.mkdir(parents=True, exist_ok=True)
        trainable = [p for p in learner.parameters() if p.requires_grad]
        groups = getattr(learner, "parameter_groups", None)
        optimizer = make_optimizer(groups() if groups else trainable, spec)
        self._resume(optimizer)
        self.learner, self.optimizer = fabric.setup(learner, optimizer)
        self._trainable = trainable
        self._tracking = tracking if tracking and fabric.is_global_zero else Tracking()

    def run(self) -> Outcome:
        """Train to the last step, from wherever the folder's checkpoint stands.

        Raises CheckFailed when the loss stays non-finite for `max_bad_steps` updates.
        """
        for _ in self.updates():
            pass
        return self.outcome

    def updates(self) -> Iterator[tuple[int, int]]:
        """`run` in pieces, so that trainers can take turns: yields (step, 0) after each update, (step, k)
        after piece k of an evaluation. What passes meanwhile does not count as this trainer's time."""
        self._since = time.monotonic()
        out = self.outcome
        self._trackers = self._tracking.open(self.folder, out.step, out.events)
        try:
            for turn in self._updates():
                self._lap()
                yield turn
                self._since = time.monotonic()
        finally:
            self._trackers.close()
        self._lap()

    def _lap(self) -> None:
        now = time.monotonic()
        self.outcome.seconds += now - self._since
        self._since = now

    def _updates(self) -> Iterator[tuple[int, int]]:
        spec, out = self.spec, self.outcome
        fabric = self.fabric
        stream = self.batches(out.step * spec.accumulate, fabric.global_rank, fabric.world_size)
        with Progress(self.label, spec.steps, done=out.step) as bar:
            while out.step < spec.steps:
                logs = self._update(stream)
                out.step += 1
                self._lap()
                bar.advance(1, loss=logs["loss"])
                if out.step % spec.log_every == 0 or out.step == spec.steps:
                    self._log({"step": out.step, "seconds": round(out.seconds, 1), **logs})
                yield out.step, 0
                if self._due(spec.eval_every):
                    yield from self._evaluate(bar)
                if self._due(spec.save_every):
                    self._save()

    def load_best(self) -> None:
        """Put the best parameters back into the learner."""
        ranks.meet()
        load_parameters(self.module, self.folder / "best.safetensors")

    def _due(self, every: int) -> bool:
        return self.outcome.step == self.spec.steps or bool(
            every and self.outcome.step % every == 0
        )

    def _update(self, stream: Iterator[Any]) -> dict[str, float]:
        """One optimiser update over `accumulate` micro-batches; skipped when not finite."""
        spec, step = self.spec, self.outcome.step
        self.learner.train()
        begin = getattr(self.module, "begin_update", None)
        if begin is not None:
            begin(step)
        rate = spec.optimizer.lr * spec.schedule.factor(step, spec.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        for micro in range(spec.accumulate):
            batch = next(stream)
            rank = self.fabric.global_rank
            generator = seed_everything_for(self.seed, step * spec.accumulate + micro, rank)
            last = micro == spec.accumulate - 1
            with self.fabric.no_backward_sync(self.learner, enabled=not last):
                loss, logs = self.learner(batch, generator)
                weight = getattr(batch, "weight", 1.0)  # 1 unless ranks have unequal parts of it
                self.fabric.backward(loss * weight / spec.accumulate)
            numbers = {"loss": loss.item(), **logs}
            if self.fabric.world_size > 1:  # all ranks must come to the same decisions
                numbers = ranks.mean_over_ranks({k: v * weight for k, v in numbers.items()})
            for key, value in numbers.items():
                sums[key] = sums.get(key, 0.0) + value / spec.accumulate
        norm = self._clip()
        if math.isfinite(sums["loss"]) and math.isfinite(norm):
            self.optimizer.step()
            self._bad = 0
        else:
            self._skip(sums["loss"], norm)
        return {**sums, "grad_norm": norm, "lr": rate}

    def _clip(self) -> float:
        limit = self.spec.clip if self.spec.clip is not None else math.inf
        norm = self.fabric.clip_gradients(
            self.learner, self.optimizer, max_norm=limit, error_if_nonfinite=False
        )
        return float(norm) if norm is not None else 0.0

    _bad = 0

    def _skip(self, loss: float, norm: float) -> None:
        """Leave the parameters alone, remember it, and stop when it does not pass."""
        self._bad += 1
        event = {
            "kind": "nan_step",
            "step": self.outcome.step,
            "loss": str(loss),
            "norm": str(norm),
        }
        self.outcome.events.append(event)
        if self._bad >= self.spec.max_bad_steps:
            raise CheckFailed(
                f"{self.label}: loss or gradient was not finite for {self._bad} updates in a row "
                f"(step {self.outcome.step}, loss {loss}, gradient norm {norm}). Lower "
                "train.optimizer.lr with --set, or clip harder (train.clip)."
            )

    def _evaluate(self, bar: Progress) -> Iterator[tuple[int, int]]:
        out = self.outcome
        if self.evaluate is None:
            self._keep_best()
            return
        self.learner.eval()
        with torch.no_grad():
            found = self.evaluate()
        if isinstance(found, Generator):
            found = yield from numbered(out.step, found)
        numbers = {k: float(v) for k, v in found.items()}
        value = numbers[self.select]
        sign = 1 if self.better == "min" else -1
        if out.best_value is None or sign * value < sign * out.best_value:
            out.best_value, out.best_step = value, out.step
            self._keep_best()
        row = {"step": out.step, **{f"dev_{k}": v for k, v in numbers.items()}}
        out.curve.append(row)
        self._log(row)
        bar.note(f"{self.select} {value:.4g} (best {out.best_value:.4g} at step {out.best_step})")

    def _keep_best(self) -> None:
        if self.evaluate is None:
            self.outcome.best_step = self.outcome.step
        if self.fabric.is_global_zero:
            with atomic_path(self.folder / "best.safetensors") as path:
                save_file(self._state(), path, {"step": str(self.outcome.step)})

    def _state(self) -> dict[str, Tensor]:
        """Trainable parameters and buffers, on the CPU, each with memory of its own."""
        frozen = {n for n, p in self.module.named_parameters() if not p.requires_grad}
        state = self.module.state_dict()
        return {k: v.detach().cpu().clone() for k, v in state.items() if k not in frozen}

    def _save(self) -> None:
        if not self.fabric.is_global_zero:
            return
        out = self.outcome
        meta = {"step": out.step, "best_step": out.best_step, "best_value": out.best_value,
                "curve": out.curve, "events": out.events, "seconds": out.seconds}  # fmt: skip
        state = {"learner": self._state(), "optimizer": self.optimizer.state_dict()}
        with atomic_path(self.folder / "last.pt") as path:
            torch.save({**state, "meta": json.dumps(meta)}, path)

    def _resume(self, optimizer: torch.optim.Optimizer) -> None:
        """Continue from `last.pt`; drop log lines that were written after it."""
        path, log = self.folder / "last.pt", self.folder / "log.jsonl"
        if not path.exists():
            if self.fabric.is_global_zero:
                log.unlink(missing_ok=True)
            return
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.module.load_state_dict(state["learner"], strict=False)
        optimizer.load_state_dict(state["optimizer"])
        meta = json.loads(state["meta"])
        self.outcome = Outcome(**meta)
        if self.outcome.step < self.spec.steps:
            self.outcome.events.append({"kind": "resumed", "step": self.outcome.step})
        if log.exists() and self.fabric.is_global_zero:
            kept = [line for line in log.read_text().splitlines() if _step(line) <= meta["step"]]
            with atomic_path(log) as tmp:
                tmp.write_text("".join(line + "\n" for line in kept))

    def _log(self, row: Mapping[str, float]) -> None:
        if not self.fabric.is_global_zero:
            return
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        self._trackers.log(row)


def numbered(
    place: int, pieces: Generator[Piece, None, Found]
) -> Generator[tuple[int, Piece], None, Found]:
    """Yield (place, piece) for each piece; returns what `pieces` returns."""
    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            found: Found = end.value
            return found
        yield place, piece


def load_parameters(module: nn.Module, path: Path) -> None:
    """Put stored parameters into a learner; those that did not learn stay as they are.

    Raises CheckFailed for tensors that it does not have.
    """
    _, unexpected = module.load_state_dict(load_file(path), strict=False)
    if unexpected:
        raise CheckFailed(f"{path} holds unknown tensors: {unexpected}")


def _step(line: str) -> float:
    """Step of a log line; infinity for a line torn by a crash."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
