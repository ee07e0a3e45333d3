"""The six leaderboard files of the repository, built from the committed records alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ssft_bench.errors import MissingError
from ssft_bench.files import atomic_path
from ssft_bench.leaderboard.pivot import superb_inputs
from ssft_bench.leaderboard.scores import partial_points, superb_s
from ssft_bench.leaderboard.table import build

TASKS = ("asr", "pr", "qbe", "ner", "sa")
BOARDS = (*(f"{task}.csv" for task in TASKS), "overall.csv")
REDUCED = "ci"
"""The set of committed records with reduced recipes; it is on no board."""
PICKED = "layer"
"""The interface whose qbe score stands for an upstream, as in SUPERB: nothing is trained there."""


def record_folders(reference: Path) -> list[Path]:
    """Folders of committed records that are on the boards, by name."""
    return sorted(
        path for path in (reference / "records").glob("*") if path.is_dir() and path.name != REDUCED
    )


def board_texts(reference: Path) -> Mapping[str, str]:
    """File name -> content of the six boards. Raises MissingError without a finished record."""
    folders = record_folders(reference)
    if not folders:
        raise MissingError(
            f"{reference / 'records'}: nothing committed; 'ssft-bench leaderboard adopt' adds runs"
        )
    table = build(folders)
    texts = {f"{task}.csv": _csv(table[table["task"] == task]) for task in TASKS}
    return {**texts, "overall.csv": _csv(overall(table))}


def _csv(table: pd.DataFrame) -> str:
    return str(table.to_csv(index=False, lineterminator="\n"))


def write_boards(reference: Path, folder: Path) -> list[Path]:
    """Write the boards atomically; return their paths."""
    for name, text in board_texts(reference).items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return [folder / name for name in BOARDS]


def stale_boards(reference: Path, folder: Path) -> list[str]:
    """One line for each board that is not what the records give, naming its first line that differs."""
    told = []
    for name, text in board_texts(reference).items():
        path = folder / name
        if not path.is_file():
            told.append(f"{path} is missing")
        elif (kept := path.read_bytes().decode(errors="replace")) != text:
            told.append(f"{path}{_first_difference(kept, text)}")
    return told


def _first_difference(kept: str, built: str) -> str:
    old, new = kept.splitlines(), built.splitlines()
    for number, (one, other) in enumerate(zip(old, new, strict=False), start=1):
        if one != other:
            return (
                f":{number}: does not follow from the committed records{_field(old[0], one, other)}"
            )
    return f": has {len(old)} lines, the committed records give {len(new)}"


def _field(header: str, one: str, other: str) -> str:
    """Which column differs, where the lines split alike."""
    import csv

    names, mine, theirs = (next(csv.reader([line]), []) for line in (header, one, other))
    if not len(names) == len(mine) == len(theirs):
        return ""
    for name, a, b in zip(names, mine, theirs, strict=True):
        if a != b:
            return f": {name} is {a or 'empty'}, they give {b or 'nothing'}"
    return ""


def overall(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each suite, protocol, upstream and interface: the mean over the seeds of each task.

    qbe trains nothing: a row whose interface has no qbe score of its own shows that of the layer that dev
    picked, as SUPERB does; `qbe_interface` says which. Where `suite` is full, `superb_points` are SUPERB's
    points over `superb_tasks`, and `superb_s` is empty unless all ten of its tasks are there.
    """
    trained = table[table["protocol"] != "training-free"]
    free = table[table["protocol"] == "training-free"]
    keys = ["suite", "protocol", "upstream", "interface"]
    rows = [_row(dict(zip(keys, key, strict=True)), g, free) for key, g in trained.groupby(keys)]
    for key, group in free.groupby(["suite", "upstream"]):
        names = {(row["suite"], row["upstream"]) for row in rows}
        if key not in names:
            index = dict(zip(keys, (key[0], "training-free", key[1], PICKED), strict=True))
            rows.append(_row(index, group.iloc[:0], free))
    made = pd.DataFrame(rows, columns=_columns())
    counted = [f"{task}_seeds" for task in TASKS]
    return made.astype(dict.fromkeys(counted, "Int64"))


def _columns() -> list[str]:
    columns = ["suite", "protocol", "upstream", "interface"]
    for task in TASKS:
        columns += [task, f"{task}_metric", f"{task}_seeds"]
    return [*columns, "qbe_interface", "superb_points", "superb_tasks", "superb_s"]


def _row(index: dict[str, str], group: pd.DataFrame, free: pd.DataFrame) -> dict[str, object]:
    row: dict[str, object] = dict(index)
    own = free[(free["suite"] == index["suite"]) & (free["upstream"] == index["upstream"])]
    same = own[own["interface"] == index["interface"]]
    picked = same if len(same) else own[own["interface"] == PICKED]
    inputs = []
    for task in TASKS:
        found = picked if task == "qbe" else group[group["task"] == task]
        if len(found):
            row[task] = round(float(found["value"].mean()), 4)
            row[f"{task}_metric"] = " / ".join(sorted(set(found["metric"])))
            row[f"{task}_seeds"] = len(found)
            inputs.append({**found.iloc[0].to_dict(), "value": row[task]})
    if len(picked):
        row["qbe_interface"] = picked["interface"].iloc[0]
    if index["suite"] == "full" and index["protocol"] == "frozen":
        values = superb_inputs(inputs)
        part, whole = partial_points(values), superb_s(values)
        if part is not None:
            row["superb_points"], row["superb_tasks"] = round(part[0], 1), " ".join(part[1])
        row["superb_s"] = None if whole is None else round(whole)
    return row
