"""The YAML head of a card, in the fields of Hugging Face's model cards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from ssft_bench.results import ResultRecord

UNKNOWN = "unknown"
"""Hugging Face's word where no licence of the weights is told."""


def front_matter(
    name: str,
    records: Sequence[ResultRecord],
    *,
    tags: Iterable[str],
    base: str,
    corpora: Iterable[str],
    licence: str | None,
) -> str:
    """YAML without its fences; scores are the records' own, unrounded."""
    fields: dict[str, Any] = {
        "license": licence or UNKNOWN,
        "library_name": "s3prl",
        "base_model": base,
        "datasets": sorted(set(corpora)),
        "tags": ["speech", "self-supervised-learning", "ssft-bench", *tags],
    }
    found = [_result(record) for record in records]
    if found:
        fields["metrics"] = sorted({m["type"] for one in found for m in one["metrics"]})
        fields["model-index"] = [{"name": name, "results": found}]
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=10_000)


TASK_TYPES = {"asr": "automatic-speech-recognition", "ner": "token-classification"}
"""Hugging Face's names of tasks, where it has one that fits."""


def _result(record: ResultRecord) -> dict[str, Any]:
    spec = record.spec
    return {
        "task": {"type": TASK_TYPES.get(spec.task.name, spec.task.name), "name": spec.task.name},
        "dataset": {
            "type": spec.data.corpus,
            "name": f"{spec.data.corpus} (suite {spec.suite})",
            "split": "test",
        },
        "metrics": [
            {
                "type": m.name,
                "value": m.value,
                "name": f"{m.label}, {spec.interface_label}, {spec.protocol}, seed {spec.seed}",
            }
            for m in record.metrics
            if m.split == "test"
        ],
    }
