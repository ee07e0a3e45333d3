"""Names of git objects beside git's own."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ssft_bench.downloads.git_objects import blob_name, object_name, tree_name


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "core.autocrlf=false", "-c", "core.filemode=true", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_objects_everybody_knows(tmp_path: Path) -> None:
    (tmp_path / "hello").write_text("hello world\n")
    assert blob_name(tmp_path / "hello") == "3b18e512dba79e4c8300dd08aeb37f8e728b8dad"
    (tmp_path / "empty").mkdir()
    assert tree_name(tmp_path / "empty") == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git to compare with")
def test_random_trees_are_named_as_git_names_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(seed := secrets.randbelow(2**31))
    folder = tmp_path / "tree"
    # Sorted as text, `a.b` is before `a/`, and `a0` after it; git sorts so too.
    for name in ("a.b", "a/x", "a0", "smart mirror/1", "smart mirror/2", "ä", "z/y/deep", "-dash"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(rng.bytes(int(rng.integers(0, 3000))))
    (folder / "a0").chmod(0o755)
    (folder / "link").symlink_to("a/x")
    (folder / "none/at/all").mkdir(parents=True)  # git does not keep empty folders
    work = ["--git-dir", str(tmp_path / "git"), "--work-tree", str(folder)]
    git(folder, *work, "init", "-q")
    git(folder, *work, "add", "-A")
    wanted = git(folder, *work, "write-tree").strip()
    assert tree_name(folder) == wanted, seed
    assert object_name(folder) == wanted
    inside = git(folder, *work, "rev-parse", f"{wanted}:smart mirror").strip()
    assert object_name(folder / "smart mirror") == inside
    before = (folder / "a/x").stat().st_mode
    (folder / "a/x").chmod(before | 0o100)
    assert tree_name(folder) != wanted  # the control: a bit more, and it is another tree
    (folder / "a/x").chmod(before)
    assert tree_name(folder) == wanted
    (folder / "a/x").write_bytes(b"other")
    assert tree_name(folder) != wanted
