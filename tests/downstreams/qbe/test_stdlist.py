"""The file for the official scorer, byte for byte as lxml writes s3prl's tree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from lxml import etree

from ssft_bench.downstreams.qbe.stdlist import write_stdlist


def test_byte_for_byte(rng: np.random.Generator, tmp_path: Path) -> None:
    queries, documents = ["q1", "q<2>"], ["d1", 'd&"2"', "d3"]
    scores = np.array([[2.0, 2.00001, -0.33335], rng.standard_normal(3)])
    path = write_stdlist(tmp_path, queries, documents, scores)
    root = etree.Element(
        "stdlist", termlist_filename="benchmark.stdlist.xml", indexing_time="1.00",
        language="english", index_size="1", system_id="benchmark",
    )  # fmt: skip
    for query, row in zip(queries, scores, strict=True):
        own = etree.SubElement(
            root, "detected_termlist", termid=query, term_search_time="1.0", oov_term_count="1"
        )
        for document, score in zip(documents, row, strict=True):
            etree.SubElement(
                own, "term", file=document, channel="1", tbeg="0.000", dur="0.00",
                score=f"{score:.4f}", decision="YES" if score > 2.0 else "NO",
            )  # fmt: skip
    wanted = tmp_path / "wanted.xml"
    etree.ElementTree(root).write(str(wanted), encoding="UTF-8", pretty_print=True)
    assert path.name == "benchmark.stdlist.xml"
    read_back = etree.parse(str(path)).getroot()
    assert [t.get("file") for t in read_back[1]] == documents
    assert [t.get("decision") for t in read_back[0]] == ["NO", "YES", "NO"]
    assert path.read_bytes() == wanted.read_bytes()
