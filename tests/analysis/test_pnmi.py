"""PNMI and purities, alignments on the grid, codes of a codebook and of k-means."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import mutual_info_score

from ssft_bench.analysis.alignments import (
    PhoneIndex,
    aligned,
    on_grid,
    read_alignments,
    repeats,
)
from ssft_bench.analysis.codes import codebook_of
from ssft_bench.analysis.pnmi import cluster_purity, joint_counts, phone_purity, pnmi
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import MissingError, UsageError
from tests.speech import real_data


def plain_pnmi(phones: list[int], codes: list[int]) -> float:
    """By loops over frames."""
    n = len(phones)
    p = {a: phones.count(a) / n for a in set(phones)}
    q = {b: codes.count(b) / n for b in set(codes)}
    pairs = list(zip(phones, codes, strict=True))
    information = math.fsum(
        pairs.count(pair) / n * math.log(pairs.count(pair) / n / (p[pair[0]] * q[pair[1]]))
        for pair in set(pairs)
    )
    return information / -math.fsum(x * math.log(x) for x in p.values())


def drawn(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    phones = rng.integers(0, 5, 300)
    codes = np.where(rng.random(300) < 0.6, (2 * phones + 1) % 7, rng.integers(0, 7, 300))
    return phones, codes


def test_pnmi_equals_loops_and_sklearn() -> None:
    phones, codes = drawn(np.random.default_rng())
    joint = joint_counts(codes, phones, (5, 9))  # two codes are never used
    assert pnmi(joint) == pytest.approx(plain_pnmi(phones.tolist(), codes.tolist()), abs=1e-12)
    sklearns = mutual_info_score(phones, codes) / mutual_info_score(phones, phones)
    assert pnmi(joint) == pytest.approx(sklearns, abs=1e-12)
    # Divided by the entropy of the codes instead, it is another number.
    assert abs(pnmi(joint) - pnmi(joint.T)) > 1e-3


def test_pnmi_of_the_specification() -> None:
    rng = np.random.default_rng()
    counts = rng.integers(1, 50, 6)
    assert pnmi(np.diag(counts)[rng.permutation(6)]) == pytest.approx(1)
    assert pnmi(np.outer(counts, rng.integers(1, 50, 9))) == pytest.approx(0, abs=1e-12)
    many = rng.integers(0, 10, (2, 200_000))
    assert pnmi(joint_counts(many[0], many[1], (10, 10))) < 1e-3
    # Phones half and half; the code tells 3 of 4: 1 - H(1/4) / log 2.
    noise = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert pnmi(np.array([[3, 1], [1, 3]])) == pytest.approx(1 - noise / math.log(2))


def test_purities_equal_loops() -> None:
    phones, codes = drawn(np.random.default_rng())
    joint = joint_counts(codes, phones, (5, 9))
    pairs = list(zip(phones.tolist(), codes.tolist(), strict=True))
    by_code = sum(max(pairs.count((p, c)) for p in range(5)) for c in range(9)) / 300
    by_phone = sum(max(pairs.count((p, c)) for c in range(9)) for p in range(5)) / 300
    assert phone_purity(joint) == pytest.approx(by_code)
    assert cluster_purity(joint) == pytest.approx(by_phone)


@pytest.mark.parametrize(
    "joint", [np.zeros((2, 2)), np.array([[1.0, 2]]), np.array([[1.0, -1], [1, 1]]), np.ones(3)]
)
def test_pnmi_of_nothing_is_refused(joint: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"count|single phone"):
        pnmi(joint)


LINE: dict[str, Any] = {
    "file": "u1",
    "text": "the ox",
    "words": [
        ["<sil>", 0, 3, [["SIL", 0, 3]]],
        ["the(2)", 3, 4, [["DH", 3, 2], ["AH0", 5, 2]]],
        ["ox", 8, 3, [["AA1", 8, 1], ["K", 9, 1], ["S", 10, 1]]],
        ["</s>", 11, 2, [["sil", 11, 2]]],
    ],
}


def written(folder: Path, *lines: object) -> Path:
    path = folder / "alignments.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def test_alignment_gives_phones_on_the_grid(tmp_path: Path) -> None:
    one = read_alignments([written(tmp_path, LINE)])["u1"]
    assert [(w.label, w.start, w.frames) for w in one.words] == [("THE", 3, 4), ("OX", 8, 3)]
    sil = "SIL"
    expected = [sil, sil, sil, "DH", "DH", "AH", "AH", None, "AA", "K", "S", sil, sil]
    assert one.frames() == expected
    index = PhoneIndex([one], drop_silence=False)
    assert index.names == ["AA", "AH", "DH", "K", "S", "SIL"]
    dropped = PhoneIndex([one], drop_silence=True)
    unknown = [label in (sil, None) for label in expected]
    assert (dropped.labels(one) < 0).tolist() == unknown
    assert (index.labels(one) < 0).sum() == 1


def test_codes_are_repeated_to_the_grid_and_cut() -> None:
    codes, phones = on_grid(np.array([4, 5, 6]), np.arange(5), 2)
    assert codes.tolist() == [4, 4, 5, 5, 6]
    assert phones.tolist() == [0, 1, 2, 3, 4]
    assert on_grid(np.array([4, 5]), np.arange(9), 2)[1].tolist() == [0, 1, 2, 3]
    assert (repeats(320, "u"), repeats(160, "u")) == (2, 1)
    with pytest.raises(UsageError, match="200 samples"):
        repeats(200, "u")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"words": 3}, "TypeError"),
        ({"words": [["a", 0, 1]]}, "ValueError"),
        ({"words": [["a", 0, 1, [["AA", 0.5, 1]]]]}, "whole numbers"),
    ],
)
def test_broken_alignment_names_file_and_line(
    tmp_path: Path, change: dict[str, Any], what: str
) -> None:
    path = written(tmp_path, LINE, {**LINE, "file": "u2", **change})
    with pytest.raises(MissingError, match=rf"alignments\.jsonl:2 is no alignment.*{what}"):
        read_alignments([path])
    with pytest.raises(UsageError, match="u1 is aligned twice"):
        read_alignments([written(tmp_path, LINE, LINE)])


def test_no_aligned_utterance_is_said(tmp_path: Path) -> None:
    found = read_alignments([written(tmp_path, LINE)])
    row = Utterance("u1", tmp_path / "a.wav", "test")
    other = Utterance("other", tmp_path / "b.wav", "test")
    assert aligned([other, row], found, "c") == [row]
    with pytest.raises(MissingError, match=r"none of the 1 utterances of c .*'u1'.*'other'"):
        aligned([other], found, "c")


def test_recorded_alignments_are_read() -> None:
    found = read_alignments(sorted(real_data("alignments").glob("an4_*.jsonl")))
    assert len(found) == 952
    index = PhoneIndex(list(found.values()), drop_silence=True)
    assert 30 <= len(index) <= 39
    assert not [name for name in index.names if any(c.isdigit() for c in name)]


def carrier(given: object, dims: tuple[int, ...] = (5, 6)) -> Any:
    spec = SimpleNamespace(name="spin", num_layers=len(dims), dims=dims)
    return SimpleNamespace(spec=spec, expert=SimpleNamespace(codebook_of_layer=given))


def test_codebook_gives_the_code_of_the_largest_cosine() -> None:
    rng = np.random.default_rng()
    weight, bias, book = rng.normal(size=(4, 6)), rng.normal(size=4), rng.normal(size=(9, 4))
    tensors = tuple(torch.from_numpy(a).float().requires_grad_() for a in (weight, bias, book))
    frames = rng.normal(size=(20, 6)).astype(np.float32)
    for given in ((-1, *tensors), lambda: (1, *tensors)):
        found = codebook_of(carrier(given))
        assert found is not None
        assert (found.layer, found.count) == (1, 9)
        expected: list[int] = []
        for frame in frames:
            z = weight @ frame + bias
            z /= math.sqrt(z @ z)
            expected.append(int(np.argmax([float(code @ z) for code in book])))
        assert found.codes(frames).tolist() == expected
    without_head_bias = codebook_of(carrier((1, tensors[0], 0 * tensors[1], tensors[2])))
    assert without_head_bias is not None
    assert without_head_bias.codes(frames).tolist() != expected


def test_codebook_that_does_not_fit_is_refused() -> None:
    good = (torch.zeros(4, 6), torch.zeros(4), torch.zeros(9, 4))
    assert codebook_of(carrier(None)) is None
    assert codebook_of(SimpleNamespace(spec=None)) is None  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="layer 0 is 5 wide"):
        codebook_of(carrier((0, *good)))
    with pytest.raises(UsageError, match="codebook"):
        codebook_of(carrier((1, good[0], good[1], torch.zeros(9, 3))))
