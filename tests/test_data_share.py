"""Low-resource runs: a fixed share of the training labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssft_bench import spec
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.data import prepare, share
from ssft_bench.spec import DataSpec


def test_shares_are_fixed_nested_and_in_order() -> None:
    rows = [Utterance(f"u{i}", Path("x"), "train") for i in range(300)]
    one, ten = share(rows, 0.01), share(rows, 0.1)
    assert (len(one), len(ten)) == (3, 30)
    assert set(one) < set(ten)
    assert ten == sorted(ten, key=rows.index)
    assert share(rows, 0.1) == ten
    assert ten != rows[:30]
    assert share(rows, 1.0) == rows
    assert len(share(rows, 1e-6)) == 1


def test_only_training_is_cut_and_the_signature_knows() -> None:
    data = prepare(DataSpec(corpus="mini", train_share=0.1), "pr")
    assert len(data.splits["train"]) == 53
    assert len(data.splits["dev"]) == 109
    arguments = {"upstream": "fbank", "interface": "last", "task": "pr"}
    whole = spec.resolve(**arguments)  # type: ignore[arg-type]
    tenth = spec.resolve(**arguments, sets=["data.train_share=0.1"])  # type: ignore[arg-type]
    assert spec.signature(whole, {}) != spec.signature(tenth, {})
    with pytest.raises(Exception, match=r"data\.train_share"):
        spec.resolve(**arguments, sets=["data.train_share=0"])  # type: ignore[arg-type]
