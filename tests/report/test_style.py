"""Contrast of every pair of colours that meet, in both themes, computed from the style sheet."""

from __future__ import annotations

import re
from itertools import product

import pytest

from ssft_bench.report import gains, page, svg

STYLE = (page.HERE / "style.css").read_text()
COLOURS = {
    name: {"light": light, "dark": dark}
    for name, light, dark in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", STYLE)
}
TEXT = 4.5
GRAPHICS = 3.0
MEETINGS = [
    *((ink, ground, TEXT) for ink, ground in product(
        ("ink", "ink-soft", "link", "wrong", "right", "added"), ("paper", "raised"))),
    *(("ink", f"{side}-{level}", TEXT)
      for side in ("better", "worse") for level in range(1, gains.LEVELS + 1)),
    *((ink, ground, TEXT) for ink, ground in product(
        ("ink", "wrong", "added"), ("wrong-back", "added-back"))),
    ("ink-soft", "wrong-back", TEXT),
    ("ink-soft", "added-back", TEXT),
    ("paper", "ink", TEXT),
    *((f"series-{n}", "paper", GRAPHICS) for n in range(svg.SERIES)),
    ("focus", "paper", GRAPHICS),
    ("focus", "raised", GRAPHICS),
]  # fmt: skip


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_itself() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(
        4.48, abs=0.01
    )  # the well-known near miss


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("ink", "ground", "least"), MEETINGS)
def test_contrast(ink: str, ground: str, least: float, theme: str) -> None:
    assert contrast(COLOURS[ink][theme], COLOURS[ground][theme]) >= least


def test_every_colour_is_one_of_the_variables() -> None:
    body = re.sub(r"--[\w-]+: light-dark\([^)]*\);", "", STYLE)
    assert not re.findall(r"#[0-9a-fA-F]{3,8}\b(?=[;\s,)])", body)
    used = set(re.findall(r"var\(--([\w-]+)\)", STYLE))
    assert used <= COLOURS.keys()
    drawn = set(re.findall(r"var\(--([\w-]+)\)", " ".join(svg._VARIABLES.values())))
    assert COLOURS.keys() == used | drawn  # none is left over


def test_series_can_be_told_apart_without_colour() -> None:
    looks = {(svg.marker(n), str(svg.dash(n)), svg.colour(n)) for n in range(50)}
    assert len(looks) == 50
    assert len({svg.marker(n) for n in range(7)}) == 7
