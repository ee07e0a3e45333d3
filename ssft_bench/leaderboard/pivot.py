"""Tables of rows x columns: one axis of upstream, interface and task across the page."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ssft_bench.leaderboard import Pivot
from ssft_bench.leaderboard.scores import partial_points, superb_s
from ssft_bench.leaderboard.sections import SECTIONS, Cell, Section, metric_label, title_of

OFFICIAL_CORPORA = {"asr": "librispeech", "pr": "librispeech", "qbe": "quesst14"}
"""Where a score of ours is on SUPERB's scale."""
PER_UTTERANCE = "training-free"
"""Protocol of tasks that train nothing; they stand beside the frozen ones."""


def pivot_table(table: pd.DataFrame, pivot: Pivot) -> pd.DataFrame:
    """The same as numbers: a row for each row of the sections, a column for each of theirs."""
    parts = []
    for _, block, columns in _blocks(table, pivot):
        wide = pd.DataFrame(
            [
                {**index, **{name: _joined(rows, "value") for name, rows in found.items()}}
                for index, found in _grid(block, pivot)
            ]
        )
        parts.append(wide.reindex(columns=[*_index(pivot), *columns]))
    return pd.concat(parts, ignore_index=True)


def pivot_sections(table: pd.DataFrame, pivot: Pivot) -> list[Section]:
    """Values with intervals. Bold and underlined: the best two of a task, or, where upstreams or
    interfaces lie across the page, of a row."""
    return [
        _section(title, block, columns, pivot) for title, block, columns in _blocks(table, pivot)
    ]


def _index(pivot: Pivot) -> list[str]:
    """Columns that name a row of a pivot."""
    rows = {"task": ["upstream", "interface"], "interface": ["upstream"], "upstream": ["interface"]}
    sections = ["suite", "protocol"] if pivot == "task" else SECTIONS
    return [*sections, *rows[pivot]]


def _blocks(table: pd.DataFrame, pivot: Pivot) -> list[tuple[str, pd.DataFrame, list[str]]]:
    """Title, rows and columns of each section. Pivoted by task, a section is a suite and protocol."""
    table = table.assign(_task=[_task_label(row) for row in table.to_dict("records")])
    if pivot == "task":
        table = table.assign(protocol=table["protocol"].replace(PER_UTTERANCE, "frozen"))
    keys = ["suite", "protocol"] if pivot == "task" else SECTIONS
    column = "_task" if pivot == "task" else pivot
    found = []
    for key, block in table.groupby(keys, sort=True):
        synthetic = bool(block["synthetic"].any())
        kind = " (synthetic speech)" if synthetic else ""
        title = f"suite {key[0]}{kind}, {key[1]}" if pivot == "task" else title_of(key, synthetic)
        found.append((title, block, sorted(block[column].unique())))
    return found


def _task_label(row: dict[Any, Any]) -> str:
    return f"{row['task']} on {row['corpus']}, {metric_label(row)}"


def _grid(
    block: pd.DataFrame, pivot: Pivot
) -> list[tuple[dict[str, Any], dict[str, pd.DataFrame]]]:
    """For each row of a pivot: what names it, and the table's rows of each of its cells."""
    index = _index(pivot)
    column = "_task" if pivot == "task" else pivot
    return [
        (dict(zip(index, key, strict=True)), {str(c): rows for c, rows in same.groupby(column)})
        for key, same in block.groupby(index, sort=True)
    ]


def _joined(rows: pd.DataFrame, column: str) -> Any:
    """One number, or those of several recipes with a slash between them."""
    values = rows[column].tolist()
    return values[0] if len(values) == 1 else " / ".join(str(v) for v in values)


def _section(title: str, block: pd.DataFrame, columns: list[str], pivot: Pivot) -> Section:
    grid = _grid(block, pivot)
    names = [
        n
        for n in _index(pivot)
        if n not in (["suite", "protocol"] if pivot == "task" else SECTIONS)
    ]
    by_row = pivot != "task"
    places = _by_row(grid) if by_row else _by_column(grid, columns)
    rows = [
        (
            *(Cell(index[name]) for name in names),
            *(_cell(found.get(c), places.get((number, c), 0)) for c in columns),
        )
        for number, (index, found) in enumerate(grid)
    ]
    header = [*names, *columns]
    notes = ["95% CI in brackets. Several values: other recipes, see the table of runs."]
    extra = _scores(grid, block) if pivot == "task" else None
    if extra is not None:
        told, texts = extra
        header.append("points, partial")
        rows = [(*row, Cell(text, number=True)) for row, text in zip(rows, texts, strict=True)]
        notes.append(told)
    return Section(
        title,
        tuple(Cell(text, number=place >= len(names)) for place, text in enumerate(header)),
        tuple(rows),
        tuple(notes),
    )


def _cell(rows: pd.DataFrame | None, place: int) -> Cell:
    if rows is None:
        return Cell("", number=True)
    texts = []
    for row in rows.itertuples():
        ci = "" if pd.isna(row.ci_low) else f" [{row.ci_low:.1f}, {row.ci_high:.1f}]"
        texts.append(f"{row.value:.2f}{ci}")
    return Cell(" / ".join(texts), place=place, number=True)


Grid = list[tuple[dict[str, Any], dict[str, pd.DataFrame]]]
Places = dict[tuple[int, str], int]


def _by_row(grid: Grid) -> Places:
    found: Places = {}
    for number, (_, cells) in enumerate(grid):
        found |= _ranked({(number, column): rows for column, rows in cells.items()})
    return found


def _by_column(grid: Grid, columns: list[str]) -> Places:
    found: Places = {}
    for column in columns:
        found |= _ranked(
            {(n, column): cells[column] for n, (_, cells) in enumerate(grid) if column in cells}
        )
    return found


def _ranked(cells: dict[tuple[int, str], pd.DataFrame]) -> Places:
    """1 and 2 for the two best values of some cells, their first rows counted; nothing for a lone one."""
    if len(cells) < 2:
        return {}
    firsts = {key: rows.iloc[0] for key, rows in cells.items()}
    values = {
        key: -row["value"] if row["higher_is_better"] else row["value"]
        for key, row in firsts.items()
    }
    order = sorted(set(values.values()))
    return {key: order.index(v) + 1 for key, v in values.items() if order.index(v) < 2}


def _scores(grid: Grid, block: pd.DataFrame) -> tuple[str, list[str]] | None:
    """SUPERB's points over the tasks at hand; only where corpora and recipes are SUPERB's."""
    if (block["suite"] != "full").any() or (block["protocol"] != "frozen").any():
        return None
    texts = []
    for _, cells in grid:
        values = superb_inputs([row for rows in cells.values() for row in rows.to_dict("records")])
        whole, part = superb_s(values), partial_points(values)
        if whole is not None:
            texts.append(f"superb_s {whole:.0f}")
        else:
            texts.append("" if part is None else f"{part[0]:.0f} ({', '.join(part[1])})")
    told = (
        "points, partial: SUPERB's points (FBANK 0, the fixed best 1000) over the tasks in brackets only; "
        "it is no superb_s."
    )
    return told, texts


def superb_inputs(rows: list[dict[Any, Any]]) -> dict[tuple[str, str], float]:
    """(task, metric) -> value in SUPERB's unit of rows of ours that are measured as SUPERB's are."""
    return {
        (row["task"], row["metric"]): row["value"] / (100 if row["metric"] == "mtwv" else 1)
        for row in rows
        if OFFICIAL_CORPORA.get(row["task"]) == row["corpus"]
    }
