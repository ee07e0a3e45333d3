"""The command that makes a run or a checkpoint again, from its resolved specification."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from ssft_bench.errors import BenchError
from ssft_bench.spec import RunSpec, resolve
from ssft_bench.spec_parts import Choice
from ssft_bench.tuning.spec import TuneSpec
from ssft_bench.tuning.spec import resolve as resolve_tuning


def run_command(spec: RunSpec, passed: Mapping[str, Any]) -> str | None:
    """`ssft-bench run ...`: the names, and `--set` for each number that is not the recipe's of today.

    `passed` is what the user gave: a control's head was enlarged after that, so its sizes are taken from
    there. None where a plug-in or recipe that the run used is not to be found here.
    """
    shown = spec.control.interface if spec.control else spec.interface
    given: dict[str, Any] = {
        "upstream": _written(spec.upstream),
        "interface": _written(shown),
        "task": spec.task.name,
        "suite": spec.suite,
        "corpus": spec.data.corpus,
        "data": spec.data.root,
        "protocol": spec.protocol,
        "seed": spec.seed,
        "lr_grid": spec.lr_grid,
        "control": spec.control.name if spec.control else None,
        "lm": spec.lm.path if spec.lm else None,
        "lexicon": spec.lm.lexicon if spec.lm else None,
        "interface_from": spec.interface_from,
    }
    try:
        usual = resolve(**given).model_dump(mode="json")
    except BenchError:
        return None
    wanted = spec.model_dump(mode="json")
    sets = list(_sets(usual, wanted))
    if spec.control:
        sets = [s for s in sets if not s.startswith(("task.options", "control."))]
        sets += [s for s in passed.get("sets") or () if s.startswith("task.options.")]
    given["lr_grid"] = ",".join(f"{rate!r}" for rate in spec.lr_grid) or None
    return _command("run", given, sets)


def tune_command(recipe: Mapping[str, Any]) -> str | None:
    """`ssft-bench tune ...` from the resolved specification that a checkpoint carries.

    None for a checkpoint without one (imported), and as in `run_command`.
    """
    try:
        spec = TuneSpec.model_validate(recipe)
        given: dict[str, Any] = {
            "method": spec.method.name,
            "base": _written(spec.base),
            "corpus": spec.data.corpus,
            "recipe": spec.recipe,
            "seed": spec.seed,
        }
        usual = resolve_tuning(**given).model_dump(mode="json")
    except (BenchError, ValueError):
        return None
    wanted = spec.model_dump(mode="json")
    for values in (usual, wanted):
        values["data"].pop("root")  # never in a checkpoint
    return _command("tune", {**given, "out": "FOLDER"}, list(_sets(usual, wanted)))


def _written(choice: Choice) -> str:
    """A choice as it is written on the command line, its values so that they are read back the same."""
    if not choice.options:
        return choice.name
    pairs = ",".join(f"{k}={_scalar(v)}" for k, v in sorted(choice.options.items()))
    return f"{choice.name}:{pairs}"


def _scalar(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _sets(usual: Any, wanted: Any, key: str = "") -> Iterator[str]:
    """`key=value` for what differs; a mapping with other keys is given whole."""
    if usual == wanted:
        return
    if isinstance(usual, dict) and isinstance(wanted, dict) and usual.keys() == wanted.keys():
        for name, value in wanted.items():
            yield from _sets(usual[name], value, f"{key}.{name}" if key else name)
    else:
        yield f"{key}={_scalar(wanted)}"


def _command(name: str, given: Mapping[str, Any], sets: list[str]) -> str:
    words = ["ssft-bench", name]
    for key, value in given.items():
        if value not in (None, ()):
            words += [f"--{key.replace('_', '-')}", str(value)]
    return shlex.join([*words, *(word for text in sets for word in ("--set", text))])
