"""Interfaces of runs that train nothing: free of parameters, or trained by another run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ssft_bench import registry, results, standardizing
from ssft_bench.errors import CheckFailed, MissingError, UsageError
from ssft_bench.files import sha256_file
from ssft_bench.interface import Interface
from ssft_bench.results import ResultRecord
from ssft_bench.spec import RunSpec
from ssft_bench.standardizing import Standardizer
from ssft_bench.upstream import weights_sha256

PREFIX = "interface."
"""Of an interface's tensors in `best.safetensors`."""


def ready(
    spec: RunSpec, interface: Interface, content: Mapping[str, str | None]
) -> dict[str, str | None]:
    """Give the interface what `--interface-from` names; return what that adds to the run's content.

    Raises UsageError for an interface that pools time, for one that would have to be trained or fitted
    and is given no run, and for a run of another upstream or interface; MissingError where there is no
    such run or it has lost its parameters, CheckFailed where it is not finished.
    """
    flag = f"--interface {spec.interface.label}"
    if interface.pools_time:
        raise UsageError(
            f"{flag}: gives one vector per utterance; task {spec.task.name} compares frames"
        )
    learns = sum(1 for _ in interface.parameters())
    if spec.interface_from is None:
        if learns or interface.needs_fit:
            how = "is fitted" if interface.needs_fit else "is trained"
            raise UsageError(
                f"{flag}: {how} on a training split, and task {spec.task.name} trains nothing; give a "
                "finished run of another task with it, --interface-from RUN, or use last, mean or layer"
            )
        return {}
    if not interface.state_dict():
        raise UsageError(
            f"{flag}: has nothing that a run could have trained; leave out --interface-from"
        )
    folder = Path(spec.interface_from)
    record = _finished(folder)
    _same(record, spec, interface, content, folder)
    _load(interface, _tensors(folder), flag, folder)
    added: dict[str, str | None] = {"interface_tensors": weights_sha256(interface)}
    if standardizer(folder) is not None:
        added["interface_standardizer"] = sha256_file(folder / standardizing.FILE)
    return added


def standardizer(folder: Path) -> Standardizer | None:
    """What the interface of that finished run has seen its states through; None for states as they are.

    Raises MissingError where the run has lost it.
    """
    record = _finished(folder)
    if not record.spec.data.standardize:
        return None
    try:
        return Standardizer.load(folder)
    except (OSError, SafetensorError, KeyError) as error:
        raise MissingError(
            f"--interface-from {folder}: cannot read {standardizing.FILE} ({error}); run it again with "
            "--overwrite always"
        ) from error


def _finished(folder: Path) -> ResultRecord:
    record = results.load(folder)
    if record is None:
        raise MissingError(
            f"--interface-from {folder}: no result.json there; give the folder of a run, "
            "runs/<suite>/<upstream>/<interface>/<task>/<signature>"
        )
    if record.status != "done":
        raise CheckFailed(
            f"--interface-from {folder}: that run is {record.status}; finish it first"
        )
    return record


def _same(
    record: ResultRecord,
    spec: RunSpec,
    interface: Interface,
    content: Mapping[str, str | None],
    folder: Path,
) -> None:
    """Raise UsageError unless the run had this interface on this upstream, frozen."""
    flag = f"--interface-from {folder}"
    other = record.spec
    if other.protocol != "frozen":
        raise UsageError(
            f"{flag}: protocol {other.protocol}; its upstream is another one by now. Give a frozen run"
        )
    for key, what in (("upstream_weights", "weights"), ("upstream_source", "plug-in file")):
        if record.content.get(key) != content.get(key):
            raise UsageError(
                f"{flag}: was trained on upstream {other.upstream.label} with other {what} than "
                f"{spec.upstream.label} has here"
            )
    if other.seed != spec.seed and any(not p.requires_grad for p in interface.parameters()):
        raise UsageError(
            f"{flag}: has seed {other.seed}, and parts of {spec.interface.label} stay as that seed made "
            f"them; give --seed {other.seed}"
        )
    mine = registry.find("interfaces", spec.interface.name).source_sha256()
    if other.interface != spec.interface or record.content.get("interface_source") != mine:
        raise UsageError(
            f"{flag}: holds interface {other.interface.label}, not {spec.interface.label}"
            + (" as that file has it now" if other.interface == spec.interface else "")
        )


def _tensors(folder: Path) -> dict[str, Tensor]:
    path = folder / "best.safetensors"
    if not path.is_file():
        raise MissingError(f"--interface-from {folder}: {path.name} is gone; run it again")
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise MissingError(
            f"--interface-from {folder}: cannot read {path.name}: {error}"
        ) from error
    return {k.removeprefix(PREFIX): v for k, v in found.items() if k.startswith(PREFIX)}


def _load(interface: Interface, tensors: dict[str, Tensor], flag: str, folder: Path) -> None:
    """Put the tensors in place; all that a training stores must be there (see `Trainer`)."""
    frozen = {name for name, p in interface.named_parameters() if not p.requires_grad}
    try:
        missing, unexpected = interface.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--interface-from {folder}: does not fit {flag}: {reason}") from error
    wrong = [*unexpected, *(name for name in missing if name not in frozen)]
    if wrong:
        raise UsageError(
            f"--interface-from {folder}: does not fit {flag}: {', '.join(sorted(wrong)[:5])}"
        )
