"""s3prl's downstream experts and its runner, in this process and watched."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import soundfile
import torch
from torch import Tensor

from ssft_bench.downstreams.pr.task import PHONE_SETS

# The letters of s3prl's char.dict, in its order; the package does not ship the file.
CHAR_DICT = list("|ETAONIHSRDLUMCWFGYPBVK'XJQZ")


def without_editdistance(monkeypatch: pytest.MonkeyPatch) -> None:
    """s3prl's experts ask for editdistance, which is not installed: another one in its place."""
    from rapidfuzz.distance import Levenshtein

    stub = ModuleType("editdistance")
    stub.eval = Levenshtein.distance  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "editdistance", stub)


def asr_config(folder: Path) -> dict[str, Any]:
    (folder / "char.dict").write_text("".join(f"{c} {99 - i}\n" for i, c in enumerate(CHAR_DICT)))
    rnns = {"total_rate": -1, "module": "LSTM", "bidirection": True, "dim": [7, 7],
            "dropout": [0.2, 0.2], "layer_norm": [False, False], "proj": [False, False],
            "sample_rate": [1, 1], "sample_style": "concat"}  # fmt: skip
    return {
        "datarc": {
            "dict_path": str(folder / "char.dict"),
            "zero_infinity": True,
            "decoder_args": {"decoder_type": "None"},
        },
        "modelrc": {"project_dim": 8, "select": "RNNs", "RNNs": rnns},
    }


def pr_config(folder: Path) -> dict[str, Any]:
    (folder / "phoneme.txt").write_text("\n".join(PHONE_SETS["superb71"]))
    return {
        "corpus": {"name": "libriphone"},
        "text": {"mode": "word", "vocab_file": str(folder / "phoneme.txt")},
        "model": {"project_dim": 8, "zero_infinity": True, "select": "FrameLevel"},
        "metric": ["per"],
        "metric_higher_better": False,
    }


def copy_asr_weights(expert: Mapping[str, torch.Tensor], head: Any) -> None:
    """State of s3prl's expert into our head."""

    def part(prefix: str) -> dict[str, torch.Tensor]:
        return {k.removeprefix(prefix): v for k, v in expert.items() if k.startswith(prefix)}

    head.project.load_state_dict(part("projector."))
    head.output.load_state_dict(part("model.linear."))
    for i in range(len(head.forwards)):
        state = part(f"model.rnns.{i}.layer.")
        back = {k.removesuffix("_reverse"): v for k, v in state.items() if k.endswith("_reverse")}
        ahead = {k: v for k, v in state.items() if not k.endswith("_reverse")}
        head.forwards[i].load_state_dict(ahead)
        head.backwards[i].load_state_dict(back)


