"""Twenty updates of s3prl's own runner on ASR and PR, and the same twenty of ours.

The corpus, the weights and the batches are the same: speech on the disk in LibriSpeech's layout, s3prl's
first weights copied into our head, the batches that s3prl's loaders drew. Dropout and SpecAugment are off,
because the two draw from different generators; each is compared with s3prl's in a test of its own. The
upstream looks at single frames: in s3prl a padded batch changes what convolutions see, here it does not.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from lightning_fabric import Fabric
from torch import Tensor

from ssft_bench.corpora.librispeech import LEXICA, LibriSpeech
from ssft_bench.downstream import Downstream
from ssft_bench.downstreams.asr.task import ASR, ASROptions
from ssft_bench.downstreams.pr.task import PR, PROptions
from ssft_bench.features import FrozenFeatures
from ssft_bench.interfaces.weighted_sum import WeightedSum
from ssft_bench.metric import Prediction
from ssft_bench.task import Task
from ssft_bench.training import Outcome, Trainer
from ssft_bench.training_spec import TrainSpec
from ssft_bench.upstream import Upstream
from tests.downstreams.s3prl_runs import (
    NoWorkers,
    Trace,
    asr_config,
    copy_asr_weights,
    pr_config,
    prepare,
    run_s3prl,
)
from tests.speech import write

pytestmark = pytest.mark.usefixtures("one_thread")

SEED = secrets.randbelow(2**31)
STEPS, EVERY, LR, SLOW = 20, 5, 0.02, 0.002
WORDS = {"A": "AH0", "CAT": "K AE1 T", "IT'S": "IH1 T S", "ZOO": "Z UW1", "BOOK": "B UH1 K"}


class Spectrum(torch.nn.Module):
    """Three hidden states of 12, each frame of 320 samples by itself."""

    def __init__(self, **_: Any) -> None:
        super().__init__()
        self.weights = torch.nn.Parameter(
            torch.randn(3, 160, 12, generator=torch.Generator().manual_seed(7)) / 12
        )

    def get_downsample_rates(self, key: str) -> int:
        return 320

    def forward(self, waves: list[Tensor]) -> dict[str, list[Tensor]]:
        padded = torch.nn.utils.rnn.pad_sequence(list(waves), batch_first=True)
        power = torch.fft.rfft(padded.unflatten(1, (-1, 320))).abs()[..., :160].log1p()
        return {"hidden_states": [(power @ w).tanh() for w in self.weights]}


@pytest.fixture(scope="module")
def libri(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 training and 6 dev utterances of words that are tones."""
    root, draw = tmp_path_factory.mktemp("libri"), np.random.default_rng(SEED)
    for chapter, subset, count in (("1", "train-clean-100", 40), ("2", "dev-clean", 6)):
        folder = root / "LibriSpeech" / subset / "19" / chapter
        lines = []
        for number in range(count):
            words = draw.choice(list(WORDS), draw.integers(1, 5)).tolist()
            hertz = np.repeat([300 * (1 + "ABCIKOSTUZ'".find(c)) for c in " ".join(words)], 960)
            wave = 0.3 * np.sin(np.cumsum(2 * np.pi * hertz / 16000))
            name = f"19-{chapter}-{number:04d}"
            write(folder / f"{name}.flac", wave + 0.01 * draw.standard_normal(len(wave)))
            lines.append(f"{name} {' '.join(words)}\n")
        (folder / f"19-{chapter}.trans.txt").write_text("".join(lines))
        table = [f"{f.relative_to(root / 'LibriSpeech')},{soundfile.info(f).frames}\n"
                 for f in sorted(folder.glob("*.flac"))]  # fmt: skip
        (root / "lengths").mkdir(exist_ok=True)
        (root / "lengths" / f"{subset}.csv").write_text("file_path,length\n" + "".join(table))
    entries = [f"{word} {phones}\n" for word, phones in WORDS.items()]
    (root / LEXICA[0]).write_text("".join(entries[:3]))
    (root / LEXICA[1]).write_text("".join(entries[3:]) + "CAT T\n")
    return root


