"""Time of one tuning update beside the authors' own loss, on the same model and the same speech.

    git clone https://github.com/Trikaldarshi/SCORE_Finetuning
    python benchmarks/tune_step.py --score-repo SCORE_Finetuning          # minutes on two cores

An update of SCORE on a HuBERT Base with random weights (weights do not move a clock): 8 utterances of the
embedded corpus, student and teacher forward, soft-DTW divergence of projected unit rows, backward into the
top layers. Views are made beforehand for everybody. Ours is `ssft_bench`'s learner; the rivals take the very
same features and only compute the loss in their way: the authors' soft-DTW on the CPU, utterance by
utterance as their recipe has it, and plain loops compiled by numba.

Turns are interleaved; a ratio is the rival's time over ours in the same turn: median, smallest, largest.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numba
import torch
from soft_dtw import Loops, by_product, divergence, module_at
from torch import Tensor

from ssft_bench import encoder
from ssft_bench.method import ViewBatch
from ssft_bench.tuning.batches import Packs, ViewBatches
from ssft_bench.tuning.learner import TuneLearner
from ssft_bench.tuning.run import listen
from ssft_bench.tuning.spec import resolve
from ssft_bench.upstream import Upstream, load_upstream
from ssft_bench.upstreams.score.correspondence import padded
from ssft_bench.upstreams.score.method import Score, ScoreOptions

Divergence = Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    """Time updates in turn and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--score-repo", type=Path, help="checkout of the authors' SCORE repository")
    parser.add_argument("--utterances", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    learner, teacher = build()
    batches = list(views(learner, given.utterances, given.repeats))
    gamma = learner.method.options.gamma
    plain = divergence(lambda x, y: Loops.apply(by_product(x, y), gamma))
    rivals: dict[str, Divergence | None] = {"ours": None, "plain loops, numba": plain}
    if given.score_repo:
        module = module_at(given.score_repo, "soft_dtw_cuda.py")
        rivals["SCORE's soft-DTW"] = divergence(module.SoftDTW(use_cuda=False, gamma=gamma))
    update(learner, teacher, batches[0], None)  # compile
    update(learner, teacher, batches[0], plain)
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for batch in batches:
        for name, rival in rivals.items():
            times[name].append(update(learner, teacher, batch, rival))
            print(f"{name}: {times[name][-1]:.2f} s", file=sys.stderr)
    print(table(times))
    print(
        f"\n{given.utterances} utterances an update, {len(batches)} updates; torch {torch.__version__}, "
        f"numba {numba.__version__}, {torch.get_num_threads()} threads, {platform.machine()}"
    )


def build() -> tuple[TuneLearner, Upstream]:
    """SCORE around a HuBERT Base with random weights, and its teacher."""
    from s3prl.upstream.hubert import hubert_model as h

    task = h.HubertPretrainingConfig(label_rate=50)
    config = h.HubertConfig(label_rate=50)
    torch.manual_seed(0)
    model = h.HubertModel(config, task, [range(504)])
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/hubert.pt"
        parts = {
            "task_cfg": vars(task),
            "model_cfg": vars(config),
            "model_weight": model.state_dict(),
        }
        torch.save({**parts, "dictionaries_symbols": [[str(i) for i in range(504)]]}, path)
        student, teacher = (load_upstream("hubert_local", {"ckpt": path}) for _ in range(2))
    learner = TuneLearner(student, Score(ScoreOptions(), student, 0), teacher)
    return learner.train(), teacher


def views(learner: TuneLearner, utterances: int, count: int) -> list[ViewBatch]:
    """The first updates' views of the embedded corpus."""
    spec = resolve(method="score", base="hubert_mini", sets=[f"data.batch_size={utterances}"])
    heard = listen(spec)
    packs = Packs(heard.seconds, spec.data, 1)
    batches = ViewBatches(heard.rows, packs, learner.method, total=count, workers=0)
    return list(itertools.islice(batches(0, 0, 1), count))


def update(
    learner: TuneLearner, teacher: Upstream, batch: ViewBatch, rival: Divergence | None
) -> float:
    """Seconds of forward and backward; `rival` is [1] of frames [1, N, D] and [1, M, D], None is ours."""
    learner.zero_grad()
    began = time.perf_counter()
    if rival is None:
        loss, _ = learner(batch, torch.Generator())
        loss.backward()
        return time.perf_counter() - began
    method = learner.method
    assert isinstance(method, Score)
    for student_view, teacher_view in zip(*batch.views, strict=True):
        x, _ = padded(encoder.features(learner.student, [student_view]), method.projection)
        with torch.no_grad():
            target = encoder.features(teacher, [teacher_view])
        y, _ = padded(target, method.projection)
        loss = rival(x, y).mean() / (x.shape[1] + y.shape[1])
        (loss / len(batch.ids)).backward()
    return time.perf_counter() - began


def table(times: dict[str, list[float]]) -> str:
    """Median seconds and ratios, Markdown."""
    lines = ["| update | s (smallest to largest) | times ours (smallest to largest) |"]
    lines.append("| --- | --- | --- |")
    for name, own in times.items():
        ratios = [t / ours for t, ours in zip(own, times["ours"], strict=True)]
        seconds = f"{statistics.median(own):.2f} ({min(own):.2f} to {max(own):.2f})"
        ratio = f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
        lines.append(f"| {name} | {seconds} | {'1' if name == 'ours' else ratio} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
