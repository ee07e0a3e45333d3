"""NIST's own MAPSSWE: `sc_stats` of SCTK, given our alignments. Public domain; built from source.

`python -m tests.comparison.sctk FOLDER_OF_BINARIES` writes `sctk_mapsswe.json` anew.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssft_bench.downstreams.edit_distance import error_rate_metric
from ssft_bench.metric import Prediction

RECORDED = Path(__file__).with_name("sctk_mapsswe.json")
WER = error_rate_metric("wer", primary=True)
LETTERS = {"equal": "C", "substitute": "S", "insert": "I", "delete": "D"}


def texts(
    rng: np.random.Generator, utterances: int, rates: tuple[float, float]
) -> tuple[list[Prediction], list[Prediction]]:
    """Two systems' hypotheses of the same sentences, words lost, changed and put in at these rates."""
    both: tuple[list[Prediction], list[Prediction]] = ([], [])
    for i in range(utterances):
        words = [f"w{w}" for w in rng.integers(9, size=rng.integers(1, 12))]
        for found, rate in zip(both, rates, strict=True):
            said = []
            for word in words:
                kind = rng.choice(["same", "lost", "other", "more"], p=[1 - rate, *3 * [rate / 3]])
                said += {"same": [word], "lost": [], "other": ["x"], "more": [word, "y"]}[str(kind)]
            found.append(
                Prediction(f"s{i % 3}-{i:03}", " ".join(words), " ".join(said), f"s{i % 3}")
            )
    return both


def sgml(title: str, rows: Sequence[Prediction]) -> str:
    """The alignments of a system as sclite writes them."""
    lines = [f'<SYSTEM title="{title}" ref_fname="r" hyp_fname="h" creation_date="0" format="2.4" '
             'frag_corr="FALSE" opt_del="FALSE" weight_ali="FALSE" weight_filename="">']  # fmt: skip
    assert WER.alignment is not None
    for speaker in sorted({str(p.speaker) for p in rows}):
        lines.append(f'<SPEAKER id="{speaker}">')
        for number, p in enumerate(q for q in rows if q.speaker == speaker):
            said, heard, parts = p.reference.split(), p.hypothesis.split(), []
            for chunk in WER.alignment(p):
                span = max(
                    chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx
                )
                for k in range(span):
                    one = f'"{said[chunk.ref_start_idx + k]}"' if chunk.type != "insert" else ""
                    two = f'"{heard[chunk.hyp_start_idx + k]}"' if chunk.type != "delete" else ""
                    parts.append(f"{LETTERS[chunk.type]},{one},{two}")
            lines.append(f'<PATH id="({p.id})" word_cnt="{len(parts)}" sequence="{number}">')
            lines += [":".join(parts), "</PATH>"]
        lines.append("</SPEAKER>")
    return "\n".join([*lines, "</SYSTEM>", ""])


def mapsswe(sc_stats: str, a: Sequence[Prediction], b: Sequence[Prediction]) -> dict[str, float]:
    """Segments, mean, deviation and Z as `sc_stats -t mapsswe -v` prints them, to three decimals."""
    printed = subprocess.run(
        [sc_stats, "-p", "-t", "mapsswe", "-v", "-n", "-"], input=sgml("A", a) + sgml("B", b),
        text=True, check=True, capture_output=True,
    ).stdout  # fmt: skip
    found = re.search(
        r"# segs: (\d+)\).*mean: (\S+)\) \(std dev: (\S+)\) \(Z Stat: (\S+)\)", printed
    )
    assert found, printed
    return dict(
        zip(("segments", "mean", "deviation", "z"), map(float, found.groups()), strict=True)
    )


def main() -> None:
    """Record what NIST's program says of random systems."""
    rng = np.random.default_rng(20261125)
    cases: list[dict[str, Any]] = []
    for rates in [(0.1, 0.1), (0.1, 0.3), (0.5, 0.3), (0.02, 0.04), (0.3, 0.3), (0.8, 0.7)]:
        a, b = texts(rng, 20, rates)
        said = mapsswe(f"{sys.argv[1]}/sc_stats", a, b)
        rows = [[p.id, p.reference, p.hypothesis, q.hypothesis] for p, q in zip(a, b, strict=True)]
        cases.append({"rows": rows, "sctk": said})
    RECORDED.write_text(
        json.dumps(
            {"sctk": "sc_stats 1.3 (github.com/usnistgov/SCTK, commit 9688a26)", "cases": cases},
            indent=0,
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
