"""What a sweep saves: N interfaces x {asr, pr} on one upstream, against each cell alone.

    python benchmarks/sweep.py -o results

Alone is what s3prl's run_downstream.py does: the frozen upstream is computed for every utterance of every
update and evaluation. Here that is `ssft-bench run` with no memory for hidden states, one process after
the other. The sweep is `ssft-bench sweep` with one worker and an empty store. Both have the same seeds,
updates and recipes, hidden states in float32, one thread; the script stops when one metric, one point of a
learning curve or one prediction differs.

The upstream has HuBERT Base's shapes and random weights (time does not depend on their values), loaded by
s3prl's own `hubert_local`; the corpus is the first utterances of the embedded one. Times are processor
seconds of the whole process and its workers, one thread each: other work on the machine counts little. A cell
alone costs the same whatever stands beside it, so N of them are added up; the sweep is run anew for each N.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ssft_bench import results

INTERFACES = ("weighted_sum", "hconv", "last", "mean", "grouped_weighted_sum", "concat_proj")
TASKS = ("asr", "pr")
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


def main() -> None:
    """Time both ways, compare every number, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--utterances", type=int, default=24, help="of each split")
    parser.add_argument("--updates", type=int, default=24)
    parser.add_argument(
        "--counts", type=int, nargs="+", default=[1, 2, 4, 6], help="numbers of interfaces"
    )
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    upstream = f"hubert_local:ckpt={base_checkpoint(given.out / 'base.pt')}"
    most = INTERFACES[: max(given.counts)]
    alone = {(i, t): time_alone(given, upstream, i, t) for i in most for t in TASKS}
    rows = []
    for count in given.counts:
        seconds, memory = time_sweep(given, upstream, INTERFACES[:count])
        cells = [alone[i, t] for i in INTERFACES[:count] for t in TASKS]
        compare(given.out / "alone", given.out / f"sweep{count}")
        rows.append((count, sum(cells), seconds, encoded(given.out / "alone", count),
                     encoded_store(given.out / f"sweep{count}"), memory))  # fmt: skip
    print(table(rows, given))


def base_checkpoint(path: Path) -> Path:
    """HuBERT Base with random weights in s3prl's format of converted checkpoints."""
    from s3prl.upstream.hubert import hubert_model as h

    from ssft_bench.upstreams.pretraining.models import build_model

    if not path.exists():
        task = {"label_rate": 50, "sample_rate": 16000, "normalize": False}
        model = {"label_rate": 50, "extractor_mode": "default"}
        built = build_model("hubert", model, task, 504, 0)
        config = {**vars(h.HubertConfig(**model))}
        torch.save(
            {"task_cfg": task, "model_cfg": config, "model_weight": built.state_dict(),
             "dictionaries_symbols": [[str(n) for n in range(504)]]}, path,
        )  # fmt: skip
    return path.resolve()


def recipe(given: argparse.Namespace) -> list[str]:
    """Fewer updates and utterances than the suite's, evaluated three times."""
    sets = (f"train.steps={given.updates}", f"train.eval_every={max(1, given.updates // 3)}",
            f"data.max_utterances={given.utterances}")  # fmt: skip
    return [part for text in sets for part in ("--set", text)]


def time_alone(given: argparse.Namespace, upstream: str, interface: str, task: str) -> float:
    """Seconds of one cell in a process of its own that keeps no hidden states; kept for a second call."""
    kept = given.out / "alone_seconds.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    name = f"{interface} {task} {given.utterances} {given.updates}"
    if name not in known:
        command = ["run", "--upstream", upstream, "--interface", interface, "--task", task,
                   "--out", str(given.out / "alone"), "--overwrite", "always", *recipe(given),
                   "--set", "data.memory_gib=0"]  # fmt: skip
        known[name] = timed(given, command)
        kept.write_text(json.dumps(known, indent=2))
    return float(known[name])


def time_sweep(
    given: argparse.Namespace, upstream: str, interfaces: tuple[str, ...]
) -> tuple[float, int]:
    """Seconds of the sweep from an empty store, and its worker's peak memory in MiB."""
    out, store = given.out / f"sweep{len(interfaces)}", given.out / "store"
    for folder in (out, store):
        shutil.rmtree(folder, ignore_errors=True)
    command = ["sweep", "--upstreams", upstream, "--interfaces", ",".join(interfaces),
               "--tasks", ",".join(TASKS), "--out", str(out), "--cache", str(store), "--jobs", "1",
               "--per-share", "99", "--states", "float32", *recipe(given)]  # fmt: skip
    seconds = timed(given, command)
    return seconds, max(r.cost["peak_memory_mib"] for r in results.readable(out))


def timed(given: argparse.Namespace, command: list[str]) -> float:
    """Processor seconds of `ssft-bench ...` and its workers, their start included."""
    environment = {**os.environ, **THREADS, "SSFT_BENCH_CACHE": str(given.out / "digests")}
    began, before = time.monotonic(), processor_seconds()
    done = subprocess.run([sys.executable, "-m", "ssft_bench", *command], env=environment,
                          capture_output=True, text=True, check=False, preexec_fn=on_one_core)  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stderr}")
    seconds, wall = processor_seconds() - before, time.monotonic() - began
    print(
        f"{seconds:7.1f} s, wall clock {wall:.1f} s: {' '.join(command[:8])}",
        file=sys.stderr,
        flush=True,
    )
    return seconds


def on_one_core() -> None:
    """Before the process begins: a worker has as many threads as cores, and sums depend on them."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def processor_seconds() -> float:
    """Of all child processes that have ended, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compare(alone: Path, sweep: Path) -> None:
    """Stop unless every cell of the sweep has the numbers and predictions of the cell alone."""
    one, other = numbers(alone), numbers(sweep)
    for name, values in other.items():
        if one.get(name) != values:
            raise SystemExit(
                f"{name}: {json.dumps(one.get(name))} alone, {json.dumps(values)} in the sweep"
            )


def numbers(out: Path) -> dict[str, Any]:
    """Scores, curve and predictions' digest by signature."""
    return {
        r.signature: [r.model_dump(mode="json", include={"metrics", "learning_curve"}),
                      r.predictions["sha256"]]
        for r in results.readable(out)
    }  # fmt: skip


def encoded(out: Path, count: int) -> float:
    """Hours of speech that the cells alone put through the upstream."""
    chosen = INTERFACES[:count]
    return float(sum(r.cost["speech_hours_encoded"] for r in results.readable(out)
                     if r.spec.interface.name in chosen))  # fmt: skip


def encoded_store(out: Path) -> float:
    """Hours of speech that a sweep put through the upstream: what its store was filled with, and the rest."""
    records = list(results.readable(out))
    first = records[0].data["hours"]
    return float(sum(first.values()) + sum(r.cost["speech_hours_encoded"] for r in records))


def table(
    rows: list[tuple[int, float, float, float, float, int]], given: argparse.Namespace
) -> str:
    """Markdown."""
    lines = ["| interfaces | cells | alone, processor s | sweep, processor s | times faster | "
             "hours encoded alone | in the sweep | peak memory, MiB |", "|" + "---|" * 8]  # fmt: skip
    for count, alone, sweep, hours, once, memory in rows:
        lines.append(f"| {count} | {count * len(TASKS)} | {alone:.0f} | {sweep:.0f} | {alone / sweep:.1f} | "
                     f"{hours:.2f} | {once:.2f} | {memory} |")  # fmt: skip
    lines.append(f"\n{given.updates} updates a cell, {given.utterances} utterances a split, one thread; "
                 "every metric, curve and prediction equal.")  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    main()
