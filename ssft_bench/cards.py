"""`ssft-bench show`: what a name stands for, with resolved defaults."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import yaml

from ssft_bench import registry
from ssft_bench.names import unknown
from ssft_bench.suites import SUITES


def describe(name: str) -> dict[str, Any]:
    """Kind, origin, summary, options and recipe of every plug-in of that name.

    Raises UsageError when no kind knows it.
    """
    if name in SUITES:
        return {"suite": {"name": name, "summary": SUITES[name]}}
    found: dict[str, Any] = {}
    for kind in registry.KINDS:
        for plugin in registry.plugins(kind):
            if plugin.name == name:
                found[kind] = _card(plugin)
    if not found and ".py:" in name:
        found = {"plug-in": _card(registry.find("interfaces", name))}
    if not found:
        names = [p.name for kind in registry.KINDS for p in registry.plugins(kind)]
        raise unknown("name", name, [*names, *SUITES])
    return found


def _card(plugin: registry.Plugin) -> dict[str, Any]:
    card: dict[str, Any] = {"name": plugin.name, "origin": plugin.origin, "summary": plugin.summary}
    error = registry.broken(plugin)
    if error:
        return {**card, "broken": error}
    target = plugin.load()
    card["documentation"] = inspect.getdoc(target) or ""
    if plugin.kind == "tasks":
        from ssft_bench.spec import load_recipes

        card["protocols"] = list(target.protocols)
        card["metrics"] = [m.name for m in target.metrics]
        card["recipes"] = load_recipes(target)
    elif plugin.kind == "corpora":
        fields = ("licence", "source", "synthetic", "tasks", "phone_set", "needs_root")
        card |= {field: getattr(target, field) for field in fields}
    else:
        card["options"] = _options(target)
    if plugin.kind == "upstreams" and plugin.origin == "built-in":
        card["model_card"] = _model_card(target)
    return card


def _options(target: Any) -> dict[str, Any]:
    """Keyword options with their defaults."""
    parameters = inspect.signature(target).parameters.values()
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    named = [p for p in parameters if p.name != "spec" and p.kind not in kinds]
    return {p.name: None if p.default is p.empty else p.default for p in named}


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
    """Tuples as lists: YAML has no tuples."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
