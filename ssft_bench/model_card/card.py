"""The two cards: facts from records put into a template. No number comes from anywhere else."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader

from ssft_bench import results
from ssft_bench.checkpoints.delta import Checkpoint, read_checkpoint
from ssft_bench.errors import BenchError, UsageError
from ssft_bench.files import sha256_file
from ssft_bench.model_card import limits
from ssft_bench.model_card.front_matter import front_matter
from ssft_bench.model_card.reproduce import run_command, tune_command
from ssft_bench.results import ResultRecord
from ssft_bench.tables import format_value


def run_card(folder: Path, *, licence: str | None = None) -> str:
    """Markdown about a finished run.

    `licence` is of the weights, which no record tells. Raises UsageError where the folder holds no
    finished run.
    """
    record = results.load(folder)
    if record is None:
        raise UsageError(f"{folder} holds no result.json")
    if record.status != "done":
        raise UsageError(f"{folder}: the run is {record.status}; a card is of a finished one")
    spec = record.spec
    name = f"{spec.upstream.label}, {spec.interface_label}, {spec.task.name}"
    recipe = spec.model_dump(mode="json")
    recipe["data"].pop("root")  # where somebody's corpus lies
    return _fill(
        "run.md",
        front_matter=front_matter(
            name, [record], tags=[spec.task.name], base=spec.upstream.label,
            corpora=[spec.data.corpus], licence=licence,
        ),
        record=record,
        spec=spec,
        licence=licence,
        ci_methods=_ci_methods([record]),
        data_lines=list(_splits(record.data)),
        cost_lines=list(_lines({k: v for k, v in record.cost.items() if k != "tuning"})),
        recipe=_yaml(recipe),
        limits=limits.of_run(record),
        command=run_command(spec, record.args_passed),
    )  # fmt: skip


def checkpoint_card(path: Path, runs: Path, *, licence: str | None = None) -> str:
    """Markdown about an SSFT checkpoint, with the scores of the finished runs below `runs` that used
    these very weights.

    Raises MissingError for a file that is no checkpoint.
    """
    checkpoint = read_checkpoint(path)
    about = checkpoint.about
    data = about.get("data") or {}
    recipe = about.get("recipe") if isinstance(about.get("recipe"), Mapping) else {}
    corpus = data.get("corpus")
    weights, records, why = _scores(path, runs)
    base = _written(about["base"])
    return _fill(
        "checkpoint.md",
        front_matter=front_matter(
            about["name"], records, tags=[about["method"]], base=base,
            corpora=[corpus] if corpus else [], licence=licence,
        ),
        about=about,
        base=base,
        file=path.name,
        file_sha256=sha256_file(path),
        weights=weights,
        tensors=len(checkpoint.tensors),
        extra=len(checkpoint.extra),
        data_lines=list(_heard(data)),
        data_licence=data.get("licence"),
        cost_lines=list(_lines(_cost(checkpoint))),
        recipe=_yaml(recipe) if recipe else "",
        records=records,
        why_no_scores=why,
        ci_methods=_ci_methods(records),
        licence=licence,
        limits=list(dict.fromkeys([*limits.of_data(data), *limits.of_runs(records)])),
        use=_use(about, path),
        command=tune_command(recipe or {}),
    )  # fmt: skip


def _scores(path: Path, runs: Path) -> tuple[str | None, list[ResultRecord], str]:
    """Digest of the base with the checkpoint in it, the finished runs with those weights, and in words
    why there are none. Without the base the digest is None."""
    from ssft_bench.tuned_upstream import load_tuned
    from ssft_bench.upstream import Upstream, weights_sha256

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)  # as in `load_upstream`
            weights = weights_sha256(Upstream("card", load_tuned(path, "")))
    except BenchError as error:
        return None, [], f"None were looked for: {error}"
    done = [
        record
        for record in results.readable(runs)
        if record.status == "done" and record.content.get("upstream_weights") == weights
    ]
    done.sort(key=lambda r: (r.spec.suite, r.spec.task.name, r.spec.interface_label, r.spec.seed))
    return weights, done, f"No finished run below {runs} used these weights."


def _use(about: Mapping[str, Any], path: Path) -> str:
    """A run with the checkpoint: by the method's name for that family where there is one."""
    from ssft_bench import registry
    from ssft_bench.tuned_upstream import EXPERTS

    family = next((word for word in EXPERTS if word in about["base"]["name"]), "")
    name = f"{about['method']}_{family}"
    if family and name in {plugin.name for plugin in registry.plugins("upstreams")}:
        words = ["--upstream", name, "--checkpoint", path.name]
    else:
        words = [
            "--upstream",
            f"score_hubert:ckpt={path.name}",
        ]  # any such name loads any checkpoint
    return shlex.join(["ssft-bench", "run", *words, "--interface", "weighted_sum", "--task", "asr"])


