"""What intervals and tests promise, on 1,000 simulated pairs of systems each, of which all is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ssft_bench.comparison import PairedResult, paired_seeds
from ssft_bench.comparison.mapsswe import mapsswe
from ssft_bench.metric import Prediction
from tests.comparison.sctk import WER
from tests.comparison.simulated import RATIO, systems, without_speakers

DRAWS = 1000
LEVEL = 0.05


def near(share: float) -> tuple[float, float]:
    """Where the observed share of DRAWS lies 999 times in 1,000 if `share` is the true one."""
    low, high = stats.binom.interval(0.999, DRAWS, share)
    return low / DRAWS, high / DRAWS


@dataclass
class Seen:
    """How often, of DRAWS."""

    held: float
    """The interval held the true difference."""
    rejected: float
    """p was below LEVEL."""
    wrong_side: float
    """p was below LEVEL, and the better system was called worse."""


def see(seed: int, *, blind: bool = False, **design: Any) -> Seen:
    """Simulate; `blind` hides the speakers."""
    rng = np.random.default_rng(seed)
    true = -100 * design.get("gain", 0.0)
    held, rejected, wrong = 0, 0, 0
    for number in range(DRAWS):
        a, b = systems(rng, **design)
        if blind:
            a, b = without_speakers(a), without_speakers(b)
        found: PairedResult = paired_seeds(RATIO, a, b, seed=number, resamples=600)
        assert found.ci95 is not None
        held += found.ci95[0] <= true <= found.ci95[1]
        rejected += found.p < LEVEL
        wrong += found.p < LEVEL and found.difference * true < 0
    return Seen(held / DRAWS, rejected / DRAWS, wrong / DRAWS)


def within(value: float, bounds: tuple[float, float]) -> bool:
    return bounds[0] <= value <= bounds[1]


def test_no_difference() -> None:
    """Systems that differ by chance alone: one in twenty intervals misses, one in twenty tests errs."""
    seen = see(1)
    assert within(seen.held, near(1 - LEVEL)), seen
    assert within(seen.rejected, near(LEVEL)), seen


def test_a_difference_is_found_and_its_interval_holds_it() -> None:
    seen = see(2, gain=0.08)
    assert within(seen.held, near(1 - LEVEL)), seen
    assert seen.rejected > 0.5, seen
    assert seen.wrong_side < 0.005, seen


def test_ignoring_speakers_is_anti_conservative() -> None:
    """The control: the same systems, their utterances taken for independent."""
    seen = see(1, blind=True)
    assert seen.held < near(1 - LEVEL)[0] - 0.05, seen
    assert seen.rejected > near(LEVEL)[1] + 0.05, seen


def test_independent_utterances_need_no_speakers() -> None:
    """Without anything that a speaker's utterances share, blindness does no harm."""
    seen = see(3, blind=True, own=0.0, each=3)
    assert within(seen.held, near(1 - LEVEL)), seen
    assert within(seen.rejected, near(LEVEL)), seen


def test_few_speakers_do_not_make_it_bold() -> None:
    """Eight speakers: the exact test stays below its level, and the widened interval near its own."""
    seen = see(4, speakers=8)
    assert seen.rejected <= near(LEVEL)[1], seen
    assert within(seen.held, near(1 - LEVEL)), seen


def test_seeds() -> None:
    """Three seeds of each system, which move as a whole with their seed."""
    seen = see(5, seeds=3, by_seed=0.08, each=4)
    assert within(seen.held, near(1 - LEVEL)), seen
    assert within(seen.rejected, near(LEVEL)), seen


def test_seeds_that_do_not_matter() -> None:
    """What neither seed nor speaker explains is counted more than once: cautious, never bold."""
    seen = see(7, seeds=2, each=3, own=0.0)
    assert seen.held >= near(1 - LEVEL)[0], seen
    assert seen.rejected <= near(LEVEL)[1], seen


def test_one_seed_says_nothing_of_others() -> None:
    """The control: one run of each of the same systems is found different far too often."""
    seen = see(5, by_seed=0.08, each=4)
    assert seen.held < 0.8, seen
    assert seen.rejected > 0.2, seen


def sentences(rng: np.random.Generator, *, own: float) -> tuple[list[Prediction], list[Prediction]]:
    """Texts of 10 speakers in which words are heard wrong, each speaker suiting one system by `own`."""
    words = " ".join("ABCDEF")
    both: tuple[list[Prediction], list[Prediction]] = ([], [])
    for found in both:
        rates = 0.2 + rng.uniform(-own, own, 10)
        for speaker, rate in enumerate(rates):
            for number, wrong in enumerate(rng.random((4, 6)) < rate):
                said = " ".join("x" if w else c for c, w in zip(words.split(), wrong, strict=True))
                found.append(Prediction(f"{speaker}-{number}", words, said, str(speaker)))
    return both


@pytest.mark.parametrize("own", [0.0, 0.2])
def test_mapsswe_holds_its_level_where_segments_are_independent(own: float) -> None:
    """And, the control, does not where a speaker's are not: it sees no speakers."""
    rng = np.random.default_rng(6)
    rejected = np.mean([mapsswe(WER, *sentences(rng, own=own)).p < LEVEL for _ in range(DRAWS)])
    if own == 0:
        assert within(rejected, near(LEVEL))
    else:
        assert rejected > near(LEVEL)[1] + 0.05
