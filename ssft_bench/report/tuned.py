"""How much speech the tuning of a run's upstream has heard: SCORE's claim is that little is enough."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssft_bench import registry
from ssft_bench.errors import BenchError
from ssft_bench.names import split_options
from ssft_bench.report.collect import Run
from ssft_bench.results import ResultRecord
from ssft_bench.suites import SMALL_MODELS


@dataclass(frozen=True)
class Tuning:
    """What SSFT methods did to an upstream."""

    hours: float | None
    """Hours of speech processed while tuning, 0 for an upstream that no method tuned; None: not known."""
    base: str | None = None
    """The upstream that was tuned."""
    remark: str = ""
    """Where the number is from, or why there is none."""


UNTUNED = Tuning(0.0, remark="not tuned by an SSFT method")


class Tunings:
    """Looks each upstream up once; nothing is downloaded, and no plug-in file is run."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Tuning] = {}

    def of(self, run: Run) -> Tuning:
        """What tuned the run's upstream: from its record, else from the checkpoint at hand."""
        record = run.record
        if "tuning" in record.cost:
            return _total(record.cost["tuning"], "from the record")
        key = (record.spec.upstream.label, str(record.content.get("upstream_weights")))
        if key not in self._known:
            self._known[key] = _looked_up(record)
        return self._known[key]


def _total(abouts: Iterable[dict[str, Any]], remark: str) -> Tuning:
    found = list(abouts)
    if not found:
        return UNTUNED
    bases = sorted({str(about["base"]) for about in found})
    return Tuning(sum(float(about["hours_processed"]) for about in found), ", ".join(bases), remark)


def _looked_up(record: ResultRecord) -> Tuning:
    """For records older than `cost.tuning`."""
    choice = record.spec.upstream
    place = choice.options.get("ckpt")
    kind = _kind(choice.name)
    if kind == "s3prl":
        return UNTUNED if place is None else Tuning(None, remark=f"not known of the model {place}")
    if kind == "plug-in":
        return Tuning(None, remark="not known of a plug-in")
    if record.spec.suite not in SMALL_MODELS and place is None:
        return UNTUNED  # suite full writes the checkpoint of a tuned upstream into the run
    if place is not None and not Path(str(place)).is_file():
        return Tuning(None, remark=f"its checkpoint {place} is not here")
    return _loaded(record)


def _kind(name: str) -> str:
    """`own`: every part of the upstream comes with the package, so that loading it runs nothing else."""
    parts = {split_options(part, "--upstream")[0] for part in registry.split_joint(name)}
    origins = {one.name: one.origin for one in registry.plugins("upstreams")}
    if any(".py:" in part or origins.get(part, "built-in") != "built-in" for part in parts):
        return "plug-in"
    return "own" if parts & origins.keys() else "s3prl"


def _loaded(record: ResultRecord) -> Tuning:
    """The metadata of the checkpoints in the upstream, if it still has the weights of the run."""
    from ssft_bench.cost import tuning
    from ssft_bench.upstream import load_upstream, weights_sha256

    try:
        upstream = load_upstream(record.spec.upstream.name, record.spec.upstream.options)
    except BenchError as error:
        return Tuning(None, remark=str(error))
    if weights_sha256(upstream) != record.content.get("upstream_weights"):
        return Tuning(None, remark="its weights have changed since the run")
    return _total(tuning(upstream), "from the checkpoint, whose weights are those of the run")
