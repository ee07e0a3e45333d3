"""The matched-head control: as many parameters as the interface it is held against."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ssft_bench import cost, registry, spec
from ssft_bench.control import enlarged, with_matched_head
from ssft_bench.errors import UsageError
from ssft_bench.hidden_states import UpstreamSpec
from tests.conftest import SMALL

Bench = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("seed", range(5))
def test_sizes_against_an_exhaustive_search(seed: int) -> None:
    draw = random.Random(seed)
    a, b, c = (draw.randint(1, 9) for _ in range(3))

    def count(options: Mapping[str, Any]) -> int:
        cells, width = options["cells"], options["width"]
        return a * cells * cells + b * cells * width + c * width

    start = {"cells": draw.randint(2, 6), "width": draw.randint(2, 6), "kept": "as it is"}
    target = count(start) + draw.randint(500, 5000)
    found = enlarged(start, ("cells", "width"), target, count)
    assert found["kept"] == "as it is"
    assert found["cells"] >= start["cells"]
    assert found["width"] >= start["width"]
    # Every pair whose first size is at most nine below the largest that fits alone.
    alone = enlarged(start, ("cells",), target, count)["cells"]
    pairs = itertools.product(
        range(max(start["cells"], alone - 8), alone + 1), range(start["width"], 5000)
    )
    best = min(abs(count({"cells": x, "width": y}) - target) for x, y in pairs)
    assert abs(count(found) - target) == best


@pytest.mark.parametrize("task", ["asr", "pr"])
@pytest.mark.parametrize("interface", ["hconv", "grouped_weighted_sum:groups=3", "cls_pool"])
@pytest.mark.parametrize(("layers", "dim"), [(13, 768), (25, 1024)])
def test_within_one_percent_by_the_papers_recipes(
    task: str, interface: str, layers: int, dim: int
) -> None:
    upstream = UpstreamSpec("base", (dim,) * layers, (320,) * layers)
    task_class = registry.load("tasks", task)

    def build(options: Mapping[str, Any]) -> Any:
        return task_class(task_class.Options.model_validate(options), "superb71")

    resolved = spec.resolve(
        upstream="fbank", interface=interface, task=task, suite="full", control="matched-head"
    )
    matched = with_matched_head(resolved, upstream, build)
    name, options = interface.partition(":")[0], {"groups": 3} if ":" in interface else {}
    wanted = registry.load("interfaces", name).expected_parameters(upstream, **options)
    assert matched.control is not None
    assert matched.control.parameters == wanted

    def head(options: Mapping[str, Any], width: int) -> int:
        return cost.parameters(build(options).head(width, 320))["total"]

    width = {"hconv": 1023 if dim == 1024 else 768}.get(name, dim)
    before = wanted + head(resolved.task.options, width)
    after = layers + head(matched.task.options, dim)
    assert abs(after - before) <= 0.01 * wanted


@pytest.fixture
def arguments(toy_an4: Path, toy_plugins: Path, tmp_path: Path) -> list[str]:
    """A short run of hconv on the toy corpus, as a control."""
    return [
        "run", "--upstream", f"{toy_plugins}/spectrum.py:Spectrum", "--interface", "hconv",
        "--task", "pr", "--corpus", "an4", "--data", str(toy_an4), "--out", str(tmp_path / "runs"),
        *SMALL, "--set", "train.steps=3", "--control", "matched-head",
    ]  # fmt: skip


def test_a_run_and_its_row(bench: Bench, arguments: list[str], tmp_path: Path) -> None:
    code, out, err = bench(*arguments, "--json")
    assert code == 0, err
    control = json.loads(out)
    code, out, err = bench(*arguments[:-2], "--json")
    assert code == 0, err
    plain = json.loads(out)
    assert control["signature"] != plain["signature"]
    assert control["spec"]["interface"]["name"] == "weighted_sum"
    assert control["spec"]["control"]["interface"]["name"] == "hconv"
    sizes = {k: v["cost"]["parameters"] for k, v in (("control", control), ("plain", plain))}
    totals = {k: v["interface"]["trainable"] + v["head"]["trainable"] for k, v in sizes.items()}
    hconv = sizes["plain"]["interface"]["trainable"]
    assert sizes["control"]["interface"]["trainable"] == 2
    assert control["spec"]["control"]["parameters"] == hconv
    assert abs(totals["control"] - totals["plain"]) <= 0.01 * hconv
    code, out, _ = bench("leaderboard", "build", "--runs", tmp_path / "runs")
    assert "weighted_sum, head matched to hconv" in out
    assert list((tmp_path / "runs").glob("mini/*/matched-head-hconv/pr/*/result.json"))


def test_a_run_without_control_keeps_its_signature(bench: Bench, arguments: list[str]) -> None:
    code, out, _ = bench(*arguments[:-2], "--json")
    assert code == 0
    record = json.loads(out)
    values = spec.RunSpec.model_validate(
        {k: v for k, v in record["spec"].items() if k != "control"}
    )
    assert spec.signature(values, record["content"]) == record["signature"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--interface": "last"}, ("last has 0 parameters", "nothing to match")),
        ({"--interface": "lap:output=1"}, ("lap:output=1 has", "nothing to match")),
        ({"--control": "matched-hat"}, ("control.name", "matched-head")),
    ],
)
def test_mistakes(
    bench: Bench, arguments: list[str], change: dict[str, str], words: tuple[str, ...]
) -> None:
    for flag, value in change.items():
        arguments[arguments.index(flag) + 1] = value
    code, out, err = bench(*arguments)
    assert code == 2
    assert all(word in err for word in words), err
    assert "Traceback" not in out + err


def test_a_task_without_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    upstream = UpstreamSpec("base", (16,) * 7, (320,) * 7)
    task_class = registry.load("tasks", "asr")
    monkeypatch.setattr(task_class, "size_options", ())
    resolved = spec.resolve(upstream="fbank", interface="hconv", task="asr", control="matched-head")
    with pytest.raises(UsageError, match="names no size_options"):
        with_matched_head(
            resolved, upstream, lambda o: task_class(task_class.Options.model_validate(o))
        )
