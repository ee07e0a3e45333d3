"""Foreign checkpoints, in exactly their official layouts, become deltas against their base."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssft_bench.checkpoints.architecture import parse_convolutions
from ssft_bench.checkpoints.delta import changed_tensors
from ssft_bench.checkpoints.exporters import export_hf
from ssft_bench.checkpoints.importers import import_checkpoint
from ssft_bench.errors import MissingError, UsageError
from tests.checkpoints.layouts import (
    FAMILIES,
    base_expert,
    content,
    save_runner,
    save_spin,
    seeded,
    tuned_state,
    weights_of,
)


def check(found: dict[str, Tensor], wanted: dict[str, Tensor], names: set[str], seed: int) -> None:
    """The delta has exactly these names, with these bits."""
    assert set(found) == names, seed
    assert all(torch.equal(found[n], wanted[n]) for n in names), seed


@pytest.mark.parametrize("family", FAMILIES)
def test_runner_checkpoint(family: str, tmp_path: Path) -> None:
    generator, seed = seeded()
    expert = base_expert(family, "base", tmp_path, generator)
    state, changed = tuned_state(expert, generator)
    path = tmp_path / "states-3600.ckpt"
    save_runner(path, state)
    before = {n: t.clone() for n, t in expert.state_dict().items()}
    imported = import_checkpoint(path, expert)
    assert (imported.kind, imported.steps, imported.extra) == ("runner", 3600, {})
    assert imported.recipe["config"]["runner"]["total_steps"] == 3600
    check(changed_tensors(before, imported.state), state, changed, seed)
    assert not changed_tensors(before, expert.state_dict()), "the base was touched"


@pytest.mark.parametrize("family", ["hubert", "wavlm"])
def test_spin_checkpoint(family: str, tmp_path: Path) -> None:
    generator, seed = seeded()
    expert = base_expert(family, "base", tmp_path, generator)
    state, changed = tuned_state(expert, generator)
    parts = {
        "pred_head.layers.0.weight": torch.randn(8, 32, generator=generator),
        "pred_head.layers.0.bias": torch.randn(8, generator=generator),
        "loss_module.codebook.weight": torch.randn(6, 8, generator=generator),
    }
    path = tmp_path / "spin.ckpt"
    save_spin(path, state, parts)
    imported = import_checkpoint(path, expert)
    assert (imported.kind, imported.steps) == ("spin", 5000)
    assert imported.recipe == {"model": {"codebook": {"num_code": 6, "temp": 0.1}}}
    check(changed_tensors(expert.state_dict(), imported.state), state, changed, seed)
    assert set(imported.extra) == {"head.weight", "head.bias", "codebook.weight"}
    assert torch.equal(imported.extra["codebook.weight"], parts["loss_module.codebook.weight"])
    if family == "hubert":  # the heads that the file lacks are the base's own
        name = "model.label_embs_concat"
        assert torch.equal(imported.state[name], expert.state_dict()[name])


@pytest.mark.parametrize("family", FAMILIES)
def test_converted_checkpoint(family: str, tmp_path: Path) -> None:
    generator, seed = seeded()
    expert = base_expert(family, "large", tmp_path, generator)
    other = content(family, "large", generator)
    path = tmp_path / "other.pt"
    torch.save(other, path)
    imported = import_checkpoint(path, expert)
    assert imported.kind == "converted"
    wanted = {f"model.{n}": t for n, t in weights_of(other).items()}
    check(imported.state, wanted, set(expert.state_dict()), seed)


def test_runner_refusals(tmp_path: Path) -> None:
    generator, _ = seeded()
    expert = base_expert("hubert", "base", tmp_path, generator)
    state, _ = tuned_state(expert, generator)
    path, first = tmp_path / "states-1.ckpt", "model.encoder.layers.0.fc1.weight"

    def refused(said: str, changed: dict[str, Tensor]) -> None:
        save_runner(path, changed)
        with pytest.raises(MissingError, match=said):
            import_checkpoint(path, expert)

    refused(f"missing: {first}", {n: t for n, t in state.items() if n != first})
    refused(
        r"missing: model.final_proj.weight, model.final_proj.bias$",
        {n: t for n, t in state.items() if "final_proj" not in n},
    )
    refused("unknown: model.more", state | {"model.more": torch.zeros(1)})
    refused(rf"other shape: {first} \[2, 2\] for \[48, 32\]", state | {first: torch.zeros(2, 2)})
    refused(r"missing: .* and \d\d more", {"model.mask_emb": state["model.mask_emb"]})
    refused("'Upstream' is missing or not a state_dict", {})
    save_runner(path, state)
    whole = torch.load(path, weights_only=False)
    torch.save({k: v for k, v in whole.items() if k != "Upstream"}, path)
    with pytest.raises(
        MissingError, match="has no 'Upstream': the upstream of that run was frozen"
    ):
        import_checkpoint(path, expert)


def test_spin_refusals(tmp_path: Path) -> None:
    generator, _ = seeded()
    expert = base_expert("hubert", "base", tmp_path, generator)
    state, _ = tuned_state(expert, generator)
    path = tmp_path / "spin.ckpt"
    save_spin(path, {n: t for n, t in state.items() if n != "model.mask_emb"}, {})
    with pytest.raises(MissingError, match=r"missing: model.mask_emb$"):
        import_checkpoint(path, expert)
    save_spin(path, state, {"encoder.teacher.weight": torch.zeros(1)})
    with pytest.raises(MissingError, match=r"unknown: encoder.teacher.weight"):
        import_checkpoint(path, expert)
    torch.save({"state_dict": {"net.weight": torch.zeros(1)}}, path)
    with pytest.raises(MissingError, match=r"has no encoder.model.\* in its state_dict"):
        import_checkpoint(path, expert)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("activation_fn", "relu"),
        ("layer_norm_first", False),
        ("encoder_attention_heads", 8),
        ("conv_feature_layers", "[(20,10,5)] + [(20,8,2)] * 2 + [(20,4,4)]"),
        ("normalize", False),
    ],
)
def test_same_shapes_but_another_network(field: str, value: Any, tmp_path: Path) -> None:
    """No tensor tells these apart, yet the hidden states would be others."""
    generator, _ = seeded()
    expert = base_expert("hubert", "large", tmp_path, generator)
    other = torch.load(tmp_path / "base.pt", weights_only=True)
    other["task_cfg" if field == "normalize" else "model_cfg"][field] = value
    torch.save(other, tmp_path / "other.pt")
    with pytest.raises(MissingError, match=f"built unlike its base: {field}"):
        import_checkpoint(tmp_path / "other.pt", expert)


def test_fields_that_a_file_leaves_out_have_s3prls_defaults(tmp_path: Path) -> None:
    generator, _ = seeded()
    expert = base_expert("hubert", "mini", tmp_path, generator)
    other = torch.load(tmp_path / "base.pt", weights_only=True)
    assert other["model_cfg"].pop("activation_fn") == "relu"
    torch.save(other, tmp_path / "other.pt")
    with pytest.raises(MissingError, match="built unlike its base: activation_fn gelu for relu"):
        import_checkpoint(tmp_path / "other.pt", expert)
    nested = {"cfg": {"model": {}, "task": {}}, "model": other["model_weight"]}
    torch.save(nested, tmp_path / "fairseq.pt")
    with pytest.raises(MissingError, match="is fairseq's own layout; convert it first"):
        import_checkpoint(tmp_path / "fairseq.pt", expert)


def test_normalisation_is_free_before_a_group_norm(tmp_path: Path) -> None:
    """Scale and offset of the waveform vanish in a group norm over time, so Base files differ at will."""
    generator, _ = seeded()
    expert = base_expert("hubert", "base", tmp_path, generator)
    other = torch.load(tmp_path / "base.pt", weights_only=True)
    other["task_cfg"]["normalize"] = True
    torch.save(other, tmp_path / "other.pt")
    assert import_checkpoint(tmp_path / "other.pt", expert).kind == "converted"


class Runs:
    """Pickled, it makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_code_in_a_pickle_does_not_run(tmp_path: Path) -> None:
    generator, _ = seeded()
    expert = base_expert("hubert", "base", tmp_path, generator)
    mark, path = tmp_path / "it_ran", tmp_path / "states-1.ckpt"
    save_runner(path, expert.state_dict())
    whole = torch.load(path, weights_only=False)
    torch.save(whole | {"Config": Runs(mark)}, path)
    with pytest.raises(MissingError, match=r"mkdir.*could run code.*--trust-checkpoint"):
        import_checkpoint(path, expert)
    assert not mark.exists()
    folder = tmp_path / "hf"
    export_hf(expert, folder)
    (folder / "model.safetensors").unlink()
    torch.save({"x": Runs(mark)}, folder / "pytorch_model.bin")
    with pytest.raises(MissingError, match="--trust-checkpoint"):
        import_checkpoint(folder, expert)
    assert not mark.exists()
    assert import_checkpoint(path, expert, trust=True).kind == "runner"  # negative control
    assert mark.exists()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    generator, _ = seeded()
    expert = base_expert("hubert", "base", tmp_path, generator)
    whole = (tmp_path / "base.pt").read_bytes()
    broken = {
        "cut.pt": whole[: len(whole) // 2],
        "empty.pt": b"",
        "text.pt": b"hello",
        "start.pt": b"\x80\x02}q",
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MissingError, match=f"{name} cannot be read: damaged"):
            import_checkpoint(tmp_path / name, expert)
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(MissingError, match=r"plain.pkl holds more than tensors"):
        import_checkpoint(tmp_path / "plain.pkl", expert)
    with pytest.raises(MissingError, match=r"there is no checkpoint .*gone.ckpt"):
        import_checkpoint(tmp_path / "gone.ckpt", expert)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(MissingError, match="holds a list; known kinds: runner"):
        import_checkpoint(tmp_path / "list.pt", expert)
    torch.save({"weights": {}}, tmp_path / "what.pt")
    with pytest.raises(
        MissingError, match=r"of no known kind \(keys weights\); known kinds: runner"
    ):
        import_checkpoint(tmp_path / "what.pt", expert)
    (tmp_path / "x.safetensors").write_bytes(b"")
    with pytest.raises(MissingError, match=r"give the folder that holds config.json"):
        import_checkpoint(tmp_path / "x.safetensors", expert)


def test_forced_kinds(tmp_path: Path) -> None:
    generator, _ = seeded()
    expert = base_expert("hubert", "base", tmp_path, generator)
    path = tmp_path / "base.pt"
    assert import_checkpoint(path, expert, kind="converted").kind == "converted"
    with pytest.raises(UsageError, match="--kind fairseq: known are runner, spin, converted, hf"):
        import_checkpoint(path, expert, kind="fairseq")
    with pytest.raises(MissingError, match="'state_dict' is missing"):
        import_checkpoint(path, expert, kind="spin")
    with pytest.raises(MissingError, match="is a file; kind hf is a folder"):
        import_checkpoint(path, expert, kind="hf")
    with pytest.raises(MissingError, match="is a folder; only kind hf is one"):
        import_checkpoint(tmp_path, expert, kind="spin")


def test_convolutions_are_read_not_evaluated() -> None:
    found = parse_convolutions("[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2")
    assert found == [(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2
    for text in ("__import__('os').getcwd()", "[(1,2)]", "[x]", "3", "[(1,2,3)] - [4]", "[(1,2,"):
        with pytest.raises(ValueError, match="is not a list of"):
            parse_convolutions(text)
