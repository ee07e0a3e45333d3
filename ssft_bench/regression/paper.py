"""A paper's gains beside ours: task by task, published gain, our gain with interval, verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ssft_bench.comparison import paired_seeds
from ssft_bench.comparison.sides import Run
from ssft_bench.errors import BenchError
from ssft_bench.leaderboard.entries import SEED, Entry, entries, metric_of
from ssft_bench.leaderboard.flags import recipe
from ssft_bench.leaderboard.marks import LEVEL
from ssft_bench.published.correspondence import Correspondence, TaskNames, correspondence
from ssft_bench.published.gains import Gain, gains, relative_gain
from ssft_bench.published.rows import load
from ssft_bench.suites import SMALL_MODELS

Verdict = Literal[
    "same sign, significant", "same sign, not significant", "no difference", "opposite, significant",
    "opposite, not significant", "not run", "not comparable",
]  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A published gain and ours."""

    suite: str
    gain: Gain
    task: TaskNames
    names: tuple[str, str]
    """Base and tuned upstream, as they are called here."""
    interface: str
    values: tuple[float, float] | None = None
    """Base and tuned, in the metric's unit, means over the seeds."""
    relative: float | None = None
    """Percent, positive where the tuned one is better; None where the base is 0."""
    ci95: tuple[float, float] | None = None
    """Of `relative`: the paired interval of the difference over the base's value."""
    difference: float | None = None
    """Tuned - base."""
    p: float | None = None
    seeds: int = 0
    verdict: Verdict = "not run"
    why: str = ""


def compare(runs: Sequence[Run]) -> list[Line]:
    """A line for each published gain of a method of which there is at least one run, in each suite.

    Gains as they are quoted come first; of those that follow from absolute numbers, one source each.
    """
    rows, names = load(), correspondence()
    found = []
    for suite in sorted({record.spec.suite for _, record in runs}):
        own = entries([run for run in runs if run[1].spec.suite == suite], "mean")
        there = {entry.record.spec.upstream.label for entry in own}
        for gain in _once(gains(rows, of="methods")):
            line = _line(suite, gain, names, there)
            if line is not None:
                found.append(_filled(line, own, names))
    return found


def _once(every: Sequence[Gain]) -> list[Gain]:
    """Quoted gains, and computed ones of cells that nobody quotes."""
    seen: set[tuple[str, ...]] = set()
    kept = []
    for gain in sorted(every, key=lambda g: not g.quoted):
        key = (gain.upstream, gain.method, gain.interface, gain.task, gain.split, gain.metric)
        if key not in seen:
            seen.add(key)
            kept.append(gain)
    return kept


def _line(suite: str, gain: Gain, names: Correspondence, there: set[str]) -> Line | None:
    task = names.task_of(gain.task, gain.metric, gain.protocol, gain.split)
    small = suite in SMALL_MODELS
    tuned = names.upstream(gain.upstream, gain.method, small=small)
    base = names.upstream(gain.upstream, gain.base_method, small=small)
    present = [name for name in tuned if name in there]
    if task is None or not present or not base:
        return None
    plain = next((name for name in base if name in there), base[0])
    interface = names.interfaces.get(gain.interface, (gain.interface,))[0]
    return Line(suite, gain, task, (plain, present[0]), interface)


def _filled(line: Line, own: Sequence[Entry], names: Correspondence) -> Line:
    """The line with our gain, where both were run by the same recipe."""
    wanted = names.interfaces.get(line.gain.interface, ())
    pairs = _pairs(line, own, wanted)
    why = ""
    if not pairs:
        pairs = _pairs(line, own, names.instead.get(line.gain.interface, ()))
        why = f"the paper: {line.gain.interface}"
    if not pairs:
        return line
    base, tuned = max(pairs, key=lambda pair: len(pair[0].values) + len(pair[1].values))
    metric, with_lm = metric_of(base.record), line.task.ours_metric.endswith("_lm")
    try:
        found = paired_seeds(
            metric, tuned.side.predictions(with_lm), base.side.predictions(with_lm), seed=SEED
        )
    except BenchError as error:
        return replace(line, verdict="not comparable", why=str(error))
    value, plain = found.values
    up = metric.higher_is_better
    relative = relative_gain(plain, value, higher_is_better=up) if plain else None
    ci = None
    if plain and found.ci95:
        ends = [d / plain * 100 * (1 if up else -1) for d in found.ci95]
        ci = (min(ends), max(ends))
    better = (found.difference > 0) == up
    return replace(
        line, values=(plain, value), relative=relative, ci95=ci, difference=found.difference, p=found.p,
        seeds=min(found.seeds), interface=base.record.spec.interface_label,
        why=why,
        verdict=_verdict(found.difference, better, line.gain.relative > 0, found.p),
    )  # fmt: skip


