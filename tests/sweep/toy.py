"""A small grid on the toy corpus: two interfaces on the toy upstream, learned in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ssft_bench import results

STEPS = 40
RECIPE = (
    f"train.steps={STEPS}", "train.eval_every=20", "train.save_every=5", "train.optimizer.lr=0.02",
    "data.batch_size=8",
)  # fmt: skip
BREAKS = '''
"""An interface whose forward pass fails."""
from ssft_bench.interface import Interface


class Breaks(Interface):
    def combine(self, states):
        raise RuntimeError("this one always breaks")
'''


def write_grid(path: Path, corpus: Path, plugins: Path, **changes: Any) -> Path:
    """A sweep file for the toy corpus; `changes` replace keys."""
    values = {
        "upstreams": [
            f"{plugins}/spectrum.py:Spectrum",
            f"{plugins}/spectrum.py:Spectrum:gain=2.0",
        ],
        "interfaces": ["weighted_sum", "last"],
        "tasks": ["pr"],
        "corpus": "an4",
        "data": str(corpus),
        "set": list(RECIPE),
        **changes,
    }
    path.write_text(yaml.safe_dump(values))
    return path


def table(out: Path) -> dict[str, Any]:
    """What must be the same however a sweep went: by signature, scores, curve and predictions."""
    keep = ("status", "metrics", "learning_curve", "selection", "interface_state")
    found = {}
    for folder, record in results.find_all(out):
        values = record.model_dump(mode="json")
        digest = record.predictions.get("sha256")
        found[folder.name] = {**{key: values[key] for key in keep}, "predictions": digest}
    return found
