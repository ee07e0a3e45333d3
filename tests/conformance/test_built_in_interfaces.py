"""Every built-in interface keeps the contract, also with options that change what it does."""

from __future__ import annotations

import pytest

from ssft_bench import registry
from ssft_bench.conformance.checks import CHECKS, check_interface
from ssft_bench.conformance.report import Report, Status

FAST = ("weighted_sum", "hconv", "cls_pool", "mhfa", "pca_concat")
WITH_OPTIONS = (
    "grouped_weighted_sum:groups=3",
    "hconv:kernel=3,stride=2",
    "mhfa:window=9",
    "gumbel:project=true",
    "weighted_sum:normalize=true",
    "layer:index=20",
)
SLOW = [
    p.name
    for p in registry.plugins("interfaces")
    if p.origin == "built-in" and p.name not in FAST
]  # fmt: skip


def keeps_the_contract(text: str) -> Report:
    report = check_interface(text)
    failed = [f"{c.name}: {c.detail}" for c in report.checks if c.status is Status.failed]
    assert not failed
    assert len(report.checks) == len(CHECKS) * (2 if text == "mhfa" else 1)
    return report


def numbers(report: Report) -> dict[str, float]:
    (found,) = (c.numbers for c in report.checks if c.name == "memory")
    return dict(found)


@pytest.mark.parametrize("name", FAST)
def test_keeps_the_contract(name: str) -> None:
    report = keeps_the_contract(name)
    skipped = {c.name for c in report.checks if c.status is Status.skipped}
    assert {skip.partition(" ")[0] for skip in skipped} <= {"fit"}


@pytest.mark.slow
@pytest.mark.parametrize("text", [*SLOW, *WITH_OPTIONS])
def test_the_others_keep_it_too(text: str) -> None:
    keeps_the_contract(text)


def test_memory_is_what_the_kernels_promise() -> None:
    """A weighted sum of 13 layers: the features and their gradient; and each state's, fine-tuned."""
    plain = numbers(keeps_the_contract("weighted_sum"))
    assert plain["kept"] == pytest.approx(0, abs=0.001)
    assert plain["peak_frozen"] == pytest.approx(2 / 13, abs=0.02)
    assert plain["peak_tuned"] == pytest.approx(1 + 2 / 13, abs=0.02)
