"""What a sweep of full size would take: a cost model fitted to runs of three sizes, checked on a fourth.

    python benchmarks/scaling.py -o results            # runs, fit, check, tables of docs/scaling.md

Runs: {asr, pr} x {weighted_sum, hconv} on hubert_mini and the embedded corpus, 40, 100 and 250 utterances
of training with as many updates; held back: 500 with 400 updates. One thread, one after the other.

The extrapolation counts multiply-adds of HuBERT Base and Large shapes and of SUPERB's heads, takes hours and
updates from the official corpora and recipes, and a core's rates from the fit. There was no GPU: its
rates are an assumption that stands in `GPU`, to be replaced by `fitted` runs of yours.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import torch

from ssft_bench import cost, registry, runner, spec
from ssft_bench.cell import Machine
from ssft_bench.hidden_states import HiddenStates, UpstreamSpec
from ssft_bench.interface import build_interface
from ssft_bench.results import ResultRecord
from ssft_bench.sweep.cost_model import Rates, Workload, fitted, update_seconds
from ssft_bench.sweep.workload import Workloads

SIZES = ((40, 40), (100, 100), (250, 250))
HELD_BACK = (500, 400)
CELLS = tuple(
    (task, interface) for task in ("asr", "pr") for interface in ("weighted_sum", "hconv")
)
GPU = Rates(upstream=10e12, top=5e12, update=0.006, utterance=0.0005)
"""Assumed for one data-centre GPU in bf16: nothing here was measured on one."""
SHAPES: dict[str, dict[str, Any]] = {
    "Base": {},
    "Large": {"encoder_layers": 24, "encoder_embed_dim": 1024, "encoder_ffn_embed_dim": 4096,
              "encoder_attention_heads": 16, "extractor_mode": "layer_norm", "layer_norm_first": True},
}  # fmt: skip
TRAIN, DEV, TEST = (28_539, 100.6), (2_703, 5.4), (2_620, 5.4)
"""LibriSpeech train-clean-100, dev-clean, test-clean: utterances, hours."""
DISK_GB_S, NETWORK_GB_S = 3.0, 1.0
"""Assumed: a local NVMe drive, and a shared file system's share of one node."""


def main() -> None:
    """Run what is missing, fit, check, extrapolate."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    seen = [
        measure(given.out, task, interface, *size) for size in SIZES for task, interface in CELLS
    ]
    rates = fitted(seen)
    print(f"rates of one core: {rates}\n")
    held = [measure(given.out, task, interface, *HELD_BACK) for task, interface in CELLS]
    print(check(rates, seen, "fitted"), check(rates, held, "held back"), sep="\n")
    print(extrapolation({"one core": rates, "one GPU (assumed)": GPU}))


def measure(out: Path, task: str, interface: str, utterances: int, updates: int) -> ResultRecord:
    """A run of that size; stored ones are not run again."""
    resolved = spec.resolve(
        upstream="hubert_mini", interface=interface, task=task,
        sets=[f"data.max_utterances={utterances}", f"train.steps={updates}",
              f"train.eval_every={max(1, updates // 2)}"],
    )  # fmt: skip
    return runner.run(resolved, out, machine=Machine("cpu")).record


def workload_of(record: ResultRecord) -> Workload:
    """What a finished run computed."""
    return Workloads().of(runner.ready(record.spec))


def check(rates: Rates, records: list[ResultRecord], title: str) -> str:
    """Predicted beside measured seconds."""
    lines = [f"{title}:\n", "| task | interface | utterances | updates | states, s | predicted | "
             "training, s | predicted | whole, s | predicted |", "|" + "---|" * 10]  # fmt: skip
    for record in records:
        found, own = rates.seconds(workload_of(record)), record.cost["seconds"]
        train = record.spec.train
        assert train is not None
        label, size = record.spec.interface_label, record.spec.data.max_utterances
        cells: list[Any] = [record.spec.task.name, label, size, train.steps]
        for part in ("hidden_states", "training"):
            cells += [f"{own[part]:.0f}", f"{found[part]:.0f}"]
        cells += [f"{sum(own.values()):.0f}", f"{sum(found.values()):.0f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def full_workloads(shape: str) -> tuple[dict[str, Workload], UpstreamSpec]:
    """ASR and PR through the weighted sum and hconv on LibriSpeech by SUPERB's recipes."""
    from ssft_bench.upstreams.pretraining.models import build_model

    task = {"label_rate": 50, "sample_rate": 16000, "normalize": True}
    shape_options = {"label_rate": 50, "extractor_mode": "default", **SHAPES[shape]}
    model = build_model("hubert", shape_options, task, 504, 0).eval()
    noise = cost.second_of_noise()[None]
    macs = cost.macs(lambda: model.extract_features(noise, mask=False), model)
    layers = SHAPES[shape].get("encoder_layers", 12) + 1
    dim = SHAPES[shape].get("encoder_embed_dim", 768)
    upstream = UpstreamSpec(shape, (dim,) * layers, (320,) * layers)
    found = {}
    for task, interface in CELLS:
        found[f"{task}, {interface}"] = _full(task, interface, upstream, macs)
    return found, upstream


