"""The wrapped upstream: hidden states, names, what it records, what it refuses."""

from __future__ import annotations

import inspect
import json
import secrets
from pathlib import Path

import pytest
import torch

from ssft_bench import encoder
from ssft_bench.corpora.manifest import Utterance
from ssft_bench.errors import CheckFailed, UsageError
from ssft_bench.names import split_options
from ssft_bench.upstream import Upstream, load_upstream, weights_sha256
from tests.upstreams.context.segments import DIM, WIDTH, begin, context, step


@pytest.mark.parametrize("concat", ["head_input", "projected"])
@pytest.mark.parametrize("mode", ["none", "module_only", "aware", "inject"])
def test_hidden_states_are_the_bases_but_the_last(tiny_file: Path, mode: str, concat: str) -> None:
    upstream = context(tiny_file, mode=mode, concat=concat).eval()
    base = load_upstream("hubert_mini_local", {"ckpt": tiny_file}).eval()
    waves = [torch.randn(n) for n in (4000, 6500)]
    with torch.no_grad():
        got, wanted = upstream(waves), base(waves)
        assert len(got) == len(wanted) == 4
        assert torch.equal(got.lengths, wanted.lengths)
        for a, b in zip(got.states[:-1], wanted.states[:-1], strict=True):
            assert torch.equal(a, b)
        extra = {"none": 0, "inject": 3 * WIDTH}.get(mode, WIDTH) * (concat == "head_input")
        assert got.states[-1].shape[-1] == upstream.spec.dims[-1] == DIM + extra
        same = torch.equal(got.states[-1][..., :DIM], wanted.states[-1])
        assert same == (mode == "none" or concat == "head_input")
        if mode == "aware" and concat == "head_input":
            for place, wave in enumerate(waves):
                z = base.expert([wave])["hidden_states"][-1]
                vector = upstream.expert.context(z, torch.tensor([z.shape[1]]))[0]
                frames = int(got.lengths[place])
                assert torch.allclose(
                    got.states[-1][place, :frames, DIM:], vector.expand(frames, -1), atol=1e-5
                )


def test_names_of_parameters_and_layers(tiny_file: Path) -> None:
    upstream = context(tiny_file)
    base = load_upstream("hubert_mini_local", {"ckpt": tiny_file})
    names = [n for n, _ in upstream.expert.named_parameters()]
    new = [n for n in names if n.startswith(upstream.expert.always_trained)]
    assert sorted(set(names) - set(new)) == sorted(n for n, _ in base.expert.named_parameters())
    assert sorted(new) == [
        "context.output.bias", "context.output.weight", "context.score.bias", "context.score.weight",
    ]  # fmt: skip
    assert len(encoder.layers(upstream)) == 3
    assert encoder.of_layers(upstream, 1) == encoder.of_layers(base, 1)
    assert set(new) <= set(encoder.participating(upstream))


def test_the_runs_seed_draws_the_module(
    tiny_file: Path, rows: list[Utterance], tmp_path: Path
) -> None:
    digests = []
    for seed in (1, 1, 2):
        torch.manual_seed(secrets.randbelow(2**31))
        upstream = context(tiny_file)
        before = torch.get_rng_state()
        begin(upstream, rows, tmp_path, seed)
        assert torch.equal(torch.get_rng_state(), before)
        digests.append(weights_sha256(upstream))
    assert digests[0] == digests[1] != digests[2]


def test_collapse_fails_the_run(tiny_file: Path, rows: list[Utterance], tmp_path: Path) -> None:
    upstream = context(tiny_file)
    expert = begin(upstream, rows, tmp_path)
    for _ in range(12):
        step(upstream, rows)  # no alarm
    with torch.no_grad():
        expert.context.output.weight.zero_()
        expert.context.output.bias.fill_(1)
    with pytest.raises(CheckFailed, match="collapsed"):
        many_steps(upstream, rows)


