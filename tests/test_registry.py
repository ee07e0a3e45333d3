"""Names -> plug-ins, with a real third-party package that is installed by pip."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ssft_bench import registry
from ssft_bench.errors import UsageError

Bench = Callable[..., tuple[int, str, str]]
PACKAGE = Path(__file__).with_name("plugin_package")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the third-party package installed; nothing else sees it."""
    folder = tmp_path_factory.mktemp("third-party")
    source, target = folder / "source", folder / "target"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__"))
    pip(target, source)
    return target


def pip(target: Path, source: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", "--target", str(target), str(source)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def third_party(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same package, seen by this process."""
    monkeypatch.syspath_prepend(installed)
    return installed


def python(
    *arguments: str, path: Path | None = None, cwd: Path
) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, PYTHONPATH=str(path or ""), COLUMNS="200", OMP_NUM_THREADS="1")
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=cwd
    )


def rows(bench: Bench, kind: str) -> dict[tuple[str, str], dict[str, Any]]:
    code, out, err = bench("list", kind, "--json")
    assert code == 0, err
    return {(row["name"], row["origin"]): row for row in json.loads(out)}


# What comes with the package.


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_built_in_name_can_be_listed_and_shown(bench: Bench, kind: str) -> None:
    listed = rows(bench, kind)
    assert listed
    for (name, origin), row in listed.items():
        if origin != "built-in":
            continue  # installed in this environment by somebody else
        assert row["summary"], f"{name} has no docstring"
        assert row["error"] is None
        code, out, err = bench("show", name)
        assert code == 0, err
        assert name in out
        code, out, err = bench("show", name, "--json")
        assert code == 0, err
        assert json.loads(out)[kind]["name"] == name


def test_suites_are_listed_and_shown(bench: Bench) -> None:
    assert ("mini", "built-in") in rows(bench, "suites")
    code, out, _ = bench("show", "mini", "--json")
    assert code == 0
    assert set(json.loads(out)) == {"suites", "corpora"}  # both are called so
    assert bench("show", "full")[0] == 0


def test_names_that_later_work_relies_on(bench: Bench) -> None:
    for kind, names in (
        ("interfaces", ("last", "layer", "weighted_sum", "hconv")),
        ("tasks", ("asr", "pr")),
        ("corpora", ("mini", "an4", "librispeech")),
    ):
        for name in names:
            assert (name, "built-in") in rows(bench, kind)


def test_s3prls_own_upstreams(bench: Bench) -> None:
    code, out, _ = bench("list", "upstreams", "--all", "--json")
    assert code == 0
    listed = {row["name"]: row["origin"] for row in json.loads(out)}
    assert listed["fbank"] == "s3prl"
    assert listed["wavlm_large"] == "s3prl"
    code, out, _ = bench("show", "fbank", "--json")
    assert code == 0
    assert json.loads(out)["upstreams"]["origin"] == "s3prl"


@pytest.mark.parametrize(
    ("kind", "name", "meant"),
    [
        ("upstreams", "fbnk", "fbank"),
        ("interfaces", "weightedsum", "weighted_sum"),
        ("tasks", "asrr", "asr"),
        ("corpora", "libri_speech", "librispeech"),
    ],
)
def test_unknown_names_get_suggestions(kind: str, name: str, meant: str) -> None:
    with pytest.raises(UsageError, match=rf"unknown \w+ '{name}'\. Did you mean .*{meant}"):
        registry.find(kind, name)


def test_show_of_an_unknown_name(bench: Bench) -> None:
    code, out, err = bench("show", "hcnov")
    assert code == 2
    assert "Did you mean hconv" in err
    assert len(err.splitlines()) == 1
    assert not out


