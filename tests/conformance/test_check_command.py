"""`ssft-bench check interface`: exit codes, JSON, the report, and names of every form."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ssft_bench.conformance.checks import CHECKS

Bench = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).resolve().parents[2]

WRONG = '''
"""Forgets the bias when it counts, and prints."""
import torch
from ssft_bench.interface import Interface


class Wrong(Interface):
    """The last layer, shifted."""

    usage_kind = "constant weight"

    def __init__(self, spec, scale=1.0):
        super().__init__(spec)
        print("noise")
        self.bias = torch.nn.Parameter(torch.zeros(spec.dims[-1]))
        self.scale = scale

    def layers_used(self):
        return (self.spec.num_layers - 1,)

    def combine(self, states):
        return self.scale * states[0] + self.bias

    @classmethod
    def expected_parameters(cls, spec, **options):
        return 0


class NoInterface:
    pass


something = 3
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "wrong.py"
    path.write_text(WRONG)
    return path


def test_a_good_one(bench: Bench) -> None:
    code, out, err = bench("check", "interface", "last")
    assert code == 0, err
    assert out.startswith(
        "# Interface last\n\nIt keeps the contract: 19 checks passed, 0 failed, 1 "
    )
    rows = re.findall(r"^\| ([^|]+?) +\| (pass|fail|skip) +\| .+ \|$", out, re.MULTILINE)
    assert [name for name, _ in rows] == [check.name for check in CHECKS]
    assert "## " not in out


def test_json(bench: Bench) -> None:
    code, out, err = bench("check", "interface", "layer:index=2", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert set(found) == {"interface", "options", "passed", "failed", "skipped", "checks"}
    assert (found["interface"], found["options"]) == ("layer", {"index": 2})
    assert found["passed"] + found["skipped"] == len(found["checks"]) == len(CHECKS)
    assert {"name", "status", "detail", "advice"} <= set(found["checks"][0])
    (memory,) = (c for c in found["checks"] if c["name"] == "memory")
    assert set(memory["numbers"]) == {"kept", "peak_frozen", "peak_tuned"}


def test_a_failing_one_from_a_file(bench: Bench, plugin: Path, tmp_path: Path) -> None:
    report = tmp_path / "new" / "report.md"
    code, out, err = bench("check", "interface", f"{plugin}:Wrong:scale=2.0", "-o", report)
    assert code == 1
    assert report.read_text().rstrip() == out.rstrip()
    assert [path.name for path in report.parent.iterdir()] == ["report.md"]
    assert "It breaks the contract" in out
    assert "(scale=2.0)" in out
    assert re.findall(r"^## (.+)$", out, re.MULTILINE) == ["parameters"]
    assert "Found: a 2 x 12 upstream: 12 parameters beside the projections" in out
    assert "What to do: Correct the formula of expected_parameters" in out
    assert "noise" in err
    assert "noise" not in out
    assert "Traceback" not in out + err


def test_json_of_a_failing_one(bench: Bench, plugin: Path) -> None:
    code, out, _ = bench("check", "interface", f"{plugin}:Wrong", "--json")
    assert code == 1
    found = json.loads(out)
    assert found["failed"] == 1
    assert [c["name"] for c in found["checks"] if c["status"] == "fail"] == ["parameters"]
    assert all(bool(c["advice"]) == (c["status"] == "fail") for c in found["checks"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("weighted_sun", "Did you mean weighted_sum"),
        ("weighted_sum:tempo=2", "unexpected keyword argument 'tempo'"),
        ("weighted_sum:temperature=-1", "temperature=-1: must be above 0"),
        ("weighted_sum:temperature", "'temperature' is not of the form option=value"),
        ("layer:index=99", "has hidden states 0 to 24"),
        ("/nowhere/mine.py:Mine", "there is no file /nowhere/mine.py"),
        ("/nowhere/mine.py", "name the class in it, /nowhere/mine.py:Class"),
        ("FILE:NoInterface", "no subclass of ssft_bench.interface.Interface"),
        ("FILE:something", "no subclass of ssft_bench.interface.Interface"),
        ("FILE:Wromg", "Did you mean Wrong"),
        ("FILE:Wrong:size=3", "unexpected keyword argument 'size'"),
    ],
)
def test_bad_usage(bench: Bench, plugin: Path, name: str, words: str) -> None:
    code, out, err = bench("check", "interface", name.replace("FILE", str(plugin)), "--json")
    assert code == 2, err
    assert words in err
    assert out == ""
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if line.startswith("error:")]) == 1


def test_a_report_that_cannot_be_written(bench: Bench, tmp_path: Path) -> None:
    for target in (tmp_path, "/proc/nowhere/report.md"):
        code, out, err = bench("check", "interface", "last", "-o", target)
        assert code == 2
        assert f"-o {target}: cannot write there" in err
        assert out == ""


def test_the_example_of_contributing(bench: Bench, tmp_path: Path) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    (tmp_path / "two_layers.py").write_text(code)
    exit_code, out, err = bench("check", "interface", f"{tmp_path}/two_layers.py:TwoLayers")
    assert exit_code == 0, out + err


def test_help_does_not_import_torch() -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from ssft_bench.cli import app; "
        "assert CliRunner().invoke(app, ['check', 'interface', '--help']).exit_code == 0; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