@pytest.fixture
def s3prl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Trace]:
    """Runs of s3prl's in one folder."""
    prepare(monkeypatch, Spectrum)
    return partial(run_s3prl, folder=tmp_path, seed=SEED)


def settings(lr: float, accumulate: int, dev: str, steps: int = STEPS) -> dict[str, Any]:
    """s3prl's configuration of the runner and the optimiser."""
    return {
        "runner": {
            "total_steps": steps, "gradient_clipping": 1, "gradient_accumulate_steps": accumulate,
            "log_step": 1000, "eval_step": EVERY if steps == STEPS else 1000, "save_step": 1000,
            "max_keep": 1, "eval_dataloaders": [dev],
        },
        "optimizer": {"name": "TorchOptim", "torch_optim_name": "Adam", "lr": lr},
    }  # fmt: skip


def asr_runs(s3prl: Callable[..., Trace], libri: Path, folder: Path) -> tuple[Trace, Trace]:
    """150 updates, and then 20 with evaluations: by then there are words to score."""
    expert = asr_config(folder)
    expert["datarc"] |= {
        "train": ["train-clean-100"], "dev-clean": ["dev-clean"], "num_workers": 0,
        "batch_size": 8, "eval_batch_size": 1, "libri_root": str(libri / "LibriSpeech"),
        "bucket_file": str(libri / "lengths"),
    }  # fmt: skip
    expert["modelrc"]["project_dim"] = 24
    expert["modelrc"]["RNNs"] |= {"dropout": [0.0, 0.0], "dim": [24, 24]}
    own = {"downstream_expert": expert}
    first = s3prl("asr", settings(LR, 1, "dev-clean", 150) | own)
    first.end["Downstream"]["best_score"].fill_(100)
    return first, s3prl("asr", settings(SLOW, 1, "dev-clean") | own, start=first)


def pr_run(s3prl: Callable[..., Trace], libri: Path, folder: Path) -> Trace:
    expert = pr_config(folder)
    expert["corpus"] = NoWorkers(
        name="libriphone", path=str(libri / "LibriSpeech"), batch_size=16, bucketing=True,
        lexicon=[str(libri / name) for name in LEXICA],
        train=["train-clean-100"], dev=["dev-clean"],
    )  # fmt: skip
    return s3prl("ctc", settings(LR, 2, "dev") | {"downstream_expert": expert})


def ours(
    task: Task,
    copy: Callable[..., None],
    trace: Trace,
    libri: Path,
    folder: Path,
    **train: Any,
) -> tuple[list[dict[str, float]], Outcome, Downstream]:
    """Log lines, outcome and learner of our loop on s3prl's batches."""
    corpus = LibriSpeech(libri)
    rows = {split: corpus.utterances(split) for split in ("train", "dev")}
    task.prepare(rows)
    by_id = {row.id: row for row in rows["train"]}
    upstream = Upstream("spectrum", Spectrum())
    features = FrozenFeatures(upstream, range(3), torch.device("cpu"), 1.0)
    interface = WeightedSum(upstream.spec)
    interface.load_state_dict(trace.start["Featurizer"])
    head = task.head(interface.output_dim, interface.output_stride)
    copy(trace.start["Downstream"], head)
    learner = Downstream(interface, head, task)

    def batches(first: int, rank: int, world: int) -> Iterator[Any]:
        for names in trace.batches[first:]:
            batch = [by_id[name] for name in names]
            yield features.batch(batch, [task.encode(row) for row in batch])

    def evaluate() -> dict[str, float]:
        metric, found = task.primary(), rows["dev"]
        with torch.no_grad():
            decoded = task.decode(*learner.logits(features.batch(found, [])))
        pairs = [
            Prediction(u.id, task.reference(u), h) for u, h in zip(found, decoded, strict=True)
        ]
        return {metric.name: float(metric.combine(sum(map(metric.counts, pairs))))}  # type: ignore[arg-type]

    spec = TrainSpec.model_validate(
        {"steps": STEPS, "eval_every": EVERY, "log_every": 1, "optimizer": {"lr": LR}} | train
    )
    trainer = Trainer(
        learner, batches, spec, folder, seed=3, fabric=Fabric(accelerator="cpu"),
        evaluate=evaluate, select=task.primary().name,
    )  # fmt: skip
    outcome = trainer.run()
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [line for line in lines if "loss" in line], outcome, learner