def _pairs(
    line: Line, own: Sequence[Entry], interfaces: Sequence[str]
) -> list[tuple[Entry, Entry]]:
    """Base and tuned runs of the line's cell by the same interface and recipe."""
    bases, tuned = ([e for e in own if _is(e, line, name, interfaces)] for name in line.names)
    return [
        (one, other)
        for one in bases
        for other in tuned
        if one.record.spec.interface_label == other.record.spec.interface_label
        and recipe(one.record) == recipe(other.record)
    ]


def _is(entry: Entry, line: Line, upstream: str, interfaces: Sequence[str]) -> bool:
    spec = entry.record.spec
    return (
        spec.upstream.label == upstream
        and spec.task.name == line.task.ours
        and spec.interface_label in interfaces
        and spec.protocol == (line.task.ours_protocol or line.task.protocol)
    )


def _verdict(difference: float, better: bool, published_better: bool, p: float) -> Verdict:
    if difference == 0:
        return "no difference"
    if better == published_better:
        return "same sign, significant" if p < LEVEL else "same sign, not significant"
    return "opposite, significant" if p < LEVEL else "opposite, not significant"


def markdown(lines: Sequence[Line]) -> str:
    """The table; empty where no method was run."""
    if not lines:
        return ""
    header = (
        "suite", "paper's model", "ours", "task", "interface", "published gain", "base", "tuned",
        "our gain", "95% CI", "p", "seeds", "verdict",
    )  # fmt: skip
    rows = ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header))]
    rows += ["| " + " | ".join(_cells(line)) + " |" for line in lines]
    notes = []
    if any(line.suite in SMALL_MODELS for line in lines):
        notes.append(
            "Suites mini and pocket are not the papers' setting: small models, little speech (mini: "
            "synthetic), short recipes. They can agree in direction; no size of a gain carries over."
        )
    notes.append(
        "Published gain: as quoted, or (*) from absolute numbers of one table. Ours: relative, the paired "
        "interval of the difference over the base's value; p of a paired test, not corrected over tasks; "
        "with one seed it knows nothing of other trainings."
    )
    return (
        "### Papers' gains beside ours\n\n" + "\n".join(rows) + "\n\n" + "\n\n".join(notes) + "\n"
    )


def _cells(line: Line) -> tuple[str, ...]:
    gain, quoted = line.gain, "" if line.gain.quoted else " *"
    published = f"{gain.relative:+.2f} %{quoted} ({gain.status}, {gain.source})"
    plain, tuned = (f"{v:.2f}" for v in line.values) if line.values else ("", "")
    ours = "" if line.relative is None else f"{line.relative:+.2f} %"
    if line.values and line.relative is None:
        ours = f"base is 0; {line.difference:+.2f}"
    ci = "" if line.ci95 is None else f"{line.ci95[0]:+.2f} to {line.ci95[1]:+.2f}"
    return (
        line.suite, f"{gain.upstream} + {gain.method}", f"{line.names[1]} / {line.names[0]}",
        f"{line.task.ours} {line.task.ours_metric}", line.interface, published, plain, tuned, ours, ci,
        "" if line.p is None else f"{line.p:.3g}", str(line.seeds or ""),
        line.verdict + (f" ({line.why})" if line.why else ""),
    )  # fmt: skip
