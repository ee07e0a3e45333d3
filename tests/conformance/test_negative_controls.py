"""Every check fails for the interface that makes its mistake, and for that one alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ssft_bench.conformance import checks
from ssft_bench.conformance.report import Status
from tests.conformance import wrong_interfaces as wrong

MISTAKES = [
    (wrong.Miscounts, "parameters", "expected_parameters says 3"),
    (wrong.ForgetsTheProjections, "parameters", "an uneven upstream"),
    (wrong.WrongWidth, "output size", "96 wide, output_dim says 64"),
    (wrong.HalvesTime, "output size", "9 frames of 320 samples became 5"),
    (wrong.ReadsPadding, "padding", "1000 in its padding"),
    (wrong.MultipliesByTheMask, "padding", "not zero (nan) with nan"),
    (wrong.LeavesPadding, "padding", "not zero (1) with 1000"),
    (wrong.BatchNorm, "padding, few frames", "batch against single utterances"),
    (wrong.TrustsTheOrderOfMemory, "time-major memory", "from those of a contiguous copy"),
    (wrong.ViewsSlices, "sliced memory", "RuntimeError: view size is not compatible"),
    (wrong.Views, "time-major memory, sliced memory", "RuntimeError: view size is not compatible"),
    (wrong.SumsInHalfPrecision, "half precision", "roundings of the result (bound 3)"),
    (wrong.WidensHalfPrecision, "half precision", "bf16 states give torch.float32"),
    (wrong.ObeysAutocast, "half precision", "under autocast"),
    (wrong.UnusedParameter, "gradients reach", "no gradient reaches spare"),
    (wrong.UsesFewerThanItSays, "gradients reach, uneven layers", "no gradient reaches [0]"),
    (wrong.Detaches, "gradients reach", "no gradient reaches [0]"),
    (wrong.WrongBackward, "gradients are slopes", "by finite differences"),
    (wrong.AlwaysSingle, "gradients are slopes", "by finite differences"),
    (wrong.DrawsInSecret, "gradients are slopes", "draws is False"),
    (wrong.DrawsInEvaluation, "determinism", "two evaluations differ"),
    (wrong.DrawsElsewhere, "determinism", "two training passes with one seed differ"),
    (wrong.OverwritesFrozenStates, "inputs unchanged", "layer 0 was changed in place"),
    (wrong.CleansPadding, "inputs unchanged", "layer 0 was changed in place"),
    (wrong.ForgetsABuffer, "save and load", "after loading"),
    (wrong.FrozenParameter, "save and load", "not saved: shift"),
    (wrong.SavesAWord, "save and load", "_extra_state"),
    (wrong.NeedsAFrame, "few frames", "IndexError"),
    (wrong.Exits, "few frames", "SystemExit: 1"),
    (wrong.DividesByLayers, "few layers", "1 hidden state: ZeroDivisionError"),
    (wrong.ChecksNothing, "wrong input", "given 8 layers: no error"),
    (wrong.ComplainsNamelessly, "wrong input", "names no interface"),
    (wrong.ComplainsAsRuntime, "wrong input", "RuntimeError instead of ValueError"),
    (wrong.TakesByPlace, "unused layers", "with layers [1, 3, 5] alone: IndexError"),
    (wrong.PeeksAtOthers, "gradients reach, unused layers", "layers [0] get a gradient, too"),
    (wrong.NeverAligned, "uneven layers", "RuntimeError"),
    (wrong.RefusesCurtly, "uneven layers", "refused without a way out: "),
    (wrong.UsageOfTwo, "layer usage", "sums to 1 but for 1"),
    (wrong.UsageWithoutTheLast, "layer usage", "6 shares for 7 hidden states"),
    (wrong.UsageWithoutWords, "layer usage", "usage_kind is empty"),
    (wrong.NegativeGates, "layer usage", "gates has a share of -1"),
    (wrong.FitCountsUtterances, "fit", "fit saw 160 frames and returned 10"),
    (wrong.FitGoesOn, "fit", "fitting again"),
    (wrong.Hoards, "memory", "kept for the backward pass 7.0"),
    (wrong.WorksWithCopies, "memory", "peak 13."),
    (wrong.PoolsAnyway, "output size (window=3)", "pools time even with its frame_options"),
    (wrong.PoolsPadding, "padding", "1000 in its padding"),
    (wrong.OtherWhenCompiled, "torch.compile", "when compiled"),
]  # fmt: skip
"""An interface, the checks that must fail, and what the first of them says."""


RIGHT = [wrong.Right, wrong.RightFit, wrong.RightPool]


@pytest.mark.parametrize("right", RIGHT, ids=lambda cls: cls.__name__)
def test_no_mistake(right: type[wrong.Right]) -> None:
    results = checks.results_of(right, {}, "right")
    names = [check.name for check in checks.CHECKS]
    if right is wrong.RightPool:  # a second time, with its frame_options
        names += [f"{name} (window=3)" for name in names]
    assert [r.name for r in results] == names
    assert not [r for r in results if r.status is Status.failed]


mistakes = pytest.mark.parametrize(
    ("interface", "failing", "words"), MISTAKES, ids=[case[0].__name__ for case in MISTAKES]
)
SECONDS = ("memory", "torch.compile")
"""Checks that take long: for the mistakes of others only in the slow test."""
QUICK = [check for check in checks.CHECKS if check.name not in SECONDS]


def assert_fails(
    interface: type[wrong.Right], failing: str, words: str, chosen: Sequence[checks.Check]
) -> None:
    results = checks.results_of(interface, {}, "wrong", chosen)
    failed = [r for r in results if r.status is Status.failed]
    assert ", ".join(r.name for r in failed) == failing
    assert words in failed[0].detail
    assert "\n" not in failed[0].detail
    assert all(r.advice for r in failed)


@mistakes
def test_a_mistake_fails_its_check_alone(
    interface: type[wrong.Right], failing: str, words: str
) -> None:
    chosen = [c for c in checks.CHECKS if c.name not in SECONDS or c.name in failing]
    assert_fails(interface, failing, words, chosen)


@pytest.mark.slow
@mistakes
def test_alone_among_all_checks(interface: type[wrong.Right], failing: str, words: str) -> None:
    assert_fails(interface, failing, words, checks.CHECKS)


def test_every_check_has_a_control() -> None:
    failing = {name for _, names, _ in MISTAKES for name in names.split(", ") if "(" not in name}
    assert failing == {check.name for check in checks.CHECKS}


def test_the_list_of_states_is_not_to_be_changed() -> None:
    """Checks that use a batch twice stumble over it as well."""
    results = {r.name: r for r in checks.results_of(wrong.ShortensTheList, {}, "wrong", QUICK)}
    assert results["inputs unchanged"].status is Status.failed
    assert "the list of states" in results["inputs unchanged"].detail


@pytest.mark.parametrize(
    ("interface", "words"),
    [
        (wrong.Crashes, "RuntimeError: no such luck (line"),
        (wrong.CannotBeBuilt, "RuntimeError: no such luck (line"),
        (wrong.GivesFeaturesAlone, "TypeError: forward gave a Tensor, not the pair"),
    ],
)
def test_a_crash_is_a_failure_and_stops_nothing(interface: type[wrong.Right], words: str) -> None:
    results = checks.results_of(interface, {}, "wrong")
    assert len(results) == len(checks.CHECKS)
    failed = {r.name: r.detail for r in results if r.status is Status.failed}
    assert len(failed) > 10
    assert words in failed["padding"]
    assert "wrong_interfaces.py" in failed["padding"] or interface is wrong.GivesFeaturesAlone