def gap(log: list[dict[str, float]], trace: Trace, accumulate: int = 1) -> float:
    """Largest difference of the two loss curves."""
    theirs = np.reshape(trace.losses[: STEPS * accumulate], (STEPS, accumulate)).mean(1)
    return float(np.abs(np.array([line["loss"] for line in log]) - theirs).max())


def copy_pr_weights(state: dict[str, Tensor], head: Any) -> None:
    """State of s3prl's expert into our head."""
    for mine, other in (("project", "projector"), ("output", "model.linear")):
        kept = {k: state[f"{other}.{k}"] for k in ("weight", "bias")}
        getattr(head, mine).load_state_dict(kept)


def same_weights(learner: Downstream, task: Task, copy: Callable[..., None], trace: Trace) -> None:
    """Head and layer weights after the last update, which moved them."""
    final = task.head(12)
    copy(trace.end["Downstream"], final)
    pairs = dict(learner.head.state_dict()), dict(final.state_dict())
    mix = trace.end["Featurizer"]["weights"]
    torch.testing.assert_close(*pairs, atol=1e-3, rtol=0)
    torch.testing.assert_close(learner.interface.weights.data, mix, atol=1e-3, rtol=0)
    assert not torch.equal(mix, trace.start["Featurizer"]["weights"])


def same_selection(outcome: Outcome, metric: str, theirs: dict[int, float], best: int) -> None:
    """Every evaluation, and the step that is kept: the first of the best ones."""
    found = {int(row["step"]): row[f"dev_{metric}"] for row in outcome.curve}
    assert found == pytest.approx(theirs, abs=1e-4)
    if min(theirs.values()) < 100:  # s3prl's ASR keeps nothing that is no better
        assert outcome.best_step == best


def test_asr_trains_as_s3prls(s3prl: Callable[..., Trace], libri: Path, tmp_path: Path) -> None:
    first, second = asr_runs(s3prl, libri, tmp_path)
    task = ASR(ASROptions(project_dim=24, hidden_dim=24, dropout=0, specaugment=None))

    def train(trace: Trace, folder: str, **changes: Any) -> Any:
        return ours(task, copy_asr_weights, trace, libri, tmp_path / folder, **changes)

    log, _, _ = train(first, "first")
    assert gap(log, first) < 1e-4, f"seed {SEED}"
    assert max(line["grad_norm"] for line in log) > 1  # clipping does something
    log, outcome, learner = train(second, "second", optimizer={"lr": SLOW})
    assert gap(log, second) < 1e-4, f"seed {SEED}"
    same_selection(outcome, "wer", second.scalars["asr/dev-clean-wer"], second.best_step)
    same_weights(learner, task, copy_asr_weights, second)
    # Negative controls.
    assert gap(train(first, "unclipped", clip=None)[0], first) > 1e-3
    assert gap(train(first, "eps", optimizer={"lr": LR, "eps": 1e-3})[0], first) > 1e-3


def test_pr_trains_as_s3prls(s3prl: Callable[..., Trace], libri: Path, tmp_path: Path) -> None:
    trace = pr_run(s3prl, libri, tmp_path)
    task = PR(PROptions(project_dim=8), "superb71")

    def train(folder: str, **changes: Any) -> Any:
        options = {"accumulate": 2} | changes
        return ours(task, copy_pr_weights, trace, libri, tmp_path / folder, **options)

    log, outcome, learner = train("ours")
    assert gap(log, trace, 2) < 1e-4, f"seed {SEED}"
    assert log[-1]["loss"] < log[0]["loss"]
    assert max(line["grad_norm"] for line in log) > 1
    per = trace.scalars["ctc-libriphone/dev-per"]
    same_selection(outcome, "per", {k: 100 * v for k, v in per.items()}, trace.best_step)
    same_weights(learner, task, copy_pr_weights, trace)
    # Negative controls.
    assert gap(train("unclipped", clip=None)[0], trace, 2) > 1e-3
    assert gap(train("one", accumulate=1)[0], trace, 2) > 1e-3
