"""Masks: fairseq's own code, as s3prl carries it, on the same random stream and on many others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from s3prl.upstream.wav2vec2.wav2vec2_model import compute_mask_indices
from s3prl.upstream.wavlm.WavLM import compute_mask_indices as wavlm_mask_indices
from torch import Tensor

from ssft_bench.errors import UsageError
from ssft_bench.finetuning.dropout import set_dropout
from ssft_bench.finetuning.masking import Masking, span_mask
from ssft_bench.finetuning.spec import FineTuneSpec
from ssft_bench.upstream import Upstream
from tests.finetuning.models import KINDS, S3PRL, build, fresh, furthest, waves

pytestmark = pytest.mark.usefixtures("one_thread")
REFERENCES = (compute_mask_indices, wavlm_mask_indices)
SPANS = {
    "time_mask_prob": 0.6,
    "time_mask_length": 3,
    "channel_mask_prob": 0.5,
    "channel_mask_length": 7,
}


def drawn(seed: int) -> Any:
    """numpy's old generator: the stream that fairseq takes from the global one after `np.random.seed`."""
    return np.random.RandomState(seed)


def theirs(reference: Any, seed: int, shape: tuple[int, int], padding: Any, **options: Any) -> Any:
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        given = None if padding is None else torch.from_numpy(padding)
        return reference(
            shape, given, options["prob"], options["length"], min_masks=options["least"]
        )
    finally:
        np.random.set_state(before)


def case(rng: np.random.Generator) -> tuple[tuple[int, int], Any, dict[str, Any]]:
    """A random batch, some rows short, some hardly longer than a span."""
    rows, width = int(rng.integers(1, 6)), int(rng.integers(4, 120))
    options = {
        "prob": float(rng.uniform(0.02, 1)),
        "length": int(rng.integers(1, 15)),
        "least": int(rng.integers(1, 4)),
    }
    lengths = rng.integers(3, width + 1, rows)
    lengths[rng.integers(rows)] = width
    padding = np.arange(width)[None] >= lengths[:, None] if rng.random() < 0.7 else None
    return (rows, width), padding, options


@pytest.mark.parametrize("reference", REFERENCES, ids=["wav2vec2", "wavlm"])
def test_same_stream_same_mask(reference: Any) -> None:
    """Equal to the last place on 300 random batches; with another stream it is not."""
    seed = fresh()
    rng = np.random.default_rng(seed)
    others = 0
    for number in range(300):
        shape, padding, o = case(rng)
        wanted = theirs(reference, number, shape, padding, **o)
        ours = span_mask(shape, padding, o["prob"], o["length"], drawn(number), least=o["least"])
        assert np.array_equal(ours, wanted), (seed, number, shape, o)
        other = span_mask(
            shape, padding, o["prob"], o["length"], drawn(number + 1), least=o["least"]
        )
        others += int(not np.array_equal(other, wanted))
    assert others > 200, seed


def test_statistics() -> None:
    """With a generator of its own: the same share of frames and of each place, within sampling error."""
    seed, draws, width = fresh(), 2000, 40
    rng = np.random.default_rng(seed)
    padding = np.arange(width)[None] >= np.array([[40], [31]])
    options = {"prob": 0.65, "length": 10, "least": 2}
    ours = np.zeros((2, width))
    other = np.zeros((2, width))
    for number in range(draws):
        ours += span_mask((2, width), padding, 0.65, 10, rng, least=2)
        other += theirs(compute_mask_indices, seed + number, (2, width), padding, **options)
    error = np.sqrt(2 * np.maximum(other / draws * (1 - other / draws), 1e-3) / draws)
    assert (np.abs(ours - other) / draws < 5 * error).all(), seed
    assert not ours[padding].any()
    wrong = sum(span_mask((2, width), padding, 1.0, 10, rng, least=2) for _ in range(draws))
    assert (np.abs(wrong - other) / draws > 5 * error).any(), seed


def test_channels_without_a_span() -> None:
    """No span is no mask: half a span a row comes out as none or one. (fairseq fails on none.)"""
    rng = np.random.default_rng(fresh())
    counts = [int(span_mask((1, 96), None, 0.25, 48, rng).sum()) for _ in range(400)]
    assert set(counts) == {0, 48}
    assert 130 < counts.count(48) < 270
    nothing = next(n for n in range(99) if 0.5 + drawn(n).random() < 1)
    with pytest.raises(IndexError):
        theirs(compute_mask_indices, nothing, (1, 96), None, prob=0.25, length=48, least=0)


def quiet(kind: str, folder: Path, seed: int) -> Upstream:
    """In train mode, where models mask, without dropout."""
    upstream = build(kind, folder, seed)
    set_dropout(upstream, 0.0, 0.0)
    upstream.train()
    return upstream


def masked_by_the_model(upstream: Upstream, heard: list[Tensor], seed: int) -> Tensor:
    """The last state of s3prl's model when it masks on its own."""
    expert: Any = upstream.expert
    model = expert.model
    model.mask_prob, model.mask_length = SPANS["time_mask_prob"], SPANS["time_mask_length"]
    model.mask_channel_prob = SPANS["channel_mask_prob"]
    model.mask_channel_length = SPANS["channel_mask_length"]
    whole = model.extract_features

    def masking(source: Tensor, padding_mask: Tensor, mask: Any = None) -> Any:
        return whole(source, padding_mask, mask=True)

    model.extract_features = masking
    np.random.seed(seed)
    return upstream(heard).states[-1]