@dataclass
class Trace:
    """What a run of s3prl's leaves behind."""

    start: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """State of `Downstream` and `Featurizer` before the first update."""
    end: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    batches: list[list[str]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    scalars: dict[str, dict[int, float]] = field(default_factory=dict)
    best_step: int = 0


class Words2Phones(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """The rules of s3prl's LibriPhoneDataset, which its package lacks (specification: most phones
    first; each index starts a bucket of its own)."""

    def __init__(
        self, split: list[str], tokenizer: Any, bucket_size: int, path: str, lexicon: Any, **_: Any
    ) -> None:
        says: dict[str, str] = {}
        for line in "".join(Path(file).read_text() for file in lexicon).splitlines():
            word, _, phones = line.partition(" ")
            says.setdefault(word, phones)
        rows = []
        for trans in Path(path, split[0]).rglob("*.trans.txt"):
            for line in trans.read_text().splitlines():
                name, *words = line.split()
                phones = " ".join(says[w] for w in words)
                rows.append((trans.with_name(f"{name}.flac"), tokenizer.encode(phones)))
        self.rows = sorted(rows, key=lambda row: -len(row[1]))
        self.bucket = bucket_size

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        if self.bucket == 1:
            return self.rows[index]
        first = min(len(self.rows) - self.bucket, index)
        return self.rows[first : first + self.bucket]


class NoWorkers(dict[str, Any]):
    """s3prl pops `num_workers` from its configuration and takes 12 the second time."""

    def pop(self, key: str, *default: Any) -> Any:
        return 0 if key == "num_workers" else super().pop(key, *default)


def states(runner: Any) -> dict[str, dict[str, Tensor]]:
    parts = {"Downstream": runner.downstream.model, "Featurizer": runner.featurizer.model}
    return {
        name: {k: v.clone() for k, v in part.state_dict().items()} for name, part in parts.items()
    }


def read_flac(path: str) -> tuple[Tensor, int]:
    """torchaudio.load, which asks for torchcodec now."""
    wave, rate = soundfile.read(path, dtype="float32")
    return torch.from_numpy(wave)[None], rate


class Writer:
    """SummaryWriter's place: scalars by tag and step."""

    def __init__(self, scalars: dict[str, dict[int, float]]) -> None:
        self.scalars = scalars

    def add_scalar(self, tag: str, value: Any, global_step: int) -> None:
        self.scalars.setdefault(tag, {})[global_step] = float(value)

    def close(self) -> None: ...


def prepare(monkeypatch: pytest.MonkeyPatch, upstream: Callable[..., Any]) -> None:
    """Let s3prl's runner and its loaders of ASR and PR work; `-u toy` is `upstream`."""
    without_editdistance(monkeypatch)
    import s3prl.hub
    import torchaudio

    dataset = ModuleType("s3prl.downstream.ctc.corpus.libriphone")
    dataset.LibriPhoneDataset = Words2Phones  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "s3prl.downstream.ctc.corpus", ModuleType("corpus"))
    monkeypatch.setitem(sys.modules, dataset.__name__, dataset)
    monkeypatch.setattr(torchaudio, "load", read_flac)
    monkeypatch.setattr(s3prl.hub, "toy", upstream, raising=False)


def run_s3prl(
    name: str, config: dict[str, Any], folder: Path, seed: int, start: Trace | None = None
) -> Trace:
    """`-m train -d name` on the upstream `toy`; with `start`, from where that run ended (`-i`)."""
    from ssft_bench.s3prl_runner import use_in_s3prl

    with use_in_s3prl("last"):  # makes it importable
        from s3prl.downstream import runner
    trace = Trace()
    arguments = dict.fromkeys((
        "upstream_ckpt", "upstream_model_config", "upstream_refresh", "upstream_trainable",
        "upstream_layer_selection", "upstream_feature_normalize", "push_to_hf_hub",
    ))  # fmt: skip
    arguments |= {
        "upstream": "toy", "upstream_feature_selection": "hidden_states", "device": "cpu",
        "downstream": name, "expdir": str(folder), "seed": 1,
        "init_ckpt": str(folder / "start.ckpt") if start else None,
    }  # fmt: skip
    if start is not None:
        torch.save(start.end, folder / "start.ckpt")
    torch.manual_seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "SummaryWriter", lambda _: Writer(trace.scalars))
        one = runner.Runner(Namespace(**arguments), config)
        trace.start = states(one)
        with watched(type(one.downstream.model), trace):
            one.train()
    trace.end = states(one)
    for file in folder.glob("dev*-best.ckpt"):
        trace.best_step = torch.load(file, weights_only=False)["Step"]
    return trace


@contextmanager
def watched(expert: Any, trace: Trace) -> Iterator[None]:
    """Losses and utterances of its training batches are kept."""
    forward = expert.forward

    def watching(self: Any, split: str, features: Any, labels: Any, names: Any, records: Any,
                 **kwargs: Any) -> Tensor:  # fmt: skip
        loss: Tensor = forward(self, split, features, labels, names, records=records, **kwargs)
        if split == "train":
            trace.batches.append(list(names))
            trace.losses.append(loss.item())
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(expert, "forward", watching)
        yield
