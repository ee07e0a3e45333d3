"""The wheel: it holds what git holds, and works where the repository is not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("ssft_bench", "upstreams", "interfaces", "downstreams", "leaderboards", "sweeps")
"""Folders whose files are installed, all below ssft_bench/."""
TESTS = (
    "conftest.py",
    "speech.py",
    "states.py",
    "test_hidden_states.py",
    "interfaces/test_every_interface.py",
)
"""Tests that are run again with the installed package."""


def committed() -> list[str]:
    """Tracked files, and new ones that are not ignored; skips visibly without git."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and its checkout to know which files belong to the package")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    return [name for name in listed if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def files() -> list[str]:
    return committed()


@pytest.fixture(scope="module")
def wheel(files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of git's files, so that nothing ignored gets in and nothing is left here."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in files:
        if name.split("/")[0] in FOLDERS or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder, source)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def target(wheel: Path) -> Path:
    """A folder with the wheel installed."""
    folder = wheel.parent / "target"
    pip("install", "--target", folder, wheel)
    return folder


def pip(command: str, *arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", command, "-q", "--no-deps", "--disable-pip-version-check",
         *map(str, arguments)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def elsewhere(target: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in another folder with the installed package in front of this one."""
    environment = dict(os.environ, PYTHONPATH=str(target), OMP_NUM_THREADS="1")
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=folder, env=environment
    )


def test_the_wheel_holds_what_git_holds(files: list[str], wheel: Path) -> None:
    wanted = {
        name if name.startswith("ssft_bench/") else f"ssft_bench/{name}"
        for name in files
        if name.split("/")[0] in FOLDERS
    }
    with zipfile.ZipFile(wheel) as archive:
        sizes = {i.filename: i.file_size for i in archive.infolist()}
    packed = {name for name in sizes if ".dist-info/" not in name}
    assert packed - wanted == set()
    assert wanted - packed == set()
    for name in files:
        if name.split("/")[0] in FOLDERS:
            inside = name if name.startswith("ssft_bench/") else f"ssft_bench/{name}"
            assert sizes[inside] == (ROOT / name).stat().st_size, name
    suffixes = {Path(name).suffix for name in packed}
    assert {".py", ".yaml", ".md"} <= suffixes


def test_the_licence_comes_along(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith("licenses/LICENSE")]
        assert b"Apache License" in archive.read(name)
        (name,) = [n for n in archive.namelist() if n.endswith("METADATA")]
        metadata = archive.read(name).decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata
    (entry,) = [line for line in metadata.splitlines() if line.startswith("Name:")]
    assert entry == "Name: ssft-bench"


def test_the_command_works_elsewhere(target: Path, tmp_path: Path) -> None:
    where = elsewhere(target, tmp_path, "-c", "import ssft_bench; print(ssft_bench.__file__)")
    assert where.stdout.startswith(str(target)), where.stdout + where.stderr
    done = elsewhere(target, tmp_path, "-m", "ssft_bench", "--help")
    assert done.returncode == 0, done.stderr
    assert "leaderboard" in done.stdout
    listed = {}
    for kind in ("interfaces", "tasks", "upstreams", "corpora", "methods"):
        done = elsewhere(target, tmp_path, "-m", "ssft_bench", "list", kind, "--json")
        assert done.returncode == 0, done.stderr
        listed[kind] = {row["name"] for row in json.loads(done.stdout)}
    assert {"last", "layer", "weighted_sum", "hconv"} <= listed["interfaces"]
    assert {"asr", "pr"} <= listed["tasks"]
    assert {"hubert_mini", "wav2vec2_mini", "wavlm_mini", "score_hubert"} <= listed["upstreams"]
    assert {"score", "spin", "laser", "rewire"} <= listed["methods"]
    assert {"mini", "an4", "librispeech"} <= listed["corpora"]


def test_tests_pass_elsewhere(target: Path, tmp_path: Path) -> None:
    for name in ("pyproject.toml", *(f"tests/{name}" for name in TESTS)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    (tmp_path / "tests/test_place.py").write_text(
        "import ssft_bench\n\n"
        f"def test_place():\n    assert ssft_bench.__file__.startswith({str(target)!r})\n"
    )
    options = ("-q", "-p", "no:cacheprovider")
    done = elsewhere(target, tmp_path, "-m", "pytest", *options, "tests")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("folder", [f for f in FOLDERS if f != "ssft_bench"])
def test_folders_refuse_to_be_imported_by_their_bare_name(folder: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {folder}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert f"ImportError: '{folder}' is a folder of ssft_bench" in done.stderr
    assert f"import ssft_bench.{folder} instead" in done.stderr


def test_every_installed_file_type_is_declared(files: list[str]) -> None:
    """A new kind of file would be left out of the wheel; this names the line to change."""
    import tomllib

    with (ROOT / "pyproject.toml").open("rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["package-data"]["*"]
    declared = {Path(pattern).suffix or Path(pattern).name for pattern in patterns}
    used = {Path(n).suffix or Path(n).name for n in files if n.split("/")[0] in FOLDERS}
    assert used <= declared, "add to [tool.setuptools.package-data] in pyproject.toml"