@torch.no_grad()
@pytest.mark.parametrize("kind", S3PRL)
def test_as_the_model_masks(kind: str, tmp_path: Path) -> None:
    """Frames and channels of a padded batch: the very states that the model gives with `mask=True`."""
    seed = fresh()
    upstream, heard = quiet(kind, tmp_path, seed), waves(seed)
    masking = Masking(upstream, FineTuneSpec.model_validate(SPANS))
    with masking.drawing(drawn(seed)):
        ours = upstream(heard).states[-1]
    plain = upstream(heard).states[-1]
    wanted = masked_by_the_model(quiet(kind, tmp_path, seed), heard, seed)
    assert furthest([ours], [wanted]) < 1e-5, seed
    assert furthest([plain], [wanted]) > 1e-2, seed


@torch.no_grad()
@pytest.mark.parametrize("kind", ["hf_hubert-large", "hf_wav2vec2-large", "hf_wavlm-base"])
def test_as_transformers_mask(kind: str, tmp_path: Path) -> None:
    """Frames of a padded batch: as with `mask_time_indices`, and no masks of the model's own."""
    seed = fresh()
    upstream, heard = quiet(kind, tmp_path, seed), waves(seed)
    model: Any = upstream.expert.model
    model.config.mask_time_prob = 0.9  # would mask on its own in train mode
    masking = Masking(upstream, FineTuneSpec(time_mask_prob=0.6, time_mask_length=3))
    plain = upstream(heard).states[-1]
    assert torch.equal(upstream(heard).states[-1], plain)
    with masking.drawing(drawn(seed)):
        ours = upstream(heard).states[-1]
    frames = int(model._get_feat_extract_output_lengths(8000))
    lengths = [int(model._get_feat_extract_output_lengths(len(w))) for w in heard]
    padding = np.arange(frames)[None] >= np.array(lengths)[:, None]
    mask = theirs(compute_mask_indices, seed, (3, frames), padding, prob=0.6, length=3, least=2)
    whole = model.forward
    model.config.apply_spec_augment = True

    def told(*args: Any, **kwargs: Any) -> Any:
        return whole(*args, **kwargs, mask_time_indices=torch.from_numpy(mask))

    model.forward = told
    wanted = upstream(heard).states[-1]
    assert furthest([ours], [wanted]) < 1e-5, seed
    assert furthest([plain], [wanted]) > 1e-2, seed


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_what_the_encoder_gets(kind: str, tmp_path: Path) -> None:
    """Masked frames are the embedding, masked channels 0, and the rest what it was; padding stays out."""
    seed = fresh()
    upstream, heard = quiet(kind, tmp_path, seed), waves(seed)
    seen: list[Tensor] = []
    masking = Masking(upstream, FineTuneSpec.model_validate(SPANS))
    encoder: Any = upstream.expert.model.encoder
    encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    with masking.drawing(np.random.default_rng(seed)):
        upstream(heard)
        share = masking.share()
    upstream(heard)
    masked, plain = seen
    model: Any = upstream.expert.model
    embedding = model.mask_emb if hasattr(model, "mask_emb") else model.masked_spec_embed
    silent = (masked == 0).all(1)
    frames = ((masked == embedding) | silent[:, None]).all(-1)
    assert frames.any(1).all(), seed
    assert len({int(n) for n in frames.sum(1)}) == 1, seed
    rest = ~frames[..., None] & ~silent[:, None]
    assert torch.equal(masked[rest.expand_as(masked)], plain[rest.expand_as(masked)]), seed
    assert silent.any(1).all(), seed
    assert 0.2 < share < 0.8, (seed, share)


@pytest.mark.parametrize("kind", ["hubert-base", "hf_hubert-large"])
def test_the_embedding_learns(kind: str, tmp_path: Path) -> None:
    seed = fresh()
    upstream = quiet(kind, tmp_path, seed)
    masking = Masking(upstream, FineTuneSpec(time_mask_prob=0.5, time_mask_length=2))
    model: Any = upstream.expert.model
    embedding = model.mask_emb if hasattr(model, "mask_emb") else model.masked_spec_embed
    with masking.drawing(np.random.default_rng(seed)):
        upstream(waves(seed)).states[-1].square().mean().backward()
    assert embedding.grad is not None
    assert float(embedding.grad.abs().max()) > 0


def test_what_is_refused(tmp_path: Path) -> None:
    upstream = build("hubert-base", tmp_path, 0)
    with pytest.raises(UsageError, match=r"channel_mask_length=64: hubert-base has 32 channels"):
        Masking(upstream, FineTuneSpec(channel_mask_prob=0.5))
    del upstream.expert.model.mask_emb  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="has no embedding of masked frames"):
        Masking(upstream, FineTuneSpec(time_mask_prob=0.5))
    assert not Masking(upstream, FineTuneSpec()).active
