"""`stdlist.xml`: detections as NIST's and MediaEval's scorers read them, laid out as s3prl writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from ssft_bench.downstreams.qbe.mtwv import DECISION
from ssft_bench.downstreams.qbe.trials import Scores
from ssft_bench.files import atomic_path

NAME = "benchmark.stdlist.xml"
_HEAD = (
    f'<stdlist termlist_filename="{NAME}" indexing_time="1.00" language="english" index_size="1" '
    'system_id="benchmark">\n'
)


def write_stdlist(
    folder: Path, queries: Sequence[str], documents: Sequence[str], scores: Scores
) -> Path:
    """Write the scores [queries, documents], 4 decimals, with a YES above `DECISION`; return the path."""
    names = [_quoted(name) for name in documents]
    path = folder / NAME
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(_HEAD)
        for query, row in zip(queries, scores.tolist(), strict=True):
            name = _quoted(query)
            file.write(
                f'  <detected_termlist termid={name} term_search_time="1.0" oov_term_count="1">\n'
            )
            file.writelines(
                f'    <term file={document} channel="1" tbeg="0.000" dur="0.00" score="{score:.4f}" '
                f'decision="{"YES" if score > DECISION else "NO"}"/>\n'
                for document, score in zip(names, row, strict=True)
            )
            file.write("  </detected_termlist>\n")
        file.write("</stdlist>\n")
    return path


def _quoted(value: str) -> str:
    return '"' + escape(value, {'"': "&quot;"}) + '"'
