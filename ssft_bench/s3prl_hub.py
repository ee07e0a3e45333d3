"""Puts our upstreams into `s3prl.hub`, so that `S3PRLUpstream("hubert_mini")` works in anyone's code.

`s3prl.hub` takes seconds to import, so it is not imported here: its names are added when somebody
else imports it, or at once when that has happened already.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

HUB = "s3prl.hub"


def _lazy(name: str, load: Callable[[], Any]) -> Callable[..., Any]:
    def build(*args: Any, **kwargs: Any) -> Any:
        # s3prl's runner hands every upstream these two, set or not.
        unset = [k for k in ("ckpt", "model_config") if k in kwargs and kwargs[k] is None]
        return load()(*args, **{k: v for k, v in kwargs.items() if k not in unset})

    build.__name__ = name
    build.ssft_bench_plugin = True  # type: ignore[attr-defined]  # tells ours from s3prl's own
    return build


def add_names(hub: ModuleType) -> None:
    """Add every upstream of ours and of plug-ins that s3prl does not have; never replace one."""
    from ssft_bench import registry

    for plugin in registry.plugins("upstreams"):
        if not hasattr(hub, plugin.name):
            setattr(hub, plugin.name, _lazy(plugin.name, plugin.load))


class _Loader(importlib.abc.Loader):
    """Runs the real loader, then adds our names."""

    def __init__(self, real: importlib.abc.Loader) -> None:
        self.real = real

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.real.exec_module(module)
        add_names(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds `s3prl.hub` as usual and wraps its loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != HUB:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


def install() -> None:
    """Called once, on `import ssft_bench`."""
    if HUB in sys.modules:
        add_names(sys.modules[HUB])
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
