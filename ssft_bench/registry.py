"""Names -> plug-ins: what ships here, installed packages' entry points, and `path/to/file.py:Class`.

Nothing is imported until it is asked for. A plug-in that fails to import is listed as broken with its
error and stops nobody else; a name that two packages claim is an error for whoever asks for it.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from ssft_bench.errors import BenchError, UsageError
from ssft_bench.files import sha256_file, sha256_json
from ssft_bench.names import split_options, unknown

KINDS = ("upstreams", "interfaces", "tasks", "corpora", "methods")
GROUPS = {kind: f"ssft_bench.{kind}" for kind in KINDS}
_SINGULAR = {
    "upstreams": "upstream",
    "interfaces": "interface",
    "tasks": "task",
    "corpora": "corpus",
    "methods": "method",
}


@dataclass(frozen=True)
class Plugin:
    """One name of one kind, and how to get at what it stands for."""

    kind: str
    name: str
    origin: str
    """built-in, the distribution that brings it, s3prl, or a file's path."""
    summary: str
    load: Callable[[], Any]
    """Imports it: a class, or for upstreams a function that builds the upstream."""
    source: Path | None = None
    """File whose bytes decide its behaviour, for files outside the package."""

    def source_sha256(self) -> str | None:
        """Digest of a plug-in file outside the package; None for installed code."""
        return sha256_file(self.source) if self.source else None


def find(kind: str, name: str) -> Plugin:
    """The plug-in of that name. Raises UsageError: unknown (with suggestions), claimed twice, no file."""
    if ".py:" in name:
        return _from_file(kind, name)
    found = [plugin for plugin in plugins(kind) if plugin.name == name]
    if kind == "upstreams" and not found:
        found = [_from_s3prl(name)]
    elif kind == "upstreams" and found[0].origin != "built-in" and _is_s3prls_own(name):
        found.append(_from_s3prl(name))
    if not found:
        raise unknown(_SINGULAR[kind], name, [p.name for p in plugins(kind)])
    if len(found) > 1:
        origins = " and ".join(p.origin for p in found)
        raise UsageError(
            f"{_SINGULAR[kind]} '{name}' is claimed twice, by {origins}; uninstall one of them, or "
            "name the one you mean as path/to/file.py:Class"
        )
    return found[0]


def split_joint(text: str) -> list[str]:
    """`a+b` as its upstreams, each `name` or `name:option=value`.

    A plus in an option's value (a path) joins nothing unless the name of an upstream follows it.
    """
    parts: list[str] = []
    for piece in text.split("+"):
        in_value = bool(parts) and "=" in parts[-1].rpartition(".py:")[2].partition(":")[2]
        if in_value and not _is_upstream(piece):
            parts[-1] += f"+{piece}"
        else:
            parts.append(piece)
    return parts


def _is_upstream(text: str) -> bool:
    try:
        find("upstreams", split_options(text, "--upstream")[0])
    except UsageError:
        return False
    return True


def upstream_source(name: str) -> str | None:
    """Digest of the plug-in files of an upstream or of several, `a+b`; None when all are installed."""
    names = [split_options(part, "--upstream")[0] for part in split_joint(name)]
    digests = [find("upstreams", own).source_sha256() for own in names]
    if len(digests) == 1:
        return digests[0]
    return sha256_json(digests) if any(digests) else None


def load(kind: str, name: str) -> Any:
    """Import what a name stands for. Raises UsageError when it cannot be imported, saying why."""
    plugin = find(kind, name)
    try:
        return plugin.load()
    except BenchError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{_SINGULAR[kind]} '{name}' ({plugin.origin}) cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error


def plugins(kind: str) -> list[Plugin]:
    """Every plug-in of a kind (s3prl's own upstreams left out), built-in ones first."""
    return [*_builtin(kind), *_entry_points(kind)]


def broken(plugin: Plugin) -> str | None:
    """Import a third-party plug-in and return its error, or None; built-in ones are not imported."""
    if plugin.origin == "built-in":
        return None
    try:
        plugin.load()
    except (Exception, SystemExit) as error:
        return f"{type(error).__name__}: {error}"
    return None


@cache
def _builtin(kind: str) -> tuple[Plugin, ...]:
    if kind == "corpora":
        from ssft_bench.corpora import CORPORA

        return tuple(
            _module_plugin(kind, name, module, class_name)
            for name, (module, class_name) in CORPORA.items()
        )
    if kind == "tasks":
        folder = _folder("ssft_bench.downstreams")
        files = sorted(folder.glob("*/task.py"))
        return tuple(
            _module_plugin(kind, f.parent.name, f"ssft_bench.downstreams.{f.parent.name}.task")
            for f in files
        )
    if kind == "methods":
        files = sorted(_folder("ssft_bench.upstreams").glob("*/method.py"))
        return tuple(
            _module_plugin(kind, f.parent.name, f"ssft_bench.upstreams.{f.parent.name}.method")
            for f in files
        )
    if kind == "interfaces":
        files = sorted(f for f in _folder("ssft_bench.interfaces").glob("*.py") if f.stem[0] != "_")
        return tuple(_module_plugin(kind, f.stem, f"ssft_bench.interfaces.{f.stem}") for f in files)
    hubs = sorted(_folder("ssft_bench.upstreams").glob("*/hubconf.py"))
    return tuple(plugin for hub in hubs for plugin in _hub_plugins(hub))


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _module_file(module: str) -> Path:
    """Path of one of our own modules, without importing it."""
    package, _, rest = module.removeprefix("ssft_bench.").partition(".")
    base = _folder(f"ssft_bench.{package}").joinpath(*rest.split("."))
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def _module_plugin(kind: str, name: str, module: str, class_name: str | None = None) -> Plugin:
    def get() -> Any:
        imported = importlib.import_module(module)
        return getattr(imported, class_name) if class_name else _only_class(kind, imported)

    summary = _first_class_line(_module_file(module), class_name)
    return Plugin(kind, name, "built-in", summary, get)


