"""Do SSFT methods help? Base against tuned upstreams: pr, asr, and finding spoken words; three seeds.

    python benchmarks/ssft_methods.py -o results                      # the embedded corpus
    python benchmarks/ssft_methods.py -o results --data ROOT          # and AN4 below ROOT
    python benchmarks/ssft_methods.py -o results --words FOLDER       # and <word>/*.flac

Every cell is a run of `ssft-bench run` with the recipe of its suite and is kept in `-o`: a second call
prints the tables again. Hidden states are computed once for an upstream and a corpus. With several
processes on one machine, give each its share of the upstreams (`--upstreams`), then call once for all.

Printed are means over the seeds of the head; the interval is a bootstrap over test speakers of the
predictions of all seeds together, and for differences from the base a paired one. It does not cover
the seed of tuning.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from pooled import (
    interval_text,
    markdown_table,
    paired_difference,
    pooled_score,
    ranking_metric,
)

from ssft_bench import results, runner, spec
from ssft_bench.analysis import retrieval, spotting
from ssft_bench.cell import Machine
from ssft_bench.corpora.mini_corpus import Mini
from ssft_bench.files import write_json
from ssft_bench.metric import Prediction
from ssft_bench.upstream import load_upstream

UPSTREAMS = ("hubert_mini", "score_hubert", "spin_hubert", "laser_hubert", "rewire_hubert")
TASKS = ("pr", "asr")
Cell = tuple[str, str]


def main() -> None:
    """Run what is missing, print what is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--upstreams", nargs="+", default=UPSTREAMS)
    parser.add_argument("--tasks", nargs="*", default=TASKS)
    parser.add_argument("--interface", default="weighted_sum")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument(
        "--updates", type=float, default=1.0, help="share of the recipe's updates, to save time"
    )
    parser.add_argument("--data", help="folder that holds AN4")
    parser.add_argument("--words", type=Path, help="folder of isolated words, <word>/*.flac")
    given = parser.parse_args()
    cells = [(task, corpus) for corpus in _corpora(given) for task in given.tasks]
    predictions: dict[str, dict[Cell, list[list[Prediction]]]] = {}
    words: dict[str, dict[str, dict[str, Any]]] = {}
    for upstream in given.upstreams:
        predictions[upstream] = _runs(given, upstream)
        words[upstream] = _words(given, upstream)
    print(_scores(predictions, cells))
    if len(given.upstreams) > 1:
        print(_differences(predictions, cells))
    print(_found(words))
    print(_spent(given.upstreams))


def _corpora(given: argparse.Namespace) -> list[str]:
    return ["mini", "an4"] if given.data else ["mini"]


def _runs(given: argparse.Namespace, upstream: str) -> dict[Cell, list[list[Prediction]]]:
    """Predictions of every seed of every cell."""
    found: dict[Cell, list[list[Prediction]]] = {}
    for corpus in _corpora(given):
        machine = Machine("cpu", states={})  # one corpus' states at a time
        for task, seed in product(given.tasks, given.seeds):
            resolved = spec.resolve(
                upstream=upstream, interface=given.interface, task=task, corpus=corpus,
                data=given.data if corpus == "an4" else None, seed=seed,
            )  # fmt: skip
            answer = runner.run(_shortened(resolved, given.updates), given.out, machine=machine)
            found.setdefault((task, corpus), []).append(results.load_predictions(answer.folder))
    return found


def _shortened(resolved: spec.RunSpec, share: float) -> spec.RunSpec:
    """The same run with a share of its updates, evaluated as often."""
    train = resolved.train
    less = {k: max(1, round(share * getattr(train, k))) for k in ("steps", "eval_every")}
    return resolved.model_copy(update={"train": train.model_copy(update=less)})


