"""Training and testing with neighbours: losses by id, gradients, vectors that are handed on."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ssft_bench.corpora.manifest import Utterance
from ssft_bench.upstreams.context.neighbours import Neighbours
from tests.upstreams.context.segments import DIM, WIDTH, begin, context, step, waves_of
from tests.upstreams.context.test_loss import plain_distance
from tests.upstreams.tiny import write_tiny

SEEDS = [1, secrets.randbelow(2**31)]


@pytest.mark.parametrize("seed", SEEDS)
def test_auxiliary_loss_by_ids(
    tiny_file: Path, rows: list[Utterance], tmp_path: Path, seed: int
) -> None:
    """Against loops over vectors of single utterances; a shuffled batch gives the same."""
    upstream = context(write_tiny(tmp_path, seed=4, dim=DIM), alpha=0.5)  # no dropout
    expert = begin(upstream, rows, tmp_path)
    vectors = {}
    upstream.eval()
    for row, wave in zip(rows, waves_of(rows), strict=True):
        with torch.no_grad():
            z = expert._base[0]([wave])["hidden_states"][-1]
            vectors[row.id] = expert.context(z, torch.tensor([z.shape[1]]))[0].tolist()
    near = {"s0": ["s1"], "s1": ["s0", "s2"], "s2": ["s1"], "t0": ["t1"], "t1": ["t0"]}

    def wanted(batch: list[Utterance]) -> float:
        means = [
            np.mean([plain_distance(vectors[r.id], vectors[o], "cosine") for o in near[r.id]])
            for r in batch
            if r.id in near
        ]
        return 0.5 * float(np.mean(means)) if means else 0.0

    order = np.random.default_rng(seed).permutation(len(rows))
    for batch in (rows, [rows[i] for i in order], rows[1:2], [rows[0], rows[4]], rows[3:4]):
        for together in (True, False):
            got, logs, _ = step(upstream, batch, together=together)
            assert got.item() == pytest.approx(wanted(batch), rel=1e-4, abs=1e-7)
            assert logs["context_distance"] == pytest.approx(got.item() / 0.5)
    by_place = np.mean([plain_distance(vectors[a.id], vectors[b.id], "cosine")
                        for a, b in ((rows[0], rows[4]), (rows[4], rows[0]))])  # fmt: skip
    assert wanted([rows[0], rows[4]]) != pytest.approx(0.5 * by_place, rel=1e-3)  # the control
    alone = context(write_tiny(tmp_path, seed=4, dim=DIM), alpha=0.5, outside="skip")
    begin(alone, rows, tmp_path)
    assert step(alone, [rows[0], rows[4]])[0].item() == 0


@pytest.mark.parametrize("which", [slice(None), slice(2, 4)])
def test_alpha_0_is_module_only_to_the_bit(
    tiny_file: Path, rows: list[Utterance], tmp_path: Path, which: slice
) -> None:
    runs, drawn = {}, []
    for name, options in {
        "alpha": {"alpha": 0},
        "module": {"mode": "module_only"},
        "on": {},
    }.items():
        upstream = context(tiny_file, **options)
        begin(upstream, rows, tmp_path)
        runs[name] = step(upstream, rows[which])
        drawn.append(torch.get_rng_state())
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(
        drawn[0], drawn[2]
    )  # what is encoded on the way takes no chance from the task
    assert runs["alpha"][0].item() == runs["module"][0].item() == 0
    assert runs["alpha"][1] == runs["module"][1]
    ours, theirs, other = (runs[name][2] for name in ("alpha", "module", "on"))
    assert ours.keys() == theirs.keys() == other.keys()
    assert all(torch.equal(ours[n], theirs[n]) for n in ours)
    assert any(not torch.equal(ours[n], other[n]) for n in ours)


@pytest.mark.parametrize("stop_grad", [True, False])
def test_gradient_to_the_neighbours_frames(
    tiny_file: Path, rows: list[Utterance], tmp_path: Path, stop_grad: bool
) -> None:
    """Only `s0` looks at a neighbour (offset +1, and `s1`'s is out of the corpus): is `s1` heard?"""
    upstream = context(tiny_file, offsets="+1", stop_grad=stop_grad)
    expert = begin(upstream, rows[:2], tmp_path)
    upstream.train()
    frames: list[Tensor] = []

    def listen(module: Any, inputs: Any, output: Any) -> None:
        inputs[0].retain_grad()
        frames.append(inputs[0])

    expert.context.register_forward_hook(listen)
    expert.expect(rows[:2])
    upstream(waves_of(rows[:2]))
    expert.auxiliary_loss(rows[:2])[0].backward()
    assert len(frames) == 1
    grad = frames[0].grad
    assert grad is not None
    assert grad[0].any()
    assert bool(grad[1].any()) != stop_grad


def test_the_transformer_frozen_the_module_learns(
    tiny_file: Path, rows: list[Utterance], tmp_path: Path
) -> None:
    upstream = context(tiny_file)
    expert = begin(upstream, rows, tmp_path)
    for name, parameter in expert.named_parameters():
        parameter.requires_grad_(name.startswith(expert.always_trained))
    extra, _, gradients = step(upstream, rows)
    assert extra.item() > 0
    assert set(gradients) == {n for n, _ in expert.named_parameters() if n.startswith("context.")}
    assert gradients["context.output.weight"].any()


def test_at_test_time_aware_needs_no_neighbours(
    tiny_file: Path, rows: list[Utterance], tmp_path: Path
) -> None:
    """The neighbours' files are gone; inject, the control, says something else then."""
    found: dict[str, list[Tensor]] = {"aware": [], "inject": []}
    for mode, outputs in found.items():
        upstream = context(tiny_file, mode=mode)
        expert = begin(upstream, rows, tmp_path)
        waves = waves_of(rows)
        upstream.eval()
        for present in (True, False):
            if not present:
                expert.neighbours = Neighbours(rows[1:2])
            expert.expect(rows[1:2])
            with torch.inference_mode():
                outputs.append(upstream(waves[1:2]).states[-1].clone())
    assert torch.equal(*found["aware"])
    assert not torch.equal(*found["inject"])
    for row in (rows[0], rows[2]):
        row.audio.unlink()
    upstream = context(tiny_file, mode="aware")
    expert = begin(upstream, rows, tmp_path)
    upstream.eval()
    expert.expect(rows[1:2])
    with torch.inference_mode():
        assert torch.equal(upstream(waves[1:2]).states[-1], found["aware"][0])


@pytest.mark.parametrize("train", [False, True])
def test_inject_gives_the_neighbours_vectors(
    rows: list[Utterance], tmp_path: Path, train: bool
) -> None:
    """In order of the offsets; missing ones are the learned vector; from the batch or encoded alone."""
    upstream = context(write_tiny(tmp_path, seed=4, dim=DIM), mode="inject")
    expert = begin(upstream, rows, tmp_path)
    with torch.no_grad():
        expert.context_input.missing.copy_(torch.arange(6))
    upstream.train(train)
    vectors: dict[str, Tensor] = {}
    with torch.no_grad():
        for row, wave in zip(rows, waves_of(rows), strict=True):
            z = expert._base[0]([wave])["hidden_states"][-1]
            vectors[row.id] = expert.context(z, torch.tensor([z.shape[1]]))[0]
    wanted = {"s0": (None, "s1"), "s1": ("s0", "s2"), "s2": ("s1", None), "s4": (None, None)}
    for batch in (rows[:4], rows[3::-1], rows[:1], [rows[2], rows[0]]):
        expert.expect(batch)
        last = upstream(waves_of(batch)).states[-1]
        for place, row in enumerate(batch):
            near = [vectors[n] if n else torch.arange(6.0) for n in wanted[row.id]]
            got = last[place, 0, DIM:]
            assert torch.allclose(got, torch.cat([vectors[row.id], *near]), atol=1e-5)
        expert.expect(batch)
        alone = [upstream([wave]).states[-1][0, 0, DIM:] for wave in waves_of(batch)]
        assert torch.allclose(torch.stack(alone), last[:, 0, DIM:], atol=1e-5)


def test_in_training_a_neighbour_is_encoded_once_a_batch(
    tiny_file: Path, rows: list[Utterance], tmp_path: Path
) -> None:
    """Recordings one at a time: `s0` and `s2` share a neighbour; the next batch has other dropout."""
    upstream = context(tiny_file, mode="inject")
    expert = begin(upstream, rows, tmp_path)
    upstream.train()
    torch.manual_seed(0)
    waves = waves_of(rows)
    heard = []
    for _ in range(2):
        expert.expect([rows[0], rows[2]])
        first, second = (upstream([waves[i]]).states[-1][0, 0, DIM:] for i in (0, 2))
        assert torch.equal(first[2 * WIDTH :], second[WIDTH : 2 * WIDTH])  # s1 after s0, before s2
        assert set(expert._kept[1]) == {"s1"}
        heard.append(first[2 * WIDTH :])
    assert not torch.equal(*heard)


def test_inject_learns_but_not_through_its_neighbours(
    tiny_file: Path, rows: list[Utterance], tmp_path: Path
) -> None:
    upstream = context(tiny_file, mode="inject")
    expert = begin(upstream, rows, tmp_path)
    with torch.no_grad():
        expert.context_input.missing.fill_(1)
    extra, logs, gradients = step(upstream, rows)
    assert extra.item() == 0
    assert "context_distance" not in logs
    assert gradients["context_input.missing"].any()
    found = upstream.expert.describe()["injected"]
    assert found == {"found": 6, "missing": 8}
    with pytest.raises(RuntimeError, match="expect"):
        upstream(waves_of(rows))


def test_inject_forgets_vectors_when_weights_change(rows: list[Utterance], tmp_path: Path) -> None:
    upstream = context(write_tiny(tmp_path, seed=4, dim=DIM), mode="inject")
    expert = begin(upstream, rows, tmp_path)
    upstream.eval()

    def run() -> Tensor:
        expert.expect(rows[:1])
        with torch.inference_mode():
            return upstream(waves_of(rows[:1])).states[-1][0, 0, DIM:].clone()

    first, again = run(), run()
    assert torch.equal(first, again)
    state = {k: v * 1.5 for k, v in upstream.state_dict().items() if "encoder.layers" in k}
    upstream.load_state_dict(state, strict=False)
    changed = run()
    kept = upstream.expert._kept
    upstream.expert._kept = (-1, {})
    assert torch.equal(changed, run())
    assert not torch.equal(changed[2 * WIDTH :], first[2 * WIDTH :])
    upstream.expert._kept = kept
