"""What a recipe may say of fine-tuning, and what it may not."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ssft_bench.finetuning.spec import FineTuneSpec, parse_trainable


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("all", "all"),
        ("top:3", "top:3"),
        ("lora:r=8", "lora:r=8,alpha=16,targets=q+v"),
        ("lora:r=4,alpha=4", "lora:r=4,alpha=4,targets=q+v"),
        ("lora:targets=v+q,alpha=0.5,r=2", "lora:r=2,alpha=0.5,targets=q+v"),
        ("lora:r=1,targets=fc2+out+k", "lora:r=1,alpha=2,targets=k+out+fc2"),
        ("adapter:32", "adapter:32"),
    ],
)
def test_ways_to_write_it(text: str, label: str) -> None:
    """Two ways to write the same are one value, so they get one signature."""
    assert FineTuneSpec(trainable=text).trainable == label
    assert parse_trainable(label).label == label


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not all, top:K"),
        ("none", "is not all, top:K"),
        ("all:3", "is not all, top:K"),
        ("top", "is not all, top:K"),
        ("top:0", "is not all, top:K"),
        ("top:-1", "is not all, top:K"),
        ("adapter:3.5", "is not all, top:K"),
        ("lora", "needs a rank|lora takes"),
        ("lora:8", "lora takes r=RANK"),
        ("lora:r=0", "needs a rank"),
        ("lora:alpha=3", "needs a rank"),
        ("lora:r=8,r=4", "each once"),
        ("lora:r=8,alpha=-1", "alpha is a number above 0"),
        ("lora:r=8,alpha=nan", "alpha is a number above 0"),
        ("lora:r=8,targets=q+x", r"targets are some of q\+k\+v"),
        ("lora:r=8,targets=q+q", "each once"),
        ("lora:r=8,dropout=0.1", "lora takes r=RANK"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        FineTuneSpec(trainable=text)


def test_contradictions() -> None:
    with pytest.raises(ValidationError, match="train_convolutions goes with trainable=all"):
        FineTuneSpec(trainable="top:2", train_convolutions=True)
    with pytest.raises(ValidationError, match="extra"):
        FineTuneSpec.model_validate({"mask_prob": 0.5})
    assert FineTuneSpec(train_convolutions=True).train_convolutions
