"""Our tasks against s3prl's experts with the same weights: logits, loss, hypotheses, vocabulary."""

from __future__ import annotations

import secrets
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.downstreams.asr.task import ASR, SYMBOLS, ASROptions
from ssft_bench.downstreams.pr.task import PHONE_SETS, PR, PROptions

SEEDS = [1, secrets.randbelow(2**31)]
LENGTHS = [31, 40, 17]
TEXTS = ["IT'S A CAT", "QUIZ", "AN OX"]
# The letters of s3prl's char.dict, in its order; the package does not ship the file.
CHAR_DICT = list("|ETAONIHSRDLUMCWFGYPBVK'XJQZ")


@pytest.fixture
def experts(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """s3prl's asr and ctc experts; they ask for editdistance, which is not installed."""
    from rapidfuzz.distance import Levenshtein

    stub = ModuleType("editdistance")
    stub.eval = Levenshtein.distance  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "editdistance", stub)
    from s3prl.downstream.asr import expert as asr
    from s3prl.downstream.ctc import expert as ctc

    return asr, ctc


def asr_expert(module: Any, folder: Path, dim: int) -> Any:
    (folder / "char.dict").write_text("".join(f"{c} {99 - i}\n" for i, c in enumerate(CHAR_DICT)))
    rnns = {"total_rate": -1, "module": "LSTM", "bidirection": True, "dim": [7, 7],
            "dropout": [0.2, 0.2], "layer_norm": [False, False], "proj": [False, False],
            "sample_rate": [1, 1], "sample_style": "concat"}  # fmt: skip
    config = {
        "datarc": {
            "dict_path": str(folder / "char.dict"),
            "zero_infinity": True,
            "decoder_args": {"decoder_type": "None"},
        },
        "modelrc": {"project_dim": 8, "select": "RNNs", "RNNs": rnns},
    }
    return module.DownstreamExpert(dim, 320, config, str(folder))


def pr_expert(module: Any, folder: Path, dim: int) -> Any:
    (folder / "phoneme.txt").write_text("\n".join(PHONE_SETS["superb71"]))
    config = {
        "corpus": {"name": "libriphone"},
        "text": {"mode": "word", "vocab_file": str(folder / "phoneme.txt")},
        "model": {"project_dim": 8, "zero_infinity": True, "select": "FrameLevel"},
        "metric": ["per"],
        "metric_higher_better": False,
    }
    return module.DownstreamExpert(dim, 320, config, str(folder))


def copy_asr_weights(expert: Any, head: Any) -> None:
    head.project.load_state_dict(expert.projector.state_dict())
    head.output.load_state_dict(expert.model.linear.state_dict())
    for i, rnn in enumerate(expert.model.rnns):
        state = rnn.layer.state_dict()
        back = {k.removesuffix("_reverse"): v for k, v in state.items() if k.endswith("_reverse")}
        ahead = {k: v for k, v in state.items() if not k.endswith("_reverse")}
        head.forwards[i].load_state_dict(ahead)
        head.backwards[i].load_state_dict(back)


def padded(features: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    batch = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
    return batch, torch.tensor([len(f) for f in features])


@pytest.mark.parametrize("seed", SEEDS)
def test_asr(experts: tuple[Any, Any], tmp_path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    expert = asr_expert(experts[0], tmp_path, dim=12).eval()
    task = ASR(ASROptions(project_dim=8, hidden_dim=7))
    assert tuple(expert.dictionary.symbols) == SYMBOLS
    head = task.head(12).eval()
    copy_asr_weights(expert, head)
    features = [5 * torch.randn(n, 12) for n in LENGTHS]
    utterances = [Utterance(t, Path(), "train", text=t) for t in TEXTS]
    targets = [task.encode(u) for u in utterances]
    lines = [" ".join(t.replace(" ", "|")) + " |" for t in TEXTS]
    labels = [expert.dictionary.encode_line(x, line_tokenizer=str.split).long() for x in lines]
    for ours, theirs in zip(targets, labels, strict=True):
        assert torch.equal(ours, theirs)

    records: Any = defaultdict(list)
    with torch.no_grad():
        logits, lengths = head(*padded(features))
        theirs_logits, _ = expert._get_log_probs(features)
        loss = expert("train", features, [x.numpy() for x in labels], [], records)
    for row, other, n in zip(logits.log_softmax(-1), theirs_logits, LENGTHS, strict=True):
        torch.testing.assert_close(row[:n], other[:n], atol=1e-5, rtol=0)
    torch.testing.assert_close(task.loss(logits, lengths, targets), loss, atol=1e-5, rtol=1e-5)
    words = [" ".join(w) for w in records["pred_words"]]
    assert task.decode(logits, lengths) == [" ".join(w.split()) for w in words]
    assert [" ".join(w) for w in records["target_words"]] == TEXTS


@pytest.mark.parametrize("seed", SEEDS)
def test_pr(experts: tuple[Any, Any], tmp_path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    expert = pr_expert(experts[1], tmp_path, dim=12).eval()
    task = PR(PROptions(project_dim=8), "superb71")
    assert tuple(expert.tokenizer._vocab_list) == task.symbols
    head = task.head(12).eval()
    head.project.load_state_dict(expert.projector.state_dict())
    head.output.load_state_dict(expert.model.linear.state_dict())
    drawn = [torch.randint(0, 71, (n // 3,)).tolist() for n in LENGTHS]
    spoken = [tuple(PHONE_SETS["superb71"][i] for i in row) for row in drawn]
    utterances = [Utterance("u", Path(), "train", phones=p) for p in spoken]
    targets = [task.encode(u) for u in utterances]
    labels = [expert.tokenizer.encode(task.reference(u)) for u in utterances]
    assert [t.tolist() for t in targets] == labels

    # s3prl's decoding reads padding too (it evaluates one at a time), so lengths are equal here.
    features = [5 * torch.randn(LENGTHS[1], 12) for _ in LENGTHS]
    records: Any = defaultdict(list)
    with torch.no_grad():
        logits, lengths = head(*padded(features))
        loss = expert("train", features, labels, [], records)
    torch.testing.assert_close(task.loss(logits, lengths, targets), loss, atol=1e-5, rtol=1e-5)
    assert task.decode(logits, lengths) == records["hypothesis"]
    assert [task.reference(u) for u in utterances] == records["groundtruth"]


def test_phone_list_is_s3prls() -> None:
    """Independent of how the module builds it: the ends and neighbours of s3prl's phoneme.txt."""
    symbols = PHONE_SETS["superb71"]
    assert symbols[:6] == ("SIL", "SPN", "AA0", "AA1", "AA2", "AE0")
    assert symbols[19:25] == ("AY2", "B", "CH", "D", "DH", "EH0")
    assert symbols[-6:] == ("UW2", "V", "W", "Y", "Z", "ZH")
    assert len(symbols) == len(set(symbols)) == 71
    assert len(PHONE_SETS["arpabet39"]) == len(set(PHONE_SETS["arpabet39"])) == 39
    assert {s.rstrip("012") for s in symbols[2:]} == set(PHONE_SETS["arpabet39"])
