"""The page: everything that is known of a folder of runs, in one HTML file without a single address."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from ssft_bench import __version__
from ssft_bench.files import atomic_path
from ssft_bench.progress import Progress
from ssft_bench.report import figures, gains, provenance
from ssft_bench.report.audio import Recordings
from ssft_bench.report.collect import Collection, Group, Run
from ssft_bench.report.convergence import Speedups, speedups
from ssft_bench.report.examples import Examples, examples
from ssft_bench.report.figures import Draughtsman, Plot
from ssft_bench.report.tuned import Tuning, Tunings

FILTERS = ("suite", "corpus", "task", "upstream", "interface", "protocol")
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Section:
    """What is shown of a group of runs."""

    group: Group
    anchor: str
    layers: tuple[Plot, ...]
    curves: tuple[Plot, ...]
    curve_metric: str
    speedups: Speedups | None
    costs: tuple[Plot, ...]
    undrawn: tuple[str, ...]
    """Costs that are the same in all runs, or not known."""
    examples: Examples | None


def build(collection: Collection, *, audio: int = 3, data: str | None = None) -> str:
    """The page as text; the same for the same runs, whenever and wherever it is made.

    `audio` is the number of example utterances of each group of runs, with their recordings where the
    corpus is at hand (below `data`, or where the run had it) and its licence lets them be passed on.
    """
    tunings = Tunings()
    tuned = {run.number: tunings.of(run) for run in collection.runs}
    draughtsman = Draughtsman(collection.upstreams)
    recordings = Recordings(data)
    sections = []
    with Progress("report", len(collection.groups), unit="task") as bar:
        for place, group in enumerate(collection.groups):
            sections.append(
                _section(place, group, collection, draughtsman, tuned, recordings, audio)
            )
            bar.advance()
    script, style = (_own(name) for name in ("page.js", "style.css"))
    template = _environment().get_template("page.html.jinja")
    return template.render(
        collection=collection,
        runs=[run for group in collection.groups for run in group.runs],
        best=_best(collection.groups),
        tuned=tuned,
        sections=sections,
        maps=gains.maps(collection),
        intervals=_intervals(collection.runs),
        holm_level=gains.ALPHA,
        sample=draughtsman.sample,
        filters=_filters(collection),
        provenance=_json(provenance.table(collection.runs, tuned)),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=Markup(style),
        version=__version__,
    )


def write(collection: Collection, target: Path, *, audio: int = 3, data: str | None = None) -> int:
    """Write the page atomically; its size in bytes."""
    text = build(collection, audio=audio, data=data).encode()
    with atomic_path(target) as temporary:
        temporary.write_bytes(text)
    return len(text)


def _section(
    place: int,
    group: Group,
    collection: Collection,
    draughtsman: Draughtsman,
    tuned: dict[int, Tuning],
    recordings: Recordings,
    audio: int,
) -> Section:
    limits = figures.limits(group)
    costs = [
        ("hours of speech processed while tuning", lambda r: tuned[r.number].hours, ".2f"),
        ("trainable parameters", trainable, ",.0f"),
        ("multiply-adds per second of audio", macs, ",.0f"),
    ]
    plots = [(label, draughtsman.cost(group, label, cost, shown)) for label, cost, shown in costs]
    trained = [run for run in group.runs if figures.curve(run)]
    return Section(
        group=group,
        anchor=f"task-{place + 1}",
        layers=_kept(draughtsman.layers(group, name) for name in group.interfaces),
        curves=_kept(draughtsman.curves(group, name, limits) for name in group.interfaces),
        curve_metric=figures.selecting(trained[0])[0].upper() if trained else "",
        speedups=speedups(group, collection.base),
        costs=_kept(plot for _, plot in plots),
        undrawn=tuple(label for label, plot in plots if plot is None),
        examples=examples(group, recordings, audio),
    )  # fmt: skip


def _kept(plots: Any) -> tuple[Plot, ...]:
    return tuple(plot for plot in plots if plot is not None)


def trainable(run: Run) -> float:
    """Parameters that learned: of interface, head, and of an upstream that is not frozen."""
    return float(sum(part["trainable"] for part in run.record.cost["parameters"].values()))


def macs(run: Run) -> float:
    """Multiply-adds for a second of audio: upstream, interface and head."""
    return float(sum(run.record.cost["macs_per_second_of_audio"].values()))


def _best(groups: Sequence[Group]) -> set[int]:
    """Numbers of the best runs of each group; none where a single run is all there is."""
    found: set[int] = set()
    for group in groups:
        sign = 1 if group.metric.higher_is_better else -1
        best = max(sign * run.metric.value for run in group.runs)
        if len(group.runs) > 1:
            found |= {run.number for run in group.runs if sign * run.metric.value == best}
    return found


def _intervals(runs: Sequence[Run]) -> list[str]:
    """How intervals were made, seeds left out."""
    methods = (run.metric.ci_method for run in runs if run.metric.ci95)
    return sorted({re.sub(r", seed \d+", "", str(method)) for method in methods})


def facets(run: Run) -> dict[str, str]:
    """What a row can be filtered by."""
    spec = run.record.spec
    return {
        "suite": spec.suite,
        "corpus": spec.data.corpus,
        "task": spec.task.name,
        "upstream": run.upstream,
        "interface": run.interface,
        "protocol": spec.protocol,
    }


def _filters(collection: Collection) -> list[tuple[str, list[str]]]:
    """Names and values of the filters that have a choice."""
    rows = [facets(run) for run in collection.runs]
    found = [(name, sorted({row[name] for row in rows})) for name in FILTERS]
    return [(name, values) for name, values in found if len(values) > 1]


def _json(value: Any) -> Markup:
    """JSON that cannot end its script element, whatever texts it holds."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _own(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ssft_bench.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "facets": facets, "trainable": trainable, "macs": macs, "drawn": Markup, "signed": signed,
        "p": p_value, "breakable": breakable,
    }  # fmt: skip
    return environment


def breakable(text: str) -> Markup:
    """A name that a line may break in after a sign that joins words."""
    return Markup(re.sub(r"([_/=,:+-])(?!$)", r"\1<wbr>", str(escape(text))))


def signed(value: float) -> str:
    """`+1.20`, `−0.31`; what rounds to nothing is `0.00`."""
    text = f"{value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "−")


def p_value(value: float) -> str:
    """`p = 0.03`, `p < 0.001`."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}" if value < 0.995 else "p = 1"