def _full(task: str, interface: str, upstream: UpstreamSpec, macs: int) -> Workload:
    resolved = spec.resolve(upstream="fbank", interface=interface, task=task, suite="full")
    assert resolved.train is not None
    task_class = registry.load("tasks", task)
    made = task_class(task_class.Options.model_validate(resolved.task.options))
    on = build_interface(registry.load("interfaces", interface), upstream, {}, interface).eval()
    head = made.head(on.output_dim, on.output_stride).eval()
    states = [torch.randn(1, 50, dim) for dim in upstream.dims]
    hidden = HiddenStates(states, [torch.tensor([50])] * len(states))
    top = cost.macs_on_top(on, head, hidden)
    train = resolved.train
    return Workload(
        upstream_macs=macs, top_macs=top, hours=TRAIN[1] + DEV[1] + TEST[1], dev_hours=DEV[1],
        dev_utterances=DEV[0], updates=train.steps, evaluations=train.steps // train.eval_every,
        update_seconds=update_seconds(resolved.data.batch_size, None, 3600 * TRAIN[1] / TRAIN[0],
                                      train.accumulate),
    )  # fmt: skip


def extrapolation(machines: dict[str, Rates]) -> str:
    """Tables for Base and Large: hours by part, bytes, and what reading them from disk would take."""
    lines = []
    for shape in SHAPES:
        cells, upstream = full_workloads(shape)
        rate = sum(16_000 / s * d * 2 for s, d in zip(upstream.strides, upstream.dims, strict=True))
        total = next(iter(cells.values())).hours * 3600 * rate
        lines += [f"{shape}: {len(upstream.dims)} states of {upstream.dims[0]}, {total / 1e9:.0f} GB "
                  "in bf16 for LibriSpeech's three splits\n",
                  "| cell | machine | states once, h | training, h | states in every update, h | "
                  "read in training, TB | at 3 GB/s, h | at 1 GB/s, h |", "|" + "---|" * 8]  # fmt: skip
        for name, work in cells.items():
            heard = work.updates * work.update_seconds + work.evaluations * work.dev_hours * 3600
            read = heard * rate
            for machine, rates in machines.items():
                found = rates.seconds(work)
                again = heard * work.upstream_macs / rates.upstream
                hours = (found["hidden_states"], found["training"], again)
                told = [name, machine, *(f"{s / 3600:.1f}" for s in hours), f"{read / 1e12:.1f}"]
                told += [f"{read / rate / 3.6e12:.1f}" for rate in (DISK_GB_S, NETWORK_GB_S)]
                lines.append("| " + " | ".join(told) + " |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
