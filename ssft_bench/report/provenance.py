"""Where a number is from: the command that makes it again, and its record."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ssft_bench import spec as specs
from ssft_bench.errors import BenchError
from ssft_bench.report.collect import Run
from ssft_bench.report.tuned import Tuning
from ssft_bench.results import ResultRecord
from ssft_bench.spec import RunSpec

_NOT_COMPARED = ("data.root", "data.memory_gib", "train.log_every", "train.save_every")
_SET_BY_CONTROL = ("task.options", "control.parameters")
"""A control works these out when the upstream is known."""


@dataclass(frozen=True)
class Command:
    """How to run it again."""

    text: str
    remark: str = ""
    """Empty where the command was resolved here and gives the specification of the record."""


class Commands:
    """Finds commands; what differs in the seed alone is resolved once."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[list[str], str]] = {}

    def of(self, record: ResultRecord) -> Command:
        """The shortest command line whose resolved specification is that of the record.

        Flags first; what a flag cannot say, or a recipe has changed since, becomes `--set key=value`.
        """
        key = json.dumps(record.spec.model_dump(mode="json", exclude={"seed"}), sort_keys=True)
        if key not in self._known:
            self._known[key] = _resolved(record.spec)
        sets, remark = self._known[key]
        text = ["ssft-bench", "run"]
        for flag, value in _flags(record.spec).items():
            text += [flag, value]
        for one in sets:
            text += ["--set", one]
        return Command(shlex.join(text), remark)


def _resolved(spec: RunSpec) -> tuple[list[str], str]:
    """What has to be set beside the flags, and what is still wrong then."""
    try:
        sets = _sets(spec, specs.resolve(**_arguments(spec)))
        if not sets:
            return [], ""
        left = _sets(spec, specs.resolve(**_arguments(spec), sets=sets))
    except BenchError as error:
        return [], f"not resolved here: {error}"
    return sets, f"still differs in {', '.join(left)}" if left else ""


def _arguments(spec: RunSpec) -> dict[str, Any]:
    """Arguments of `spec.resolve`."""
    interface = spec.control.interface if spec.control else spec.interface
    return {
        "upstream": spec.upstream.label,
        "interface": interface.label,
        "task": spec.task.name,
        "suite": spec.suite,
        "corpus": spec.data.corpus,
        "data": spec.data.root,
        "protocol": spec.protocol,
        "trainable": _trainable(spec),
        "lr_grid": spec.lr_grid,
        "lm": spec.lm.path if spec.lm else None,
        "lexicon": spec.lm.lexicon if spec.lm else None,
        "interface_from": spec.interface_from,
        "seed": spec.seed,
        "control": spec.control.name if spec.control else None,
    }


def _trainable(spec: RunSpec) -> str | None:
    return str(spec.finetune.trainable) if spec.finetune else None


def _flags(spec: RunSpec) -> dict[str, str]:
    """The same as flags; those that say nothing are left out."""
    given = {key: value for key, value in _arguments(spec).items() if value not in (None, ())}
    if "lr_grid" in given:
        given["lr_grid"] = ",".join(f"{rate:g}" for rate in given["lr_grid"])
    return {f"--{key.replace('_', '-')}": str(value) for key, value in given.items()}


def _sets(wanted: RunSpec, found: RunSpec) -> list[str]:
    """`key=value` for every key of `wanted` that `found` has otherwise."""
    skipped = _NOT_COMPARED + (_SET_BY_CONTROL if wanted.control else ())
    ours, theirs = (_flat(one.model_dump(mode="json")) for one in (wanted, found))
    return [
        f"{key}={_written(value)}"
        for key, value in ours.items()
        if theirs.get(key, ...) != value
        and not any(key == name or key.startswith(f"{name}.") for name in skipped)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping) and value
        found |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return found


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def table(runs: Sequence[Run], tunings: Mapping[int, Tuning]) -> dict[str, Any]:
    """What the page's dialog shows of each run: `runs`, which name by place what many have alike in `shared`.

    Holds the whole record but its learning curve, which is drawn.
    """
    shared: list[Any] = []
    places: dict[str, int] = {}

    def place(value: Any) -> int:
        text = json.dumps(value, sort_keys=True, ensure_ascii=False)
        if text not in places:
            places[text] = len(shared)
            shared.append(value)
        return places[text]

    rows, commands = [], Commands()
    for run in runs:
        again = commands.of(run.record)
        record = run.record.model_dump(mode="json", exclude={"learning_curve"})
        tuning = tunings[run.number]
        rows.append(
            {
                "title": f"{run.upstream} | {run.interface} | {run.record.spec.task.name}, "
                f"seed {run.seed}",
                "path": f"{run.path}/result.json",
                "copies": list(run.copies),
                "command": again.text,
                "remark": again.remark,
                "tuning": {"hours": tuning.hours, "base": tuning.base, "from": tuning.remark},
                "record": {key: place(value) for key, value in record.items()},
            }
        )
    return {"runs": rows, "shared": shared}
