"""How much codes of frames tell of phones: PNMI and purities, as HuBERT and Spin report them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssft_bench.analysis.alignments import Alignment, Labels, PhoneIndex, aligned, on_grid, repeats
from ssft_bench.analysis.codes import Codes
from ssft_bench.analysis.report import Column, Report
from ssft_bench.analysis.sources import Speech, hidden
from ssft_bench.errors import UsageError
from ssft_bench.upstream import Upstream

Counts = NDArray[np.float64]

COLUMNS = (
    Column("upstream", "upstream"),
    Column("layer", "layer"),
    Column("codes", "codes"),
    Column("used", "codes_used"),
    Column("PNMI", "pnmi", ".4f"),
    Column("PNMI shuffled", "pnmi_shuffled", ".4f"),
    Column("phone purity", "phone_purity", ".4f"),
    Column("cluster purity", "cluster_purity", ".4f"),
    Column("frames of 10 ms", "frames", ","),
)
NOTES = (
    "PNMI: I(phone; code) / H(phone), 1 is best. Shuffled: the same codes in random order, what this "
    "number of codes gets by chance. PNMI grows with the number of codes: compare equal ones.",
    "Phone purity: share of frames whose phone is the most frequent one of their code. Cluster "
    "purity: share of frames whose code is the most frequent one of their phone (falls with more codes).",
    "Codes are repeated to 10 ms and cut with the phones to the shorter; stress digits are removed.",
)


def pnmi(joint: Counts) -> float:
    """I(phone; code) / H(phone) of counts [phones, codes] (Hsu et al., HuBERT, 2021, section IV-A).

    Raises ValueError when counts are negative or empty, or hold one phone only: H(phone) is then 0.
    """
    p = _checked(joint)
    phone, code = p.sum(axis=1), p.sum(axis=0)
    entropy = -_sum_x_log_y(phone, phone)
    if entropy <= 0:
        raise ValueError("PNMI is not defined for a single phone")
    independent = np.outer(phone, code)
    seen = p > 0
    information = float((p[seen] * (np.log(p[seen]) - np.log(independent[seen]))).sum())
    return max(0.0, information) / entropy  # rounding can leave -1e-17 for independent codes


def phone_purity(joint: Counts) -> float:
    """Sum over codes of the joint probability with their most likely phone; counts [phones, codes]."""
    return float(_checked(joint).max(axis=0).sum())


def cluster_purity(joint: Counts) -> float:
    """Sum over phones of the joint probability with their most likely code; counts [phones, codes]."""
    return float(_checked(joint).max(axis=1).sum())


def _sum_x_log_y(x: Counts, y: Counts) -> float:
    seen = x > 0
    return float((x[seen] * np.log(y[seen])).sum())


def _checked(joint: Counts) -> Counts:
    counts = np.asarray(joint, np.float64)
    if counts.ndim != 2 or not (counts >= 0).all() or not 0 < counts.sum() < np.inf:
        raise ValueError("expected non-negative counts [phones, codes] with a positive sum")
    return np.asarray(counts / counts.sum())


def joint_counts(codes: Labels, phones: Labels, size: tuple[int, int]) -> Counts:
    """Counts [phones, codes] of frames; those without a phone (-1) are left out."""
    known = phones >= 0
    flat = np.bincount(phones[known] * size[1] + codes[known], minlength=size[0] * size[1])
    return flat.reshape(size).astype(np.float64)


@dataclass(frozen=True)
class Phones:
    """Utterances with the phones of their frames."""

    speech: Speech
    alignments: dict[str, Alignment]
    drop_silence: bool = False
    max_seconds: float | None = 10.0
    """Utterances are cut after this time; Spin cuts at 160,000 samples."""

    def described(self) -> list[str]:
        """Notes on what was measured."""
        with_phones = len(self.utterances())
        silence = "left out" if self.drop_silence else "kept as a phone"
        cut = f" and cut to {self.max_seconds:g} s" if self.max_seconds else ""
        return [
            f"{self.speech.origin}, {with_phones} of them with an alignment{cut}; silence {silence}."
        ]

    def utterances(self) -> list[Any]:
        """Those with an alignment. Raises MissingError when there is none."""
        return aligned(self.speech.utterances, self.alignments, self.speech.origin)


def measure(upstream: Upstream, coders: Sequence[Codes], phones: Phones, seed: int) -> list[Any]:
    """One row per coder: PNMI, purities, and PNMI of the same codes in random order."""
    rows = phones.utterances()
    index = PhoneIndex([phones.alignments[r.id] for r in rows], drop_silence=phones.drop_silence)
    layers = sorted({coder.layer for coder in coders})
    found: list[list[tuple[Labels, Labels]]] = [[] for _ in coders]
    states = hidden(upstream, rows, layers, max_seconds=phones.max_seconds)
    for row, each in zip(rows, states, strict=True):
        labels = index.labels(phones.alignments[row.id])
        for place, coder in enumerate(coders):
            times = repeats(upstream.spec.strides[coder.layer], upstream.spec.name)
            codes = coder.codes(each[layers.index(coder.layer)].numpy())
            found[place].append(on_grid(codes, labels, times))
    if len(index) < 2:
        raise UsageError("--alignments: PNMI needs at least two phones")
    return [
        {"upstream": upstream.spec.name, **_row(coder, pairs, len(index), seed)}
        for coder, pairs in zip(coders, found, strict=True)
    ]


def _row(
    coder: Codes, pairs: Sequence[tuple[Labels, Labels]], phones: int, seed: int
) -> dict[str, Any]:
    codes, labels = (np.concatenate(column) for column in zip(*pairs, strict=True))
    known = labels >= 0
    codes, labels = codes[known], labels[known]
    size = (phones, coder.count)
    joint = joint_counts(codes, labels, size)
    shuffled = joint_counts(np.random.default_rng(seed).permutation(codes), labels, size)
    return {
        "layer": coder.layer,
        "codes": f"{coder.count} {coder.kind}",
        "codes_used": int((joint.sum(axis=0) > 0).sum()),
        "pnmi": pnmi(joint),
        "pnmi_shuffled": pnmi(shuffled),
        "phone_purity": phone_purity(joint),
        "cluster_purity": cluster_purity(joint),
        "frames": int(joint.sum()),
    }


def report(rows: list[dict[str, Any]], phones: Phones, settings: dict[str, Any]) -> Report:
    """The table over upstreams and layers."""
    notes = [*phones.described(), *NOTES]
    return Report("pnmi", "Phones in codes", COLUMNS, rows, settings, notes)
