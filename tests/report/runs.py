"""Finished runs that are made up in a moment, but whose scores are those of their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssft_bench import registry, results, spec
from ssft_bench.corpora.mini_corpus import MiniPhrases
from ssft_bench.files import sha256_json
from ssft_bench.metric import Prediction
from ssft_bench.results import MetricValue, ResultRecord
from ssft_bench.statistics import score

WORDS = "THE A CAT DOG SAT RAN ON OF MAT HOUSE".split()


def texts(rng: np.random.Generator, count: int, rate: float) -> list[Prediction]:
    """Utterances of four speakers, about `rate` of their words wrong; references depend on `count`."""
    fixed = np.random.default_rng(count)
    found = []
    for place in range(count):
        words = list(fixed.choice(WORDS, fixed.integers(3, 9)))
        heard = [str(rng.choice(WORDS)) if rng.random() < rate else str(w) for w in words]
        heard = [w for w in heard if rng.random() > rate / 4]
        found.append(Prediction(f"u{place:03d}", " ".join(words), " ".join(heard), f"s{place % 4}"))
    return found


def searches(rng: np.random.Generator, queries: int = 6, documents: int = 12) -> list[Prediction]:
    """Answers of a query-by-example search over documents of the corpus `mini_phrases`."""
    names = [row.id for row in MiniPhrases().documents("test")][:documents]
    found = []
    for row in MiniPhrases().queries("test")[:queries]:
        order = rng.permutation(names)
        lines = [f"{name} {3 - 0.1 * place:.4f}" for place, name in enumerate(order)]
        true = sorted(rng.choice(names, 3, replace=False).tolist())
        found.append(Prediction(row.id, "\n".join(true), "\n".join(lines)))
    return found


def labels(rng: np.random.Generator, count: int = 20) -> list[Prediction]:
    """Sentiments of utterances of `mini_phrases`."""
    kinds = ["negative", "neutral", "positive"]
    rows = MiniPhrases().utterances("test")[:count]
    fixed = np.random.default_rng(count)
    return [
        Prediction(r.id, str(fixed.choice(kinds)), str(rng.choice(kinds)), r.speaker) for r in rows
    ]


def finish(
    root: Path,
    predictions: Sequence[Prediction],
    *,
    upstream: str = "hubert_mini",
    interface: str = "weighted_sum",
    task: str = "asr",
    suite: str = "mini",
    seed: int = 1,
    sets: Sequence[str] = (),
    usage: Sequence[float] | None = (0.1, 0.2, 0.3, 0.4),
    curve: Sequence[tuple[int, float]] = ((100, 60.0), (200, 40.0), (300, 45.0)),
    hours: float = 0.0,
    **changes: Any,
) -> Path:
    """Write a finished run below `root`; its folder. `changes` go into the record."""
    resolved = spec.resolve(
        upstream=upstream, interface=interface, task=task, suite=suite, seed=seed, sets=sets
    )
    task_class = registry.load("tasks", task)
    metrics = []
    for metric in task_class.metrics:
        found = score(metric, predictions, seed=seed, resamples=200)
        metrics.append(
            MetricValue(
                name=metric.name, split="test", value=found.value, unit=metric.unit, n=found.n,
                higher_is_better=metric.higher_is_better, ci95=found.ci95, ci_method=found.method,
                primary=metric.primary,
            )
        )  # fmt: skip
    content = {"upstream_weights": sha256_json(upstream), "corpus": "0" * 64}
    name = spec.signature(resolved, content)
    folder = results.run_folder(root, resolved, name)
    folder.mkdir(parents=True, exist_ok=True)
    key = f"dev_{resolved.selection.metric}"
    tuned = [{"name": upstream, "method": "m", "steps": 1, "hours_processed": hours, "base": "b"}]
    record = ResultRecord(
        status="done", signature=name, spec=resolved, content=content,
        data={"corpus": resolved.data.corpus, "synthetic": True, "licence": "Apache-2.0"},
        metrics=metrics,
        learning_curve=[{"step": float(s), key: v} for s, v in curve] if resolved.train else [],
        selection={"split": "dev", "metric": resolved.selection.metric, "step": 200, "value": 40.0},
        predictions=results.save_predictions(folder, predictions),
        interface_state={
            "layers_used": [0, 1, 2, 3],
            "layer_usage": None if usage is None else list(usage),
            "usage_kind": "softmax weight",
        },
        cost={
            "parameters": {
                "upstream": {"total": 5_000_000, "trainable": 0},
                "interface": {"total": 4, "trainable": 4},
                "head": {"total": 70_000 + seed, "trainable": 70_000 + seed},
            },
            "macs_per_second_of_audio": {"upstream": 280_000_000, "interface_and_head": 7_000_000},
            "seconds": {"training": 1.0},
            "tuning": tuned if hours else [],
        },
        env={"python": "3"}, code={"version": "0", "commit": "c" * 40, "dirty": False},
        time={"started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:01:00+00:00"},
    )  # fmt: skip
    results.save(folder, record.model_copy(update=changes))
    return folder


def several(
    root: Path,
    rng: np.random.Generator,
    rates: dict[str, float],
    *,
    seeds: Sequence[int] = (1, 2, 3),
    interfaces: Sequence[str] = ("weighted_sum",),
    utterances: int = 24,
) -> None:
    """Runs of task asr: each upstream makes about this rate of errors, with every interface and seed."""
    for upstream, rate in rates.items():
        for interface in interfaces:
            for seed in seeds:
                finish(
                    root, texts(rng, utterances, rate), upstream=upstream, interface=interface,
                    seed=seed, hours=0.0 if upstream == "hubert_mini" else 2.5 + rate,
                )  # fmt: skip
