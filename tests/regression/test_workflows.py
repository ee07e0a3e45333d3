"""The workflows: YAML of the right shape, and every command line in them is one that we have."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from ssft_bench.cli import app

WORKFLOWS = Path(__file__).resolve().parents[2] / ".github" / "workflows"
NAMES = ("ci.yml", "regression.yml", "method-regression.yml")

pytestmark = pytest.mark.skipif(not WORKFLOWS.is_dir(), reason="no checkout of the repository")


def loaded(name: str) -> Any:
    values = yaml.safe_load((WORKFLOWS / name).read_text(encoding="utf-8"))
    return values | {"on": values.get("on", values.get(True))}  # YAML 1.1 reads `on` as true


def commands(name: str) -> list[list[str]]:
    steps = [s for job in loaded(name)["jobs"].values() for s in job["steps"]]
    lines = [line for s in steps for line in str(s.get("run", "")).splitlines()]
    return [
        shlex.split(line.partition("|")[0])
        for line in lines
        if line.strip().startswith("ssft-bench")
    ]


@pytest.mark.parametrize("name", NAMES)
def test_shape(name: str) -> None:
    values = loaded(name)
    assert values["permissions"] == {"contents": "read"}
    for job in values["jobs"].values():
        assert job["runs-on"]
        assert job["timeout-minutes"]
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            if "uses" in step:
                assert re.fullmatch(r"[\w.-]+/[\w.-]+@v\d+", step["uses"])


def test_untrusted_inputs_reach_the_shell_as_variables_only() -> None:
    for name in NAMES:
        for job in loaded(name)["jobs"].values():
            for step in job["steps"]:
                assert "${{" not in step.get("run", ""), (name, step)


def test_the_reusable_one_declares_what_it_uses() -> None:
    inputs = loaded("method-regression.yml")["on"]["workflow_call"]["inputs"]
    text = (WORKFLOWS / "method-regression.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(inputs)
    for name, one in inputs.items():
        assert one["type"] in ("string", "boolean", "number"), name
        assert "default" in one, name
        wanted = {"string": str, "boolean": bool, "number": int}[one["type"]]
        assert isinstance(one["default"], wanted), name


@pytest.mark.parametrize("name", ["regression.yml", "method-regression.yml"])
def test_the_commands_exist(name: str) -> None:
    found = commands(name)
    assert found
    root = typer.main.get_command(app)
    for words in found:
        assert words[:3] == ["ssft-bench", "leaderboard", "verify"]
        verify = root.commands["leaderboard"].commands["verify"]  # type: ignore[attr-defined]
        known = {option for p in verify.params for option in (*p.opts, *p.secondary_opts)}
        assert {w for w in words if w.startswith("--")} <= known, words
    text = (WORKFLOWS / name).read_text(encoding="utf-8")
    for option in re.findall(r"options\+=\((--[\w-]+)\)", text):
        assert option in known


@pytest.mark.skipif(
    shutil.which("check-jsonschema") is None, reason="check-jsonschema is not installed"
)
def test_githubs_own_schema() -> None:
    done = subprocess.run(
        ["check-jsonschema", "--builtin-schema", "vendor.github-workflows",
         *(str(WORKFLOWS / name) for name in NAMES)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
