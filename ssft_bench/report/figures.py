"""Plots of the page, each one small enough for a phone and drawn by matplotlib."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ssft_bench.names import metric_name
from ssft_bench.report import svg
from ssft_bench.report.collect import Group, Run

LOGARITHMIC = 30
"""From this ratio of the largest to the smallest value on, an axis is logarithmic."""


@dataclass(frozen=True)
class Plot:
    """A drawing with the numbers in it."""

    title: str
    drawing: str
    """SVG, safe to put into a page."""
    header: tuple[str, ...]
    rows: tuple[tuple[Run, tuple[str, ...]], ...]
    """The numbers, run by run."""
    note: str = ""
    """What the numbers are, where the axis cannot say it."""


@dataclass
class Draughtsman:
    """Draws with the page's order of upstreams, and numbers its drawings."""

    upstreams: Sequence[str]
    count: int = 0

    def sample(self, upstream: str) -> str:
        """What stands for an upstream in every plot, for the legend."""
        with svg.axes(0.5, 0.18) as axis:
            axis.set_axis_off()
            axis.plot([0, 1, 2], [0, 0, 0], markevery=[1], **self._style(upstream))
            return svg.finish(axis, self._name(), upstream, "", {})

    def _name(self) -> str:
        self.count += 1
        return f"plot-{self.count}"

    def _place(self, upstream: str) -> int:
        return self.upstreams.index(upstream)

    def _style(self, upstream: str) -> dict[str, Any]:
        place = self._place(upstream)
        return {
            "color": svg.colour(place), "linestyle": svg.dash(place), "marker": svg.marker(place),
            "markersize": 4, "markeredgewidth": 0,
        }  # fmt: skip

    def layers(self, group: Group, interface: str) -> Plot | None:
        """Share of each layer, a line for each upstream (its mean over seeds); None where nobody has one."""
        runs = [r for r in group.runs if r.interface == interface and _shares(r)]
        if not runs:
            return None
        title = f"{group.task}, {interface}"
        kinds = [str(kind) for r in runs if (kind := r.record.interface_state.get("usage_kind"))]
        with svg.axes() as axis:
            points = {}
            for upstream in dict.fromkeys(r.upstream for r in runs):
                own = [_shares(r) for r in runs if r.upstream == upstream]
                own = [shares for shares in own if len(shares) == len(own[0])]
                middle = [statistics.fmean(column) for column in zip(*own, strict=True)]
                key = f"line-{self._place(upstream)}"
                axis.plot(range(len(middle)), middle, gid=key, **self._style(upstream))
                points[key] = f"{upstream}: mean of {len(own)} run{'s' * (len(own) > 1)}"
                if len(own) > 1:
                    low, high = zip(
                        *((min(c), max(c)) for c in zip(*own, strict=True)), strict=True
                    )
                    axis.fill_between(range(len(low)), low, high, alpha=0.18, linewidth=0,
                                      color=svg.colour(self._place(upstream)))  # fmt: skip
            for size in sorted({len(_shares(r)) for r in runs}):
                axis.hlines(1 / size, 0, size - 1, color=svg.FAINT, linestyle=":", linewidth=1)
            axis.set(xlabel="layer (hidden state)", ylabel="share")
            axis.set_ylim(bottom=min(0, axis.get_ylim()[0]))
            axis.xaxis.get_major_locator().set_params(integer=True)
            text = "; ".join(_top_layer(r) for r in runs[:12])
            drawing = svg.finish(axis, self._name(), f"Layer usage: {title}", text, points)
        width = max(len(_shares(r)) for r in runs)
        header = ("upstream", "seed", *(str(layer) for layer in range(width)))
        rows = tuple(
            (r, (r.upstream, str(r.seed), *(f"{share:.3f}" for share in _shares(r)))) for r in runs
        )
        return Plot(interface, drawing, header, rows, kinds[0] if kinds else "")

    def curves(self, group: Group, interface: str, limits: tuple[float, float]) -> Plot | None:
        """Dev scores over steps: a thin line for each run, a thick one for an upstream's mean over seeds."""
        runs = [r for r in group.runs if r.interface == interface and curve(r)]
        if not runs:
            return None
        name, unit, _ = selecting(runs[0])
        with svg.axes() as axis:
            points = {}
            for upstream in dict.fromkeys(r.upstream for r in runs):
                own = [r for r in runs if r.upstream == upstream]
                style = self._style(upstream)
                for run in own:
                    key = f"run-{run.number}"
                    alone = (
                        style
                        if len(own) == 1
                        else style | {"marker": None, "alpha": 0.4, "linewidth": 0.9}
                    )
                    axis.plot(*zip(*curve(run), strict=True), gid=key, **alone)
                    points[key] = f"{upstream}, seed {run.seed}: {_best(run)}"
                if len(own) > 1:
                    key = f"line-{self._place(upstream)}"
                    axis.plot(*zip(*_mean_curve(own), strict=True), gid=key, linewidth=1.8, **style)
                    points[key] = f"{upstream}: mean of {len(own)} runs"
            axis.set(xlabel="steps", ylabel=f"dev {metric_name(name)} ({unit})", ylim=limits)
            axis.set_xlim(left=0)
            axis.xaxis.set_major_formatter(_engineering())
            text = "; ".join(f"{r.upstream}, seed {r.seed}: {_best(r)}" for r in runs[:12])
            title = f"Learning curves: {group.task}, {interface}"
            drawing = svg.finish(axis, self._name(), title, text, points)
        steps = sorted({step for r in runs for step, _ in curve(r)})
        values = [dict(curve(r)) for r in runs]
        rows = tuple(
            (r, (r.upstream, str(r.seed), *(f"{own[s]:.2f}" if s in own else "" for s in steps)))
            for r, own in zip(runs, values, strict=True)
        )
        return Plot(interface, drawing, ("upstream", "seed", *(f"{s:,}" for s in steps)), rows)

    def cost(
        self, group: Group, label: str, cost: Callable[[Run], float | None], shown: str = ",.0f"
    ) -> Plot | None:
        """Scores with their intervals over a cost; None where fewer than two costs are known."""
        known = [(r, value) for r in group.runs if (value := cost(r)) is not None]
        values = [value for _, value in known]
        if len(set(values)) < 2:
            return None
        with svg.axes() as axis:
            points = {}
            for run, value in known:
                style = self._style(run.upstream) | {"linestyle": "none", "markersize": 5.5}
                score, key = run.metric.value, f"run-{run.number}"
                axis.plot(value, score, gid=key, alpha=0.85, **style)
                if run.metric.ci95:
                    axis.vlines(
                        value, *run.metric.ci95, alpha=0.4, linewidth=1, color=style["color"]
                    )
                points[key] = (
                    f"{run.upstream}, {run.interface}, seed {run.seed}: {score:.2f} {run.metric.unit} "
                    f"at {value:{shown}}"
                )
            if min(values) > 0 and max(values) / min(values) > LOGARITHMIC:
                axis.set_xscale("log")
                axis.minorticks_off()
            axis.xaxis.set_major_formatter(_engineering())
            axis.margins(x=0.08)
            better = "higher" if group.metric.higher_is_better else "lower"
            axis.set(xlabel=label, ylabel=f"test {group.metric_label}, {better} is better")
            text = "; ".join(list(points.values())[:12])
            title = f"Score over {label}: {group.task}"
            drawing = svg.finish(axis, self._name(), title, text, points)
        header = ("upstream", "interface", "seed", label, group.metric_label)
        rows = tuple(
            (r, (r.upstream, r.interface, str(r.seed), f"{value:{shown}}", f"{r.metric.value:.2f}"))
            for r, value in known
        )
        return Plot("", drawing, header, rows)


