"""Names and options as they are written on the command line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

import yaml

from ssft_bench.errors import UsageError

_EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")


def unknown(kind: str, name: str, known: Iterable[str], hint: str = "") -> UsageError:
    """The error for a name nobody knows, with what the user may have meant.

    `known` names are shown in their order, the first twenty of them.
    """
    names = list(dict.fromkeys(known))
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    meant = f" Did you mean {' or '.join(close)}?" if close else ""
    shown = ", ".join(names) if len(names) <= 20 else ", ".join(names[:20]) + ", ..."
    return UsageError(f"unknown {kind} '{name}'.{meant} Known: {shown}.{hint}")


def split_options(text: str, flag: str) -> tuple[str, dict[str, Any]]:
    """Split `name:option=value,option=value` or `path/file.py:Class:option=value`.

    Values are read as YAML scalars. Raises UsageError for an option without `=`.
    """
    head, file, tail = text.partition(".py:")
    if file:
        class_name, _, options = tail.partition(":")
        name = f"{head}.py:{class_name}"
    else:
        name, _, options = text.partition(":")
    pairs = [part for part in options.split(",") if part]
    values = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"{flag} {text}: '{pair}' is not of the form option=value")
        values[key.strip()] = parse_scalar(value)
    return name, values


def parse_scalar(text: str) -> Any:
    """A value from the command line, read as YAML, but 1e-4 needs no dot to be a number."""
    if _EXPONENT.fullmatch(text.strip()):
        return float(text)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def metric_name(name: str) -> str:
    """A metric's name as people write it: `per` is PER, `macro_f1` MACRO F1."""
    return name.upper().replace("_", " ")
