"""Matplotlib's figures as parts of a page: colours from its style sheet, names of their own, no address."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape
from typing import Any

SERIES = 8
"""Colours of lines and points, `--series-0` and so on in the style sheet."""
_INK, _FAINT = "#010101", "#020202"
_SERIES = [f"#0300{place:02x}" for place in range(SERIES)]
_VARIABLES = {
    _INK: "var(--ink-soft)",
    _FAINT: "var(--line)",
    **{colour: f"var(--series-{place})" for place, colour in enumerate(_SERIES)},
}
"""Colours that are drawn with, and what stands for them on the page."""

_RC: Any = {
    "svg.fonttype": "none",  # text stays text: it can be read out, and takes the page's font
    "svg.hashsalt": "ssft-bench",
    "text.parse_math": False,
    "font.size": 8.5,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ((0, ()), (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))


def colour(place: int) -> str:
    """Colour of the upstream at this place; repeats after SERIES, then with other dashes."""
    return _SERIES[place % SERIES]


def marker(place: int) -> str:
    """Marker of the upstream at this place: what colour says is said by shape too."""
    return MARKERS[place % len(MARKERS)]


def dash(place: int) -> tuple[float, Any]:
    """Dashes of the upstream at this place."""
    return DASHES[place // SERIES % len(DASHES)]


FAINT = _INK
"""Of lines for orientation."""


@contextmanager
def axes(width: float = 3.5, height: float = 2.5) -> Iterator[Any]:
    """One pair of axes of this size in inches, in the page's style."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure.subplots()


def finish(axis: Any, name: str, title: str, text: str, points: Mapping[str, str]) -> str:
    """The figure of `axis` as SVG for a page; call it inside `axes`.

    `name` makes its ids unique on the page; `title` and `text` are its text alternative. `points`: what to
    say of the element that was drawn with `gid=<key>`; a key `run-3` lets a click ask for run 3.
    """
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    axis.figure.savefig(file, format="svg", metadata=nothing, transparent=True)
    body = file.getvalue().partition("<svg")[2]
    head, _, inside = body.partition(">")
    inside = inside.rpartition("</svg>")[0]
    view = re.search(r'viewBox="[^"]*"', head)
    assert view is not None
    inside = re.sub(r"\s*<metadata>.*?</metadata>", "", inside, flags=re.DOTALL)
    inside = re.sub(r"#0[0-9a-f]{5}\b", lambda m: _VARIABLES.get(m[0], m[0]), inside)
    for key, told in points.items():
        run = re.match(r"run-(\d+)", key)
        asks = f' class="hit" data-run="{run[1]}"' if run else ""
        inside = inside.replace(
            f'<g id="{key}">', f'<g id="{key}"{asks}><title>{escape(told)}</title>'
        )
    inside = re.sub(r'\bid="', f'id="{name}-', inside)
    inside = inside.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    labels = f'role="img" aria-labelledby="{name}-title {name}-text"'
    return (
        f'<svg {view[0]} {labels}><title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-text">{escape(text)}</desc>{inside}</svg>'
    )