def test_help_without_torch(tmp_path: Path) -> None:
    script = """
import sys
sys.argv = ["ssft-bench", *sys.argv[1:]]
from ssft_bench.cli import main
try:
    main()
finally:
    heavy = {"torch", "s3prl.hub", "pandas", "lightning_fabric", "scipy"} & set(sys.modules)
    assert not heavy, heavy
"""
    for arguments in (["--help"], ["run", "--help"], ["--version"]):
        done = python("-c", script, *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "ssft-bench" in done.stdout or "Usage" in done.stdout


# A package that somebody else made.


def test_a_third_party_package_from_the_command_line(installed: Path, tmp_path: Path) -> None:
    done = python("-m", "ssft_bench", "list", "interfaces", "--json", path=installed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    listed = {(row["name"], row["origin"]): row["error"] for row in json.loads(done.stdout)}
    third = {name: error for (name, origin), error in listed.items() if origin != "built-in"}
    assert listed[("hconv", "built-in")] is None
    assert listed[("layer_max", "ssft-bench-example")] is None
    assert third["broken_at_import"] == "ImportError: needs the package nobody_has_this"
    assert "LayerMaxx" in third["broken_without_class"]
    assert "twice" in third["last"]
    assert "twice" in listed[("last", "built-in")]


def test_broken_plugins_stop_nobody(bench: Bench, third_party: Path) -> None:
    listed = rows(bench, "corpora")
    row = listed[("broken_by_exit", "ssft-bench-example")]
    assert row["error"] == "SystemExit: I want everybody to stop"
    assert listed[("mini", "built-in")]["error"] is None
    assert bench("show", "hconv")[0] == 0
    code, out, _ = bench("show", "broken_at_import", "--json")
    assert code == 0
    assert "nobody_has_this" in json.loads(out)["interfaces"]["broken"]
    for name, message in (
        ("broken_at_import", "ImportError: needs the package nobody_has_this"),
        ("broken_without_class", "AttributeError"),
    ):
        with pytest.raises(UsageError, match=rf"{name}' \(ssft-bench-example\) .*{message}"):
            registry.load("interfaces", name)


def test_a_name_claimed_twice(bench: Bench, third_party: Path) -> None:
    code, out, err = bench("show", "last")
    assert code == 2
    assert "claimed twice, by built-in and ssft-bench-example" in err
    assert not out
    code, _, err = bench("run", "--upstream", "energy", "--interface", "last", "--task", "asr")
    assert code == 2
    assert "claimed twice, by built-in and ssft-bench-example" in err
    with pytest.raises(UsageError, match="claimed twice, by ssft-bench-example and s3prl"):
        registry.find("upstreams", "apc")


def test_third_party_plugins_work(bench: Bench, third_party: Path) -> None:
    from ssft_bench.upstream import load_upstream

    upstream = load_upstream("energy", {"floor": 1e-3})
    assert upstream.spec.dims == (8, 8, 8)
    assert upstream.spec.strides == (320, 320, 320)
    waves = [torch.randn(4000), torch.randn(16000)]
    hidden = upstream(waves)
    assert hidden.lengths.tolist() == [12, 50]
    interface = registry.load("interfaces", "layer_max")(upstream.spec, scale=2.0)
    features, lengths = interface(hidden)
    assert torch.equal(features[1], 2 * hidden.stack().amax(0)[1])
    assert torch.equal(lengths, hidden.lengths)
    code, out, _ = bench("show", "energy", "--json")
    assert code == 0
    card = json.loads(out)["upstreams"]
    assert card["options"] == {"floor": 1e-6}
    assert card["origin"] == "ssft-bench-example"


def test_s3prls_hub_learns_our_names_and_keeps_its_own(installed: Path, tmp_path: Path) -> None:
    """In a fresh process, for both orders of import."""
    script = """
import sys
if sys.argv[1] == "hub first":
    from s3prl import hub
    before = dict(vars(hub))
    import ssft_bench
    assert all(vars(hub)[name] is value for name, value in before.items())
else:
    import ssft_bench
    assert "s3prl.hub" not in sys.modules
    from s3prl import hub
from ssft_bench import registry
names = {plugin.name for plugin in registry.plugins("upstreams")}
assert {"energy", "apc"} <= names
assert names <= set(hub.options()), names
assert hub.apc.__module__.startswith("s3prl."), hub.apc.__module__
assert hub.fbank.__module__.startswith("s3prl.")
if sys.argv[1] != "hub first":
    import torch
    from s3prl.nn import S3PRLUpstream
    model = S3PRLUpstream("energy")
    states, lengths = model(torch.randn(2, 16000), torch.tensor([16000, 8000]))
    assert len(states) == 3
    assert lengths[0].tolist() == [50, 25]
"""
    for order in ("hub first", "ssft_bench first"):
        done = python("-W", "ignore", "-c", script, order, path=installed, cwd=tmp_path)
        assert done.returncode == 0, f"{order}: {done.stderr}"


# A file.


def test_a_class_in_a_file(bench: Bench, toy_plugins: Path) -> None:
    name = f"{toy_plugins}/mine.py:Mine"
    plugin = registry.find("interfaces", name)
    assert plugin.origin == f"{toy_plugins}/mine.py"
    digest = plugin.source_sha256()
    assert digest is not None
    cls = registry.load("interfaces", name)
    assert registry.load("interfaces", name) is cls  # imported once
    code, out, _ = bench("show", name, "--json")
    assert code == 0
    assert json.loads(out)["interfaces"]["options"] == {"scale": 1.0}
    code, out, _ = bench("show", f"{toy_plugins}/spectrum.py:Spectrum", "--json")
    assert code == 0
    assert json.loads(out)["upstreams"]["options"] == {"gain": 1.0}
    (toy_plugins / "mine.py").write_text((toy_plugins / "mine.py").read_text() + "\n# changed\n")
    assert registry.load("interfaces", name) is not cls
    assert registry.find("interfaces", name).source_sha256() != digest


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("none.py:Mine", None, "there is no file"),
        ("mine.py:Mnie", "class Mine: pass", "Did you mean Mine?"),
        ("mine.py:Mine", "class Mine(:", "SyntaxError"),
        ("mine.py:Mine", "import nobody_has_this", "nobody_has_this"),
        ("mine.py:Mine", "raise SystemExit(0)", "SystemExit"),
        ("mine.py:", "class Mine: pass", "unknown class"),
    ],
)
def test_files_that_do_not_work(
    bench: Bench, tmp_path: Path, file: str, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    code, out, err = bench("show", f"{tmp_path}/{file}")
    assert code == 2
    assert message in err
    assert err.startswith("error: ")
    assert "Traceback" not in out + err


def test_two_files_of_one_name(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text("class Mine:\n    pass\n")
    one, two = (registry.load("interfaces", f"{tmp_path}/{f}/mine.py:Mine") for f in ("one", "two"))
    assert one is not two
