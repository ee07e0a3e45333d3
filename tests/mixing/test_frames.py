"""Blocks: every real frame once, in order."""

from __future__ import annotations

import random

import pytest
import torch

from ssft_bench.mixing.frames import Block, blocks, zero_padding
from tests.mixing.padded import seeds


def frames_of(block: Block) -> list[tuple[int, int]]:
    return [
        (piece.row, frame) for piece in block.pieces for frame in range(piece.start, piece.stop)
    ]


def random_lengths(draw: random.Random) -> list[int]:
    return [draw.choice([0, 0, 1, 2, draw.randint(0, 40)]) for _ in range(draw.randint(0, 8))]


@seeds
def test_every_real_frame_once_and_in_order(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(200):
        lengths, size = random_lengths(draw), draw.randint(1, 12)
        made = list(blocks(lengths, size))
        wanted = [(row, frame) for row, length in enumerate(lengths) for frame in range(length)]
        assert [place for block in made for place in frames_of(block)] == wanted
        assert all(block.size == size for block in made[:-1])
        assert all(0 < block.size <= size for block in made[-1:])
        for number, block in enumerate(made):
            assert block.offset == number * size
            assert frames_of(block) == wanted[block.rows]
            assert all(piece.start < piece.stop for piece in block.pieces)


@pytest.mark.parametrize("lengths", [[], [0], [0, 0, 0]])
def test_no_frames_no_blocks(lengths: list[int]) -> None:
    assert list(blocks(lengths, 3)) == []


@seeds
def test_gather_and_scatter(seed: int) -> None:
    draw = random.Random(seed)
    lengths = [*random_lengths(draw), 5]
    frames = max(lengths) + 1
    state = torch.randn(frames, len(lengths), 3).transpose(0, 1)
    out = torch.full_like(state, torch.nan)
    real = torch.arange(frames) < torch.tensor(lengths).unsqueeze(1)
    gathered = []
    for block in blocks(lengths, 4):
        gathered.append(block.gather(state, torch.empty(block.size, 3, dtype=torch.float64)))
        block.scatter(gathered[-1], out)
    assert torch.equal(torch.cat(gathered), state[real].double())
    assert torch.equal(out[real], state[real])
    assert out[~real].isnan().all()
    zero_padding(out, lengths)
    assert torch.equal(out, state.masked_fill(~real.unsqueeze(-1), 0.0))
