"""Does context-aware fine-tuning help? Its four modes beside each other: phones on the embedded corpus.

    taskset -c 1 python benchmarks/context.py -o results

A re-implementation from the abstract with our hyper-parameters: nothing here is to be held against a
number of the paper. Every cell is a run of `ssft-bench run` and is kept in `-o`; a second call prints the
table again. The base is `laser_hubert`, the packaged upstream whose last hidden state learns phones within
minutes; from `hubert_mini` a CTC head does not leave its plateau in a run this short.

PER is the mean over the seeds (of head, module and order of the data); the interval is a bootstrap over
test speakers of the predictions of all seeds together, and for differences a paired one. It does not cover
the seed: each seed's own value stands behind it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from pooled import (
    interval_text,
    markdown_table,
    paired_difference,
    pooled_score,
    ranking_metric,
)

from ssft_bench import results, runner, spec
from ssft_bench.cell import Machine
from ssft_bench.metric import Prediction
from ssft_bench.results import ResultRecord

MODES = ("none", "module_only", "aware", "inject")
TASK = "pr"
RECIPE = (
    "data.batch_size=4", "train.steps=250", "train.eval_every=125", "train.optimizer.lr=5e-3",
    "train.schedule.warmup=0.1", "finetune.frozen_steps=50", "finetune.upstream_lr_scale=0.04",
    "finetune.padded=false",
)  # fmt: skip
"""One pass and nine tenths over the embedded corpus; the rest as in the task's recipe."""


def main() -> None:
    """Run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--base", default="laser_hubert")
    parser.add_argument("--alpha", type=float, default=0.3)
    parser.add_argument("--modes", nargs="+", default=MODES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    found: dict[str, list[tuple[ResultRecord, list[Prediction]]]] = {}
    for seed in given.seeds:  # seeds outside: a call that is stopped has whole rows of few seeds
        for mode in given.modes:
            found.setdefault(mode, []).append(_run(given, mode, seed))
    print(_table(found))


def _run(given: argparse.Namespace, mode: str, seed: int) -> tuple[ResultRecord, list[Prediction]]:
    resolved = spec.resolve(
        upstream=f"context_hubert:base={given.base},mode={mode},alpha={given.alpha}",
        interface="last", task=TASK, protocol="finetuned", seed=seed, sets=[*RECIPE, *given.sets],
    )  # fmt: skip
    answer = runner.run(resolved, given.out, machine=Machine("cpu"))
    return answer.record, results.load_predictions(answer.folder)


def _table(found: dict[str, list[tuple[ResultRecord, list[Prediction]]]]) -> str:
    metric = ranking_metric(TASK)
    predictions = {mode: [own for _, own in runs] for mode, runs in found.items()}
    rows = [[
        "mode", f"{metric.name.upper()} ↓ % (each seed)", "minus none (each seed)",
        "minus module_only (each seed)",
        "covered: train; test", "std of c; over its size", "cosine: neighbours; strangers",
        "parameters", "forward pass", "s of training",
    ]]  # fmt: skip
    for mode, runs in found.items():
        pooled = pooled_score(metric, predictions[mode])
        each = ", ".join(f"{pooled_score(metric, [one]).value:.1f}" for one in predictions[mode])
        minus = []
        for base in ("none", "module_only"):
            if base not in found or MODES.index(base) >= MODES.index(mode):
                minus.append("")
                continue
            gap = paired_difference(metric, predictions[mode], predictions[base])
            pairs = zip(predictions[mode], predictions[base], strict=True)
            own = ", ".join(f"{paired_difference(metric, [a], [b]).value:+.1f}" for a, b in pairs)
            minus.append(f"{gap.value:+.1f} [{interval_text(gap.ci95)}] ({own})")
        value = f"**{pooled.value:.1f}** [{interval_text(pooled.ci95)}] ({each})"
        rows.append([mode, value, *minus, *_told([record for record, _ in runs])])
    return markdown_table(rows)


def _told(records: Sequence[ResultRecord]) -> list[str]:
    """Coverage, collapse numbers, overhead and time, means over the seeds."""
    upstreams = [record.finetuning["upstream"] for record in records]
    seconds = f"{mean(record.cost['seconds']['training'] for record in records):.0f}"
    coverage = upstreams[0]["coverage"]
    covered = "; ".join(
        "/".join(f"{coverage[split][key]:.0%}" for key in ("-1", "+1", "any"))
        for split in ("train", "test")
    )
    if "collapse" not in upstreams[0]:
        return [covered, "", "", "", "", seconds]
    collapse, overhead = ([u[key] for u in upstreams] for key in ("collapse", "overhead"))

    def average(rows: Sequence[dict[str, Any]], key: str, digits: int = 2) -> str:
        seen = [row[key] for row in rows if key in row]
        return f"{mean(seen):.{digits}f}" if seen else "never seen"

    parameters = overhead[0]["parameters"]
    share = mean(own["milliseconds"]["share"] for own in overhead)
    return [
        covered,
        f"{average(collapse, 'context_std')}; {average(collapse, 'context_spread')}",
        f"{average(collapse, 'context_cosine_neighbours')}; "
        f"{average(collapse, 'context_cosine_strangers')}",
        f"{parameters['module']:,} ({parameters['share']:.1%})",
        f"{share:+.1%}",
        seconds,
    ]


if __name__ == "__main__":
    main()