def many_steps(upstream: Upstream, rows: list[Utterance]) -> None:
    for _ in range(200):
        step(upstream, rows)


def test_what_the_record_says(
    tiny_file: Path, rows: list[Utterance], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream = context(tiny_file)
    expert = begin(upstream, rows, tmp_path)
    step(upstream, rows)
    said = expert.describe()
    assert said["label"].startswith("re-implementation from the abstract")
    assert said["coverage"]["train"] == {"utterances": 7, "-1": 3 / 7, "+1": 3 / 7, "any": 5 / 7}
    assert "train 71.4% of 7 (-1 42.9%, +1 42.9%)" in capsys.readouterr().err
    assert said["options"]["offsets"] == "-1+1"
    parameters = said["overhead"]["parameters"]
    assert parameters["module"] == DIM + 1 + WIDTH * (DIM + 1)
    assert 0 < said["overhead"]["milliseconds"]["share"] < 1
    assert said["collapse"]["context_std"] > 0
    stored = json.loads((tmp_path / "neighbours.json").read_text())
    assert stored["s1"] == ["s0", "s2"]
    assert stored["s4"] == [None, None]
    json.dumps(said, allow_nan=False)
    assert "collapse" not in context(tiny_file, mode="none").expert.describe()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("mode=awere", "mode"), ("alhpa=1", "no option 'alhpa'"), ("offsets=0", "offsets"),
        ("alpha=-1", "alpha"), ("base=fbank", "base=fbank"), ("offsets=1+1", "offsets"),
    ],
)  # fmt: skip
def test_mistakes_are_named(text: str, complaint: str) -> None:
    name, options = split_options(f"context_hubert:{text}", "--upstream")
    with pytest.raises(UsageError, match=complaint):
        load_upstream(name, options)


def test_only_finetuned_unless_there_is_no_module(tiny_file: Path) -> None:
    expert = context(tiny_file).expert
    expert.check_protocol("finetuned")
    for protocol in ("frozen", "training-free"):
        with pytest.raises(UsageError, match="--protocol finetuned"):
            expert.check_protocol(protocol)
    context(tiny_file, mode="none").expert.check_protocol("frozen")


def test_every_option_is_shown_and_the_shown_ones_are_taken() -> None:
    from ssft_bench.upstreams.context.hubconf import context_hubert, context_wav2vec2
    from ssft_bench.upstreams.context.options import ContextOptions

    for build, base in ((context_hubert, "hubert_mini"), (context_wav2vec2, "wav2vec2_mini")):
        shown = {n: p.default for n, p in inspect.signature(build).parameters.items()}
        assert shown.keys() == ContextOptions.model_fields.keys()
        assert shown["base"] == base
        expert = build(refresh=False, **shown)
        assert expert.options == build().options
        assert len(expert.model.encoder.layers) == len(build(mode="none").model.encoder.layers)


def test_the_order_of_batches_is_the_same_in_all_modes(
    tiny_file: Path, rows: list[Utterance], tmp_path: Path
) -> None:
    found = []
    for mode in ("none", "module_only", "aware", "inject"):
        expert = begin(context(tiny_file, mode=mode, alpha=0.1), rows, tmp_path)
        found.append(
            expert.batches(rows, [1.0] * 7, batch_size=3, batch_seconds=None, seed=1, epoch=0)
        )
    assert found[1:] == found[:1] * 3


def test_without_any_neighbour_there_is_no_mode_that_needs_them(
    tiny_file: Path, rows: list[Utterance], tmp_path: Path
) -> None:
    for mode in ("aware", "inject"):
        with pytest.raises(UsageError, match="mode=module_only"):
            begin(context(tiny_file, mode=mode), rows[3:5], tmp_path)
        begin(context(tiny_file, mode=mode), rows[1:5], tmp_path)
    for mode in ("none", "module_only"):
        begin(context(tiny_file, mode=mode), rows[3:5], tmp_path)
