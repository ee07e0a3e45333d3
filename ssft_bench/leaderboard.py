"""Results -> tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ssft_bench import results
from ssft_bench.errors import MissingError
from ssft_bench.files import atomic_path
from ssft_bench.recipes import packaged_recipes
from ssft_bench.results import ResultRecord

COLUMNS = (
    "suite", "corpus", "synthetic", "stands_in", "task", "metric", "unit", "higher_is_better", "upstream",
    "interface", "protocol", "seed", "value", "ci_low", "ci_high", "utterances", "ci_method",
    "interface_parameters", "head_parameters", "upstream_parameters", "macs_per_second",
    "steps", "lr", "best_step", "events", "signature",
)  # fmt: skip


def build(runs: Path) -> pd.DataFrame:
    """One row for each finished run's primary test metric, best first within suite, corpus and task.

    Raises MissingError when the folder holds no finished run.
    """
    rows = [_row(r) for _, r in results.find_all(runs) if r.status == "done" and r.primary()]
    if not rows:
        raise MissingError(f"--runs {runs}: no finished run there; start one with 'ssft-bench run'")
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    signed = table["value"].where(~table["higher_is_better"], -table["value"])
    order = [
        "suite",
        "corpus",
        "task",
        "protocol",
        "metric",
        "_signed",
        "upstream",
        "interface",
        "seed",
        "signature",
    ]
    sorted_table = table.assign(_signed=signed).sort_values(order, kind="stable")
    return sorted_table.drop(columns="_signed").reset_index(drop=True)


def _row(record: ResultRecord) -> dict[str, Any]:
    spec, metric, cost = record.spec, record.primary(), record.cost
    assert metric is not None
    macs = cost["macs_per_second_of_audio"]
    return {
        "suite": spec.suite,
        "corpus": spec.data.corpus,
        "synthetic": record.data["synthetic"],
        "stands_in": record.data.get("stands_in"),
        "task": spec.task.name,
        "metric": metric.name,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "upstream": spec.upstream.label,
        "interface": spec.interface_label,
        "protocol": spec.protocol,
        "seed": spec.seed,
        "value": round(metric.value, 4),
        "ci_low": round(metric.ci95[0], 4) if metric.ci95 else None,
        "ci_high": round(metric.ci95[1], 4) if metric.ci95 else None,
        "utterances": metric.n,
        "ci_method": metric.ci_method,
        "interface_parameters": cost["parameters"]["interface"]["trainable"],
        "head_parameters": cost["parameters"]["head"]["trainable"],
        "upstream_parameters": cost["parameters"]["upstream"]["total"],
        "macs_per_second": sum(macs.values()),
        "steps": spec.train.steps if spec.train else 0,
        "lr": record.selection.get("lr", spec.train.optimizer.lr if spec.train else None),
        "best_step": record.selection.get("step"),
        "events": len(record.events),
        "signature": record.signature,
    }


def markdown(table: pd.DataFrame) -> str:
    """A section for each suite, corpus, task and protocol; the best value is bold; synthetic speech says
    so, and so does what stands in for something else."""
    parts = []
    sections = ["suite", "corpus", "task", "protocol"]
    for (suite, corpus, task, protocol), group in table.groupby(sections, sort=True):
        first = group.iloc[0]
        arrow = "↑" if first["higher_is_better"] else "↓"
        kind = " (synthetic speech)" if first["synthetic"] else ""
        metric = f"{str(first['metric']).upper()} {arrow} {first['unit']}"
        told = "" if protocol == "frozen" else f", {protocol}"
        parts.append(f"### {task} on {corpus}{kind}, suite {suite}{told}\n")
        header = (
            "upstream", "interface", metric, "95% CI", "n", "seed", "steps",
            "interface params", "head params", "MMACs/s",
        )  # fmt: skip
        lines: list[tuple[Any, ...]] = [header, tuple("---" for _ in header)]
        for place, row in enumerate(group.itertuples()):
            value = f"{row.value:.2f}"
            lines.append(
                (
                    row.upstream, row.interface, f"**{value}**" if place == 0 else value,
                    f"{row.ci_low:.2f} to {row.ci_high:.2f}", row.utterances, row.seed, row.steps,
                    f"{row.interface_parameters:,}", f"{row.head_parameters:,}",
                    f"{row.macs_per_second / 1e6:,.0f}",
                )
            )  # fmt: skip
        parts.append("\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n")
        if first["stands_in"]:
            remark = str(first["stands_in"])
            parts.append(f"{remark[0].upper()}{remark[1:]}.\n")
        parts.append(f"CI: {first['ci_method']}. {_selection(group)}\n")
    parts += [_unavailable(suite) for suite in sorted(table["suite"].unique())]
    return "\n".join(part for part in parts if part)


def _unavailable(suite: str) -> str:
    """The tasks that a suite has no data for, and why; empty where it has some for all."""
    reasons = {
        task: recipes[suite]["unavailable"]
        for task, recipes in packaged_recipes().items()
        if "unavailable" in recipes.get(suite, {})
    }
    return "\n".join(
        f"### {task}, suite {suite}: no data\n\n{reason}.\n" for task, reason in reasons.items()
    )


def _selection(group: pd.DataFrame) -> str:
    """How the parameters of a section's rows were picked, and their learning rates."""
    rates = sorted({f"{rate:g}" for rate in group["lr"].dropna()}, key=float)
    if not rates:
        return "Nothing is trained; where layers were compared, dev picked."
    return f"Selected on dev; lr {', '.join(rates)}."


def write(table: pd.DataFrame, folder: Path) -> list[Path]:
    """Write leaderboard.csv and leaderboard.md atomically; return their paths."""
    texts = {"leaderboard.csv": table.to_csv(index=False), "leaderboard.md": markdown(table)}
    for name, text in texts.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [folder / name for name in texts]
