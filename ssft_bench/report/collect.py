"""The runs of a folder, and which of them may stand beside each other."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssft_bench import results
from ssft_bench.analysis.convergence import comparable
from ssft_bench.errors import CheckFailed, MissingError, UsageError
from ssft_bench.files import sha256_file
from ssft_bench.metric import Prediction
from ssft_bench.results import MetricValue, ResultRecord

_OWN = ("interface", "seed", "control", "interface_from")
"""What runs of one table may differ in, beside the upstream."""


@dataclass(frozen=True)
class Run:
    """A finished run."""

    number: int
    """Its place on the page."""
    folder: Path
    path: str
    """Folder relative to --runs."""
    record: ResultRecord
    upstream: str
    """Its label, with a digest where one label stands for several weights."""
    settings: str = ""
    """What of the recipe differs from other runs of the task: `steps=300`."""
    copies: tuple[str, ...] = ()
    """Other folders with the same signature."""

    @property
    def metric(self) -> MetricValue:
        """The test metric that ranks."""
        found = self.record.primary()
        assert found is not None
        return found

    @property
    def interface(self) -> str:
        """As tables show it."""
        return self.record.spec.interface_label

    @property
    def seed(self) -> int:
        """Seed of everything random in the run."""
        return self.record.spec.seed

    def predictions(self) -> list[Prediction]:
        """What it predicted on the test split. Raises CheckFailed when the file is not what was scored."""
        path = self.folder / "predictions.jsonl"
        if not path.is_file():
            raise CheckFailed(f"{self.path}: predictions.jsonl is missing")
        if sha256_file(path) != self.record.predictions.get("sha256"):
            raise CheckFailed(f"{self.path}: predictions.jsonl is not the file that was scored")
        return results.load_predictions(self.folder)


@dataclass(frozen=True)
class Unfinished:
    """A run without a score."""

    path: str
    status: str
    what: str
    """upstream | interface | task, empty where the record cannot be read."""
    reason: str


@dataclass(frozen=True)
class Group:
    """Finished runs of one task on one corpus that differ only in upstream, interface and seed."""

    suite: str
    corpus: str
    task: str
    protocol: str
    settings: str
    runs: tuple[Run, ...]

    @property
    def title(self) -> str:
        """`asr on mini, suite mini, frozen; steps=300`."""
        return f"{self.task} on {self.corpus}, {self.details}"

    @property
    def details(self) -> str:
        """`suite mini, frozen; steps=300`."""
        told = f"; {self.settings}" if self.settings else ""
        return f"suite {self.suite}, {self.protocol}{told}"

    @property
    def metric(self) -> MetricValue:
        """The primary metric; its value is that of the first run."""
        return self.runs[0].metric

    @property
    def metric_label(self) -> str:
        """`WER (%)`."""
        return f"{self.metric.label} ({self.metric.unit})"

    @property
    def upstreams(self) -> list[str]:
        """Labels, in the order of the runs."""
        return list(dict.fromkeys(run.upstream for run in self.runs))

    @property
    def interfaces(self) -> list[str]:
        """Labels in alphabetical order."""
        return sorted({run.interface for run in self.runs})

    def cell(self, upstream: str, interface: str) -> list[Run]:
        """One run for each seed; of several of a seed the one that was finished last."""
        own = [r for r in self.runs if r.upstream == upstream and r.interface == interface]
        own.sort(key=lambda r: (r.seed, str(r.record.time.get("finished")), r.path))
        return list({run.seed: run for run in own}.values())


@dataclass(frozen=True)
class Collection:
    """Everything below a folder of results."""

    root: Path
    runs: tuple[Run, ...] = ()
    unfinished: tuple[Unfinished, ...] = ()
    groups: tuple[Group, ...] = ()
    base: str = ""
    upstreams: tuple[str, ...] = ()
    """Labels, the base first: the order of colours."""


def collect(root: Path, base: str | None = None, default_base: str = "hubert_mini") -> Collection:
    """Read every record below `root`.

    `base` is the upstream that gains are measured over. Raises MissingError when there is no record at
    all, UsageError when no finished run has an upstream of the name that was asked for.
    """
    paths = sorted(root.rglob("result.json")) if root.is_dir() else []
    if not paths:
        raise MissingError(f"--runs {root}: no run there; start one with 'ssft-bench run'")
    done: list[tuple[Path, ResultRecord]] = []
    unfinished = []
    for path in paths:
        place = path.parent.relative_to(root).as_posix()
        try:
            record = results.load(path.parent)
        except CheckFailed as error:
            told = str(error).removeprefix(f"{path}: ")
            unfinished.append(Unfinished(place, "unreadable", "", told))
            continue
        if record is None:
            continue
        if record.status == "done" and record.primary() is not None:
            done.append((path.parent, record))
        else:
            unfinished.append(_unfinished(place, record))
    runs = _numbered(root, done)
    names = [name for name, _ in Counter(run.upstream for run in runs).most_common()]
    found = _base(names, base, default_base, root)
    names.sort(key=lambda name: (name != found, name))
    return Collection(root, runs, tuple(unfinished), _groups(runs, names), found, tuple(names))


def _unfinished(place: str, record: ResultRecord) -> Unfinished:
    spec = record.spec
    what = " | ".join((spec.upstream.label, spec.interface_label, spec.task.name))
    told = {
        "running": "running, or killed: the same command goes on",
        "done": "has no primary metric on the test split",
    }
    return Unfinished(place, record.status, what, record.error or told.get(record.status, ""))


def _base(names: Sequence[str], wanted: str | None, default: str, root: Path) -> str:
    """The label of the base, of several weights those with most runs; empty where no run has the default."""
    base = wanted or default
    for name in names:
        if name == base or name.startswith(f"{base} @"):
            return name
    if wanted is not None and names:
        raise UsageError(f"--base {wanted}: no finished run in {root} has it; there are: "
                         f"{', '.join(sorted(names))}")  # fmt: skip
    return ""


def _numbered(root: Path, done: Sequence[tuple[Path, ResultRecord]]) -> tuple[Run, ...]:
    """Runs without copies, with labels that tell weights apart and settings that differ."""
    weights: dict[str, set[str]] = defaultdict(set)
    places: dict[str, list[str]] = defaultdict(list)
    for folder, record in done:
        weights[record.spec.upstream.label].add(str(record.content.get("upstream_weights")))
        places[record.signature].append(folder.relative_to(root).as_posix())
    first = [
        (folder, record)
        for folder, record in done
        if places[record.signature][0] == folder.relative_to(root).as_posix()
    ]
    told = _settings([record for _, record in first])
    runs = []
    for place, (folder, record) in enumerate(first):
        label = record.spec.upstream.label
        if len(weights[label]) > 1:
            label += f" @{str(record.content.get('upstream_weights'))[:6]}"
        path, *copies = places[record.signature]
        runs.append(Run(place, folder, path, record, label, told[place], tuple(copies)))
    return tuple(runs)


def _kind(record: ResultRecord) -> tuple[str, str, str, str]:
    spec = record.spec
    return spec.suite, spec.data.corpus, spec.task.name, spec.protocol


def _settings(records: Sequence[ResultRecord]) -> list[str]:
    """For each record, the keys of its recipe in which runs of its task differ, with their values."""
    recipes = [_recipe(record) for record in records]
    kinds = [_kind(record) for record in records]
    keys: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for kind, recipe in zip(kinds, recipes, strict=True):
        keys[kind] |= recipe.keys()
    values: dict[tuple[str, ...], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for kind, recipe in zip(kinds, recipes, strict=True):
        for key in keys[kind]:
            if not _free(recipe, key):
                values[kind][key].add(_text(recipe.get(key)))
    shown = _short({key for own in keys.values() for key in own})
    return [
        ", ".join(
            f"{shown[key]}={_text(recipe[key])}"
            for key, found in sorted(values[kind].items())
            if len(found) > 1 and key in recipe
        )
        for kind, recipe in zip(kinds, recipes, strict=True)
    ]


def _short(keys: Iterable[str]) -> dict[str, str]:
    """Keys by their last part, where that is one key's alone: `train.steps` is shown as `steps`."""
    last = Counter(key.rpartition(".")[2] for key in keys)
    return {key: name if last[name := key.rpartition(".")[2]] == 1 else key for key in keys}