def _written(base: Mapping[str, Any]) -> str:
    options = ",".join(f"{k}={v}" for k, v in sorted(base["options"].items()))
    return f"{base['name']}:{options}" if options else str(base["name"])


def _cost(checkpoint: Checkpoint) -> dict[str, Any]:
    """What was spent; an imported checkpoint may tell its steps alone."""
    about = checkpoint.about
    cost = dict(about.get("cost") or {})
    own = {"steps": about.get("steps"), "hours_processed": about.get("hours_processed")}
    return {**{k: v for k, v in own.items() if v is not None}, **cost}


def _splits(data: Mapping[str, Any]) -> Iterator[str]:
    """Corpus and splits of a run."""
    yield from _corpus(data)
    for split, utterances in (data.get("utterances") or {}).items():
        told = [f"{split}: {_text(utterances)} utterances"]
        for what in ("hours", "speakers"):
            value = (data.get(what) or {}).get(split)
            told += [f"{_text(value)} {what}"] if value else []
        yield ", ".join(told)
    if data.get("labels"):
        yield f"labels: {_listed(data['labels'])}"


def _heard(data: Mapping[str, Any]) -> Iterator[str]:
    """Corpus and amounts of a tuning."""
    yield from _corpus(data)
    told = [f"{_text(data[k])} {k}" for k in ("utterances", "hours", "speakers") if data.get(k)]
    if told:
        yield ", ".join(told)


def _corpus(data: Mapping[str, Any]) -> Iterator[str]:
    if data.get("corpus"):
        kind = " (synthetic speech)" if data.get("synthetic") else ""
        digest = f", recordings sha256 `{data['sha256']}`" if data.get("sha256") else ""
        yield f"corpus {data['corpus']}{kind}{digest}"


def _lines(values: Mapping[str, Any]) -> Iterator[str]:
    """`parameters, head, trainable: 305,184` for each leaf."""
    for key, value in _leaves(values):
        yield f"{key.replace('_', ' ')}: {_text(value)}"


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}, ")
        else:
            yield f"{prefix}{key}", value


def _listed(values: Mapping[str, Any], only: Sequence[str] = (), skip: Sequence[str] = ()) -> str:
    """`step 600, value 95.7`: leaves in their order."""
    chosen = {k: v for k, v in values.items() if (not only or k in only) and k not in skip}
    return ", ".join(
        f"{k.replace('_', ' ')} {_text(v)}" for k, v in _leaves(chosen) if v not in (None, {}, [])
    )


def _text(value: Any) -> str:
    """A value of a record, safe in Markdown; whole numbers with commas between thousands."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value).replace("<", "&lt;").replace("|", "\\|")
    return f"{value:,}" if isinstance(value, int) else f"{value!r}"


def _ci_methods(records: Iterable[ResultRecord]) -> list[str]:
    return list(dict.fromkeys(m.ci_method for r in records for m in r.metrics if m.ci_method))


def _yaml(values: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=100)
    return text


def _fill(template: str, **facts: Any) -> str:
    """The template with the facts; lines that hold only a tag leave nothing behind."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    functions: dict[str, Callable[..., str]] = {"value": format_value, "listed": _listed}
    text = environment.get_template(template).render(**functions, **facts)
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text
