"""Sections as Markdown, LaTeX and HTML."""

from __future__ import annotations

import html as escaping
import re
from collections.abc import Sequence

from ssft_bench.leaderboard.sections import Cell, Section


def markdown(sections: Sequence[Section]) -> str:
    """Best bold, second best italic."""
    return "\n".join(_markdown(section) for section in sections)


def _markdown(section: Section) -> str:
    parts = [f"### {section.title}\n"]
    if section.header:
        lines = [
            [cell.text for cell in section.header],
            ["---" for _ in section.header],
            *([_markdown_cell(cell) for cell in row] for row in section.rows),
        ]
        parts.append("\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n")
    return "\n".join([*parts, *(f"{note}\n" for note in section.notes)])


def _markdown_cell(cell: Cell) -> str:
    text = cell.text.replace("|", "\\|")
    if not text:
        return text
    return {1: f"**{text}**", 2: f"*{text}*"}.get(cell.place, text)


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "Δ": r"$\Delta$", "†": r"$^\dagger$",
    "*": r"$^*$", "–": "--", "−": "$-$", "<": "$<$", ">": "$>$",
}  # fmt: skip


def latex_escape(text: str) -> str:
    """Text in which nothing is a command of LaTeX."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


def latex(sections: Sequence[Section]) -> str:
    """A `table` for each section, for `\\usepackage{booktabs}`: best bold, second best underlined."""
    tables = [_latex(section) for section in sections if section.header]
    return "% \\usepackage{booktabs}\n" + "\n".join(tables)


def _latex(section: Section) -> str:
    columns = "".join("r" if cell.number else "l" for cell in section.header)
    notes = " ".join(latex_escape(note) for note in section.notes)
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_escape(section.title)}. {notes}}}",
            rf"\label{{tab:{re.sub(r'[^a-z0-9]+', '-', section.title.lower()).strip('-')}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(latex_escape(cell.text) for cell in section.header) + r" \\",
            r"\midrule",
            *(" & ".join(map(_latex_cell, row)) + r" \\" for row in section.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _latex_cell(cell: Cell) -> str:
    text = latex_escape(cell.text)
    if not text:
        return text
    return {1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}.get(cell.place, text)


_STYLE = """
:root { color-scheme: light dark; --line: #c9c9c9; --soft: #5a5a5a; --head: #f3f3f3; }
@media (prefers-color-scheme: dark) { :root { --line: #4a4a4a; --soft: #a8a8a8; --head: #262626; } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 96rem; padding: 0 1rem; }
h2 { font-size: 1.1rem; margin-top: 2.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: left; white-space: nowrap; }
th { background: var(--head); }
.n { text-align: right; }
td:last-child:not(.n) { white-space: normal; min-width: 14rem; }
p { color: var(--soft); margin: .4rem 0; max-width: 60rem; }
u { text-underline-offset: 3px; }
"""


def html(sections: Sequence[Section], title: str = "ssft-bench leaderboard") -> str:
    """One page without scripts or anything from elsewhere: best bold, second best underlined."""
    body = "\n".join(_html(section) for section in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaping.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escaping.escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _html(section: Section) -> str:
    title = escaping.escape(section.title)
    parts = [f"<section>\n<h2>{title}</h2>"]
    if section.header:
        head = "".join(_html_cell(cell, "th") for cell in section.header)
        rows = "\n".join(
            "<tr>" + "".join(_html_cell(cell, "td") for cell in row) + "</tr>"
            for row in section.rows
        )
        parts += [  # the frame can be scrolled by keyboard, so it has a name
            f'<div class="scroll" tabindex="0" role="region" aria-label="{title}">',
            f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>",
        ]
    parts += [f"<p>{escaping.escape(note)}</p>" for note in section.notes]
    return "\n".join([*parts, "</section>"])


def _html_cell(cell: Cell, tag: str) -> str:
    text = escaping.escape(cell.text)
    text = {1: f"<strong>{text}</strong>", 2: f"<u>{text}</u>"}.get(cell.place, text)
    scope = ' scope="col"' if tag == "th" else ""
    kind = ' class="n"' if cell.number else ""
    return f"<{tag}{scope}{kind}>{text}</{tag}>"
