"""Figures of the analyses, PNG, drawn without a display."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ssft_bench.analysis.convergence import Curve
from ssft_bench.analysis.sources import Vectors
from ssft_bench.files import atomic_path

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Okabe and Ito's palette, told apart by the colour-blind too."""


@contextmanager
def _figure(path: Path, panels: int, width: float = 5.2) -> Iterator[Any]:
    """Axes, three in a row at most, saved to `path` at the end."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(panels, 3)
    rows = -(-panels // columns)
    figure = Figure(figsize=(width * columns, 3.8 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    everything = figure.subplots(rows, columns, squeeze=False).ravel()
    axes = everything[:panels]
    for spare in everything[panels:]:
        spare.set_visible(False)
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.set_axisbelow(True)
        one.grid(alpha=0.3)
    yield axes
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def _colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def isotropy(path: Path, curves: dict[str, dict[str, Vectors]], origin: str) -> Path:
    """Spectrum of the centred vectors, and histogram of the cosines of all pairs, one line each."""
    with _figure(path, 2) as (left, right):
        for place, (name, own) in enumerate(curves.items()):
            spectrum = own["spectrum"]
            kept = spectrum[
                spectrum > 1e-6
            ]  # what is below is rounding, e.g. more dims than vectors
            left.plot(np.arange(1, len(kept) + 1), kept, color=_colour(place), label=name)
            right.hist(
                own["cosines"], bins=np.linspace(-1, 1, 81), density=True, histtype="step",
                color=_colour(place), label=name, linewidth=1.5,
            )  # fmt: skip
        left.set(
            yscale="log", xlabel="rank", ylabel="singular value / largest",
            title="Spectrum, centred vectors",
        )  # fmt: skip
        right.set(xlabel="cosine of two utterances", ylabel="density", title="Cosines, raw vectors")
        right.set_xlim(-1, 1.02)
        _legend(left)
        left.figure.suptitle(f"Isotropy: {origin}", fontsize=10)
    return path


def over_layers(
    path: Path, rows: Sequence[dict[str, Any]], panels: Sequence[dict[str, Any]], origin: str
) -> Path:
    """Values over layers, a line for each upstream; of a single layer, a point for each.

    A panel: `key` of the value, `label` of its axis with the unit, and where there are any `band`
    (key of the interval) and `chance` (key of the level, dashed).
    """
    names = list(dict.fromkeys(row["upstream"] for row in rows))
    if len(rows) == len(names):
        return _side_by_side(path, rows, panels, origin)
    with _figure(path, len(panels)) as axes:
        for axis, panel in zip(axes, panels, strict=True):
            for place, name in enumerate(names):
                own = sorted((r for r in rows if r["upstream"] == name), key=lambda r: r["layer"])
                _line(axis, own, panel, name, _colour(place))
            axis.set(xlabel="layer (hidden state)", ylabel=panel["label"])
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.set_ylim(bottom=0)
        _legend(axes[0])
        axes[0].figure.suptitle(origin, fontsize=10)
    return path


def _side_by_side(
    path: Path, rows: Sequence[dict[str, Any]], panels: Sequence[dict[str, Any]], origin: str
) -> Path:
    """A point for each upstream, its name beside the axis."""
    with _figure(path, len(panels)) as axes:
        for axis, panel in zip(axes, panels, strict=True):
            for place, row in enumerate(rows):
                axis.plot(row[panel["key"]], place, "o", color=_colour(place))
                if "band" in panel:
                    axis.hlines(place, *row[panel["band"]], color=_colour(place))
                if "chance" in panel:
                    axis.plot(row[panel["chance"]], place, "x", color="#555555", label="chance")
            axis.set_yticks(
                range(len(rows)), [f"{r['upstream']}\nlayer {r['layer']}" for r in rows], fontsize=8
            )
            axis.invert_yaxis()
            axis.set_xlim(left=0)
            axis.set_xlabel(panel["label"])
        if axes[0].get_legend_handles_labels()[1]:
            _legend(axes[0])
        axes[0].figure.suptitle(origin, fontsize=10)
    return path


def _line(
    axis: Any, rows: Sequence[dict[str, Any]], panel: dict[str, Any], name: str, colour: str
) -> None:
    layers = [row["layer"] for row in rows]
    axis.plot(layers, [row[panel["key"]] for row in rows], "o-", color=colour, label=name, ms=4)
    if "band" in panel:
        low, high = zip(*(row[panel["band"]] for row in rows), strict=True)
        axis.fill_between(layers, low, high, color=colour, alpha=0.15, linewidth=0)
    if "chance" in panel:
        level = [row[panel["chance"]] for row in rows]
        axis.plot(layers, level, "--", color=colour, linewidth=1, label="chance")


def _legend(axis: Any) -> None:
    """Below the panels, where it hides no curve; what each upstream has (chance) is named once."""
    handles, labels = axis.get_legend_handles_labels()
    once = dict(zip(reversed(labels), reversed(handles), strict=True))
    names = [name for name in dict.fromkeys(labels) if name != "chance"]
    names += ["chance"] if "chance" in once else []
    axis.figure.legend(
        [once[name] for name in names], names, loc="outside lower center", frameon=False,
        ncols=min(2 if axis.figure.get_figwidth() < 6 else 4, len(names)), fontsize=8,
    )  # fmt: skip


def convergence(path: Path, pairs: Sequence[tuple[Curve, Curve]]) -> Path:
    """A panel for each pair: dev curves of both, the base's best, and where the tuned run reaches it."""
    with _figure(path, len(pairs)) as axes:
        for axis, (base, tuned) in zip(axes, pairs, strict=True):
            spec = base.record.spec
            step, target = base.best()
            for place, curve in enumerate((base, tuned)):
                label = f"{('base', 'tuned')[place]}: {curve.record.spec.upstream.label}"
                axis.plot(curve.steps, curve.values, "o-", color=_colour(place), label=label, ms=3)
            axis.axhline(target, color="#555555", linestyle="--", linewidth=1, label="base's best")
            for place, at in enumerate((step, tuned.reaches(target))):
                if at is not None:
                    style = {"color": _colour(place), "linestyle": ":", "linewidth": 1.2}
                    axis.axvline(at, label=f"reached at {at}", **style)
            unit = next(m.unit for m in base.record.metrics if m.name == base.metric)
            axis.set(xlabel="steps", ylabel=f"dev {base.metric.upper()} ({unit})")
            axis.set_title(
                f"{spec.task.name}, {spec.interface_label}, {spec.data.corpus}, seed {spec.seed}",
                fontsize=10,
            )
            axis.legend(framealpha=0.9, edgecolor="none")
    return path
