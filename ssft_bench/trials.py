"""The learning-rate search that SUPERB allows: every rate is trained, dev picks, all are told.

s3prl#498: only the learning rate may be tuned; boards give the winner alone. Here each trial is stored.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Literal

from torch import nn

from ssft_bench import ranks, results
from ssft_bench.errors import CheckFailed
from ssft_bench.files import atomic_path, write_json
from ssft_bench.results import ResultRecord
from ssft_bench.training import Outcome, Trainer, load_parameters
from ssft_bench.training_spec import TrainSpec

BEST = "best.safetensors"
MakeTrainer = Callable[[TrainSpec, Path], Trainer]


class Trials:
    """Trains a run's learner, once or once per learning rate, always from the same first parameters."""

    def __init__(self, folder: Path, record: ResultRecord, learner: nn.Module) -> None:
        """`record` gets `trials` and, in `selection`, the rate that won."""
        self.folder, self.record, self.learner = folder, record, learner
        self.spec = record.spec

    def turns(
        self, trainer: MakeTrainer, better: Literal["min", "max"]
    ) -> Generator[tuple[int, Any], None, Outcome]:
        """Train in pieces, (trial, (step, piece)); returns the winner's outcome, and the learner then has
        its parameters.

        A rate that diverges is told and left behind. Raises CheckFailed when all of them do.
        """
        train = self.spec.training
        if not self.spec.lr_grid:
            alone = trainer(train, self.folder)
            for turn in alone.updates():
                yield 0, turn
            alone.load_best()
            return alone.outcome
        first = {k: v.detach().cpu().clone() for k, v in self.learner.state_dict().items()}
        outcomes: dict[float, Outcome] = {}
        for place, rate in enumerate(self.spec.lr_grid):
            optimizer = train.optimizer.model_copy(update={"lr": rate})
            spec = train.model_copy(update={"optimizer": optimizer})
            self.learner.load_state_dict(first)
            found = yield from self._trial(place, rate, spec, trainer)
            if found is not None:
                outcomes[rate] = found
        if not outcomes:
            raise CheckFailed(
                f"every rate of --lr-grid diverged: {', '.join(f'{r:g}' for r in self.spec.lr_grid)}; "
                "give lower ones"
            )
        sign = 1 if better == "min" else -1
        rate = min(outcomes, key=lambda r: sign * (outcomes[r].best_value or 0.0))
        self.record.selection = {"lr": rate}
        self._keep(self._place(rate) / BEST)
        load_parameters(self.learner, self.folder / BEST)
        if ranks.rank() == 0:
            shutil.copyfile(self._place(rate) / "log.jsonl", self.folder / "log.jsonl")
            for own in self.spec.lr_grid:
                (self._place(own) / BEST).unlink(missing_ok=True)
        return outcomes[rate]

    def taken_from(self, twin: Path) -> Outcome:
        """The parameters and outcome of a finished run that differs only in its decoding."""
        done = results.load(twin)
        assert done is not None
        self._keep(twin / BEST)
        load_parameters(self.learner, self.folder / BEST)
        self.record.trials = done.trials
        self.record.selection = dict(done.selection)
        event = {"kind": "parameters_taken", "from": done.signature}
        return Outcome(
            best_step=done.selection["step"],
            best_value=done.selection["value"],
            curve=done.learning_curve,
            events=[*done.events, event],
            seconds=done.cost["seconds"]["training"],
            step=self.spec.training.steps,
        )

    def _place(self, rate: float) -> Path:
        return self.folder / "trials" / f"lr={rate:g}"

    def _trial(
        self, number: int, rate: float, spec: TrainSpec, trainer: MakeTrainer
    ) -> Generator[tuple[int, Any], None, Outcome | None]:
        """Train one rate, or read it when it is done; None when it diverged."""
        place = self._place(rate)
        told = place / "trial.json"
        if told.is_file():
            row = json.loads(told.read_text(encoding="utf-8"))
        else:
            row = {"lr": rate, "error": None}
            try:
                training = trainer(spec, place)
                for turn in training.updates():
                    yield number, turn
                row |= _as_row(training.outcome)
            except CheckFailed as error:
                row["error"] = str(error)
            if ranks.rank() == 0:
                write_json(told, row)
                (place / "last.pt").unlink(missing_ok=True)
        self.record.trials.append(row)
        return None if row["error"] else _outcome(row)

    def _keep(self, best: Path) -> None:
        if ranks.rank() == 0:
            with atomic_path(self.folder / BEST) as temporary:
                shutil.copyfile(best, temporary)
        ranks.meet()


def _as_row(outcome: Outcome) -> dict[str, Any]:
    return {
        "step": outcome.best_step,
        "value": outcome.best_value,
        "seconds": round(outcome.seconds, 1),
        "curve": outcome.curve,
        "events": outcome.events,
    }


def _outcome(row: dict[str, Any]) -> Outcome:
    return Outcome(row["step"], row["value"], row["curve"], row["events"], row["seconds"])
