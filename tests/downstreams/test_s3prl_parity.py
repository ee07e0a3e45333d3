"""Our tasks against s3prl's experts with the same weights: logits, loss, hypotheses, vocabulary."""

from __future__ import annotations

import math
import secrets
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.downstreams.asr.task import ASR, SYMBOLS, ASROptions
from ssft_bench.downstreams.pr.task import PHONE_SETS, PR, PROptions
from ssft_bench.language_model import LanguageModelSpec
from ssft_bench.ngram import estimate
from tests.downstreams.s3prl_runs import (
    asr_config,
    copy_asr_weights,
    pr_config,
    without_editdistance,
)

SEEDS = [1, secrets.randbelow(2**31)]
LENGTHS = [31, 40, 17]
TEXTS = ["IT'S A CAT", "QUIZ", "AN OX"]


@pytest.fixture
def experts(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """s3prl's asr and ctc experts."""
    without_editdistance(monkeypatch)
    from s3prl.downstream.asr import expert as asr
    from s3prl.downstream.ctc import expert as ctc

    return asr, ctc


def padded(features: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    batch = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
    return batch, torch.tensor([len(f) for f in features])


@pytest.mark.parametrize("seed", SEEDS)
def test_asr(experts: tuple[Any, Any], tmp_path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    expert = experts[0].DownstreamExpert(12, 320, asr_config(tmp_path), str(tmp_path)).eval()
    task = ASR(ASROptions(project_dim=8, hidden_dim=7))
    assert tuple(expert.dictionary.symbols) == SYMBOLS
    head = task.head(12).eval()
    copy_asr_weights(expert.state_dict(), head)
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
    expert = experts[1].DownstreamExpert(12, 320, pr_config(tmp_path), str(tmp_path)).eval()
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


@pytest.mark.parametrize("seed", SEEDS)
def test_decoding_with_an_n_gram(experts: tuple[Any, Any], tmp_path: Path, seed: int) -> None:
    """s3prl's own decoder with the weights of its configuration, words by words."""
    pytest.importorskip(
        "flashlight.lib.text.decoder.kenlm", reason="the decoder: pip install 'ssft-bench[lm]'"
    )
    rng = torch.Generator().manual_seed(seed)
    words = ["IT'S", "A", "CAT", "ACT", "AT", "ITS", "SIT"]
    text = [[words[i] for i in torch.randint(7, (n,), generator=rng)] for n in (2, 3, 4) * 9]
    estimate(text, 3).write(tmp_path / "lm.arpa")
    (tmp_path / "lexicon.lst").write_text("".join(f"{w}\t{' '.join(w)} |\n" for w in words))
    config = asr_config(tmp_path)
    config["datarc"]["decoder_args"] = {
        "decoder_type": "kenlm", "nbest": 1, "criterion": "ctc", "beam": 5, "beam_threshold": 25,
        "kenlm_model": str(tmp_path / "lm.arpa"), "lexicon": str(tmp_path / "lexicon.lst"),
        "lm_weight": 2, "word_score": -1, "unk_weight": -math.inf, "sil_weight": 0,
    }  # fmt: skip
    expert = experts[0].DownstreamExpert(12, 320, config, str(tmp_path)).eval()

    lines = [" ".join(words[i] for i in torch.randint(7, (3,), generator=rng)) for _ in range(20)]
    task = ASR(ASROptions())
    utterances = [Utterance(t, Path(), "train", text=t) for t in lines]
    # Each label lasts two frames, a blank between them; noise makes about every second line wrong.
    paths = [
        [x for label in task.encode(u).tolist() for x in (label, label, 0)] for u in utterances
    ]
    logits, lengths = padded([3.5 * torch.eye(32)[p] for p in paths])
    logits += 1.2 * torch.randn(logits.shape, generator=rng)
    theirs = [" ".join(w) for w in expert._decode(logits.log_softmax(-1), lengths.tolist())[1]]

    spec = LanguageModelSpec(path=str(tmp_path / "lm.arpa"))  # its defaults are SUPERB's
    assert task.beam_search(spec, utterances)(logits, lengths) == theirs
    assert task.decode(logits, lengths) != theirs  # negative control: greedy
    own = spec.model_copy(update={"lm_weight": 0.0, "word_score": 4.0})
    assert task.beam_search(own, utterances)(logits, lengths) != theirs


def test_phone_list_is_s3prls() -> None:
    """Independent of how the module builds it: the ends and neighbours of s3prl's phoneme.txt."""
    symbols = PHONE_SETS["superb71"]
    assert symbols[:6] == ("SIL", "SPN", "AA0", "AA1", "AA2", "AE0")
    assert symbols[19:25] == ("AY2", "B", "CH", "D", "DH", "EH0")
    assert symbols[-6:] == ("UW2", "V", "W", "Y", "Z", "ZH")
    assert len(symbols) == len(set(symbols)) == 71
    assert len(PHONE_SETS["arpabet39"]) == len(set(PHONE_SETS["arpabet39"])) == 39
    assert {s.rstrip("012") for s in symbols[2:]} == set(PHONE_SETS["arpabet39"])