def _recipe(record: ResultRecord) -> dict[str, Any]:
    """What may move a score but upstream, interface, seed, and what a control makes of the head."""
    flat = comparable(record)
    flat["corpus bytes"] = str(flat.pop("the corpus' bytes"))[:8]
    recipe = {key: value for key, value in flat.items() if not _below(key, _OWN)}
    if record.spec.control:
        recipe = {key: value for key, value in recipe.items() if not _below(key, ("task.options",))}
        recipe["control"] = record.spec.control.name
    return recipe


def _free(recipe: dict[str, Any], key: str) -> bool:
    """Whether the recipe leaves a key to its control, so that it sets no run apart."""
    return key == "control" or ("control" in recipe and _below(key, ("task.options",)))


def _below(key: str, names: Iterable[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _groups(runs: Iterable[Run], order: Sequence[str]) -> tuple[Group, ...]:
    """Groups in alphabetical order, their runs by upstream (`order`), interface and seed."""
    found: dict[tuple[str, str, str, str, str], list[Run]] = defaultdict(list)
    for run in runs:
        found[(*_kind(run.record), run.settings)].append(run)
    place = {name: i for i, name in enumerate(order)}
    for own in found.values():
        own.sort(key=lambda r: (place[r.upstream], r.interface, r.seed, r.path))
    return tuple(Group(*key, tuple(own)) for key, own in sorted(found.items()))