def _shares(run: Run) -> list[float]:
    """Share of each layer; empty where the interface has none to tell, or no choice."""
    shares = run.record.interface_state.get("layer_usage") or []
    return [float(share) for share in shares] if len(shares) > 1 else []


def _top_layer(run: Run) -> str:
    shares = _shares(run)
    layer = max(range(len(shares)), key=shares.__getitem__)
    return f"{run.upstream}, seed {run.seed}: most on layer {layer} ({shares[layer]:.2f})"


def selecting(run: Run) -> tuple[str, str, bool]:
    """The metric that picked the step: name, unit, whether higher is better."""
    name = run.record.spec.selection.metric
    found = next((m for m in run.record.metrics if m.name == name), run.metric)
    return name, found.unit, found.higher_is_better


def curve(run: Run) -> list[tuple[int, float]]:
    """(step, dev score) of every evaluation; empty where nothing was trained."""
    key = f"dev_{run.record.spec.selection.metric}"
    return [(int(row["step"]), float(row[key])) for row in run.record.learning_curve if key in row]


def _best(run: Run) -> str:
    name, _, higher = selecting(run)
    step, value = (max if higher else min)(curve(run), key=lambda point: point[1])
    return f"best dev {metric_name(name)} {value:.2f} at step {step:,}"


def _mean_curve(runs: Sequence[Run]) -> list[tuple[int, float]]:
    """Means over the steps that all runs were evaluated at."""
    curves = [dict(curve(run)) for run in runs]
    steps = sorted(set.intersection(*(set(own) for own in curves)))
    return [(step, statistics.fmean(own[step] for own in curves)) for step in steps] or curve(
        runs[0]
    )


def limits(group: Group) -> tuple[float, float]:
    """The same y axis for all curves of a group, with a margin."""
    values = [value for run in group.runs for _, value in curve(run)]
    if not values:
        return 0.0, 1.0
    margin = 0.06 * (max(values) - min(values)) or 1.0
    return min(values) - margin, max(values) + margin


def _engineering() -> Any:
    """`0.5`, `500`, `1.5k`, `20M`."""
    from matplotlib.ticker import EngFormatter, FuncFormatter

    thousands = EngFormatter(sep="")
    return FuncFormatter(lambda value, _: f"{value:g}" if abs(value) < 1000 else thousands(value))