def _only_class(kind: str, module: Any) -> Any:
    """The one Interface, Task or FineTuningMethod that a module defines itself."""
    home, name = {
        "interfaces": ("ssft_bench.interface", "Interface"),
        "tasks": ("ssft_bench.task", "BaseTask"),
        "methods": ("ssft_bench.method", "FineTuningMethod"),
    }[kind]
    base = getattr(importlib.import_module(home), name)
    own = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, base)
        and value.__module__ == module.__name__
    ]
    if len(own) != 1:
        raise UsageError(
            f"{module.__file__}: expected exactly one {base.__name__} class, found {len(own)}"
        )
    return own[0]


def _first_class_line(path: Path, name: str | None = None) -> str:
    """First docstring line of the class of that `name`, else of the last public class in a file, else of
    the module; read, not imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name[0] != "_"]
    classes.sort(key=lambda node: node.name == name)  # stable: the named one comes last
    nodes: list[ast.ClassDef | ast.Module] = [*reversed(classes), tree]
    texts = [ast.get_docstring(node) for node in nodes]
    return next((text.splitlines()[0] for text in texts if text), "")


def _hub_plugins(hub: Path) -> list[Plugin]:
    """Public functions of an upstream folder's hubconf.py, s3prl's way of naming upstreams."""
    module = f"ssft_bench.upstreams.{hub.parent.name}.hubconf"

    def getter(name: str) -> Callable[[], Any]:
        return lambda: getattr(importlib.import_module(module), name)

    tree = ast.parse(hub.read_text(encoding="utf-8"))
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name[0] != "_"]
    return [
        Plugin(
            "upstreams",
            node.name,
            "built-in",
            (ast.get_docstring(node) or "").partition("\n")[0],
            getter(node.name),
        )
        for node in functions
    ]


def _entry_points(kind: str) -> list[Plugin]:
    return list(_installed(kind, tuple(sys.path)))


@cache
def _installed(kind: str, path: tuple[str, ...]) -> tuple[Plugin, ...]:
    """Plug-ins of installed packages; reading all their metadata takes milliseconds, and names are asked
    for often. `path` is where Python looks, so that what is added later is found."""
    found = []
    for point in entry_points(group=GROUPS[kind]):
        owner = point.dist.name if point.dist else "unknown distribution"
        found.append(Plugin(kind, point.name, owner, point.value, point.load))
    return tuple(found)


def _from_s3prl(name: str) -> Plugin:
    """One of s3prl's own upstreams; its hub is imported only when a name is not ours."""
    hub = s3prl_hub()
    if name.startswith("_") or name not in hub.options():
        names = [p.name for p in plugins("upstreams")] + hub.options(only_registered_ckpt=True)
        raise unknown("upstream", name, names, " 'ssft-bench list upstreams --all' shows all.")
    return Plugin("upstreams", name, "s3prl", "an upstream of s3prl", lambda: getattr(hub, name))


def _is_s3prls_own(name: str) -> bool:
    """Whether s3prl itself has an upstream of that name (ssft_bench.s3prl_hub adds others)."""
    member = getattr(s3prl_hub(), name, None)
    return callable(member) and not hasattr(member, "ssft_bench_plugin")


def s3prl_hub() -> Any:
    """The module s3prl.hub, imported without its warnings about optional packages."""
    import contextlib
    import io
    import logging
    import warnings

    if "s3prl.hub" in sys.modules:
        return sys.modules["s3prl.hub"]
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return importlib.import_module("s3prl.hub")
    finally:
        logging.disable(disabled)


def _from_file(kind: str, name: str) -> Plugin:
    """`path/to/file.py:Class`. Raises UsageError when the file or the class is not there."""
    path_text, _, class_name = name.rpartition(":")
    path = Path(path_text)
    if not path.is_file():
        raise UsageError(f"{_SINGULAR[kind]} '{name}': there is no file {path}")

    def get() -> Any:
        module = _module_of_file(path)
        if class_name not in vars(module):
            own = [
                n
                for n, v in vars(module).items()
                if n[0] != "_" and getattr(v, "__module__", "") == module.__name__
            ]
            raise unknown(f"class in {path}", class_name, own)
        return getattr(module, class_name)

    return Plugin(kind, name, str(path), "", get, source=path)


def _module_of_file(path: Path) -> ModuleType:
    """Import a file once, under a name of its own."""
    digest = sha256_json([str(path.resolve()), sha256_file(path)])
    module_name = f"ssft_bench_plugin_{digest[:12]}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module