def _words(given: argparse.Namespace, upstream: str) -> dict[str, dict[str, Any]]:
    """Best layer's row of each search for spoken words, from its file when it is there."""
    path = given.out / f"words_{upstream}.json"
    if path.exists():
        stored: dict[str, dict[str, Any]] = json.loads(path.read_text())
        if "keywords" in stored or not given.words:
            return stored
    loaded = load_upstream(upstream, {}).eval()
    layers = range(loaded.spec.num_layers)
    found = {"mini": spotting.measure(loaded, layers, spotting.terms(Mini()))}
    if given.words:
        heard = retrieval.folder_words(given.words, held_out_only=True)
        chosen = retrieval.chosen(heard, 60, 0)
        found["keywords"] = retrieval.measure(loaded, layers, chosen)
    rows = {name: {**_last(own), "best": _best(own), "layers": own} for name, own in found.items()}
    write_json(path, rows)
    return rows


def _last(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {k: rows[-1][k] for k in ("layer", "map", "map_ci95", "chance", "queries")}


def _best(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The layer with the highest MAP; picked on what it is reported on, so only to look at."""
    best = max(rows, key=lambda row: float(row["map"]))
    return {k: best[k] for k in ("layer", "map")}


def _scores(
    predictions: dict[str, dict[Cell, list[list[Prediction]]]], cells: Sequence[Cell]
) -> str:
    """Mean over the seeds, interval, each seed."""
    heads = [f"{task} {corpus}, {ranking_metric(task).name.upper()} ↓ %" for task, corpus in cells]
    rows = [["upstream", *heads]]
    for upstream, own in predictions.items():
        row = [upstream]
        for task, corpus in cells:
            metric, seeds = ranking_metric(task), own[task, corpus]
            pooled = pooled_score(metric, seeds)
            each = ", ".join(f"{pooled_score(metric, [one]).value:.1f}" for one in seeds)
            row.append(f"**{pooled.value:.1f}** [{interval_text(pooled.ci95)}] ({each})")
        rows.append(row)
    return markdown_table(rows)


def _found(words: dict[str, dict[str, dict[str, Any]]]) -> str:
    """MAP of the last hidden state, and of the best one."""
    kinds = list(next(iter(words.values())))
    rows = [["upstream", *(f"words {kind}, MAP ↑ %" for kind in kinds)]]
    for upstream, own in words.items():
        row = [upstream]
        for kind in kinds:
            last, best = own[kind], own[kind]["best"]
            row.append(
                f"**{last['map']:.1f}** [{interval_text(last['map_ci95'])}]; "
                f"best layer {best['layer']}: {best['map']:.1f}"
            )
        rows.append(row)
    chance = ["chance", *(f"{next(iter(words.values()))[kind]['chance']:.1f}" for kind in kinds)]
    return markdown_table([*rows, chance])


def _spent(upstreams: Sequence[str]) -> str:
    """What tuning cost."""
    rows = [["upstream", "hours of speech (one view)", "trained parameters", "minutes"]]
    return markdown_table(rows + [[upstream, *_costs(upstream)] for upstream in upstreams])


def _costs(upstream: str) -> list[str]:
    """What tuning took, from the checkpoint."""
    about = getattr(load_upstream(upstream, {}).expert, "checkpoint_about", None)
    if about is None:
        return ["0", "0", "0"]
    cost = about["cost"]
    trained = cost["parameters"]["upstream"]["trainable"]
    return [f"{about['hours_processed']:.1f}", f"{trained:,}", f"{cost['seconds'] / 60:.1f}"]


def _differences(
    predictions: dict[str, dict[Cell, list[list[Prediction]]]], cells: Sequence[Cell]
) -> str:
    """Tuned minus base, paired over speakers, seeds together."""
    base, *others = predictions
    rows = [[f"minus {base}", *(f"{task} {corpus}" for task, corpus in cells)]]
    for upstream in others:
        row = [upstream]
        for cell in cells:
            found = paired_difference(
                ranking_metric(cell[0]), predictions[upstream][cell], predictions[base][cell]
            )
            row.append(f"{found.value:+.1f} [{interval_text(found.ci95)}]")
        rows.append(row)
    return markdown_table(rows)


if __name__ == "__main__":
    main()
