"""`ssft-bench show`: what a name stands for, with resolved defaults."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ssft_bench import registry
from ssft_bench.errors import UsageError
from ssft_bench.names import split_options, unknown
from ssft_bench.suites import SUITES

SIZES = ((13, 768), (25, 768), (13, 1024), (25, 1024))
"""Layers and width: Base and Large models, and each with the other's width."""


def describe(name: str) -> dict[str, Any]:
    """Kind, origin, summary, options and recipe of every plug-in of that name.

    `interface:option=value` shows an interface's sizes with those options. Raises UsageError when no
    kind knows the name.
    """
    name, options = split_options(name, "show")
    if ".py:" in name:
        kind = _kind(registry.load("interfaces", name))
        return {kind: _card(registry.find(kind, name), options)}
    names = {kind: [p.name for p in registry.plugins(kind)] for kind in registry.KINDS}
    kinds = [kind for kind in registry.KINDS if name in names[kind]]
    if not kinds and name not in SUITES:
        s3prls = registry.s3prl_hub().options(only_registered_ckpt=True)
        if name not in registry.s3prl_hub().options():
            ours = [n for kind in registry.KINDS for n in names[kind]]
            raise unknown("name", name, [*ours, *SUITES, *s3prls])
        kinds = ["upstreams"]
    suite = {"suites": {"name": name, "summary": SUITES[name]}} if name in SUITES else {}
    if options and kinds != ["interfaces"]:
        raise UsageError(f"show {name}: options are shown for interfaces only")
    return suite | {kind: _card(registry.find(kind, name), options) for kind in kinds}


def _kind(target: Any) -> str:
    """Which kind of plug-in a class from a file is; an upstream may be any callable."""
    from ssft_bench.corpora.base import Corpus
    from ssft_bench.interface import Interface
    from ssft_bench.method import FineTuningMethod
    from ssft_bench.task import BaseTask

    bases = {
        "interfaces": Interface,
        "tasks": BaseTask,
        "corpora": Corpus,
        "methods": FineTuningMethod,
    }
    own = [k for k, base in bases.items() if inspect.isclass(target) and issubclass(target, base)]
    return own[0] if own else "upstreams"


def _card(plugin: registry.Plugin, options: Mapping[str, Any]) -> dict[str, Any]:
    card: dict[str, Any] = {"name": plugin.name, "origin": plugin.origin, "summary": plugin.summary}
    error = registry.broken(plugin)
    if error:
        return {**card, "broken": error}
    target = registry.load(plugin.kind, plugin.name)
    card["documentation"] = inspect.getdoc(target) or ""
    if plugin.kind == "tasks":
        from ssft_bench.recipes import load_recipes

        card["protocols"] = list(target.protocols)
        card["metrics"] = [m.name for m in target.metrics]
        card["recipes"] = load_recipes(target)
    elif plugin.kind == "methods":
        from ssft_bench.tuning.spec import load_recipes as load_method_recipes

        card["options"] = target.Options().model_dump()
        card["faithful"] = dict(target.faithful)
        card["recipes"] = load_method_recipes(target)
        card["model_card"] = _model_card(target)
    elif plugin.kind == "corpora":
        fields = ("licence", "source", "synthetic", "tasks", "phone_set", "needs_root")
        card |= {field: getattr(target, field) for field in fields}
    else:
        card["options"] = _options(target)
    if plugin.kind == "interfaces":
        card["sizes"] = _sizes(target, options, f"show {plugin.name}")
    if plugin.kind == "upstreams" and plugin.origin == "built-in":
        card["model_card"] = _model_card(target)
    return card


def _sizes(target: Any, options: Mapping[str, Any], flag: str) -> dict[str, dict[str, int]]:
    """Parameters, other stored numbers and output width for Base and Large models' hidden states."""
    import torch

    from ssft_bench.hidden_states import UpstreamSpec
    from ssft_bench.interface import build_interface

    sizes = {}
    for layers, dim in SIZES:
        with torch.device("meta"):
            spec = UpstreamSpec(f"{layers} x {dim}", (dim,) * layers, (320,) * layers)
            built = build_interface(target, spec, options, flag)
        trained = sum(p.numel() for p in built.parameters())
        everything = sum(value.numel() for value in built.state_dict().values())
        sizes[f"{layers} layers of {dim}"] = {
            "parameters": trained,
            "stored beside them": everything - trained,
            "output_dim": built.output_dim,
        }
    return sizes


def _options(target: Any) -> dict[str, Any]:
    """Keyword options with their defaults."""
    # A class of s3prl has a metaclass that hides its own parameters.
    callee = target.__init__ if inspect.isclass(target) else target
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    named = [
        p
        for p in inspect.signature(callee).parameters.values()
        if p.name not in ("self", "spec") and p.kind not in kinds
    ]
    return {p.name: None if p.default is p.empty else _plain(p.default) for p in named}


def _model_card(target: Any) -> str:
    path = Path(inspect.getfile(target)).with_name("README.md")
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def text(card: dict[str, Any]) -> str:
    """The card as YAML, long texts last and as they are."""
    parts = []
    for kind, values in card.items():
        long = {k: v for k, v in values.items() if isinstance(v, str) and "\n" in v}
        short = {k: v for k, v in values.items() if k not in long}
        parts.append(yaml.safe_dump({kind: _plain(short)}, sort_keys=False, allow_unicode=True))
        parts += [f"{key}:\n\n{value}\n" for key, value in long.items()]
    return "\n".join(parts)


def _plain(value: Any) -> Any:
    """What JSON and YAML can say: tuples as lists, anything else as its text."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if isinstance(value, str | int | float | None) else str(value)
