"""Model cards: every number in one is a number of the record, and what it says can be run."""

from __future__ import annotations

import json
import random
import re
import secrets
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ssft_bench import registry, results, runner
from ssft_bench.checkpoints.delta import read_checkpoint, save_checkpoint
from ssft_bench.files import sha256_file
from ssft_bench.metric import Prediction
from ssft_bench.model_card.card import checkpoint_card, run_card
from ssft_bench.results import MetricValue, ResultRecord
from ssft_bench.spec import RunSpec, resolve, signature
from ssft_bench.tuning import run as tuning_run
from ssft_bench.tuning.spec import TuneSpec

Bench = Callable[..., tuple[int, str, str]]
PACKAGED = Path(registry.load("upstreams", "score_hubert").tuned.packaged)
NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(?![\w])")
FIXED = {"95"}
"""Numbers of the text itself: the level of an interval."""


def made_up(seed: int, **given: Any) -> ResultRecord:
    """A finished run whose every number is drawn."""
    rng = random.Random(seed)
    real = lambda scale: round(rng.uniform(0, scale), rng.randint(1, 9))  # noqa: E731
    whole = lambda: rng.randrange(1000, 10**9)  # noqa: E731
    given = {"upstream": "score_hubert", "interface": "hconv", "task": "asr"} | given
    given.setdefault("seed", whole())
    spec = resolve(**given, sets=[f"train.steps={whole()}", f"train.optimizer.lr={real(1)}"])
    metrics = [
        MetricValue(
            name=name, split=split, value=real(100), unit="%", higher_is_better=False, n=whole(),
            ci95=(real(100), real(100)), primary=name == "wer",
            ci_method=f"percentile bootstrap over speakers, {whole()} resamples",
        )
        for split in ("test", "dev") for name in ("wer", "cer")
    ]  # fmt: skip
    content = {"upstream_weights": rng.randbytes(32).hex(), "corpus": rng.randbytes(32).hex()}
    amounts = {
        what: {s: whole() for s in ("train", "dev", "test")} for what in ("utterances", "speakers")
    }
    return ResultRecord(
        status="done", signature=signature(spec, content), spec=spec, content=content, metrics=metrics,
        data={"corpus": "mini", "synthetic": True, "licence": "Apache-2.0", "sha256": content["corpus"],
              **amounts, "hours": {s: real(9) for s in ("train", "dev", "test")},
              "labels": {"outputs": whole(), "blank": "<s>"}},
        selection={"split": "dev", "metric": "wer", "step": whole(), "value": real(100)},
        trials=[{"lr": real(1), "step": whole(), "value": real(100), "error": None, "curve": [{"step": 1}]}],
        cost={"parameters": {"upstream": {"total": whole()}, "head": {"trainable": whole()}},
              "macs_per_second_of_audio": {"upstream": whole()}, "seconds": {"training": real(99)},
              "tuning": [{"name": "t", "method": "score", "base": "b", "steps": whole(),
                          "hours_processed": real(9)}]},
        events=[{"kind": "nan_step", "step": whole()}],
        code={"version": "0.1.0", "commit": rng.randbytes(20).hex(), "dirty": True},
        env={"packages": {"torch": "2.14.1", "absent": None}},
        time={"finished": "2026-11-24T21:01:31+00:00"},
    )  # fmt: skip


def stored(out: Path, record: ResultRecord) -> Path:
    folder = results.run_folder(out, record.spec, record.signature)
    folder.mkdir(parents=True)
    record.predictions = results.save_predictions(folder, [Prediction("u", "A", "A")])
    results.save(folder, record)
    return folder


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from (leaf for k, v in value.items() for leaf in (k, *leaves(v)))
    elif isinstance(value, list | tuple):
        yield from (leaf for v in value for leaf in leaves(v))
    else:
        yield value


def allowed(*sources: Any) -> set[str]:
    """Every way in which a number of the sources may be written; numbers inside of texts too."""
    found = set(FIXED)
    for leaf in (leaf for source in sources for leaf in leaves(source)):
        if isinstance(leaf, str):
            found |= set(NUMBER.findall(leaf))
        elif isinstance(leaf, int | float) and not isinstance(leaf, bool):
            found |= {repr(leaf), f"{leaf:.2f}", f"{leaf:g}", yaml.safe_dump(leaf).split("\n")[0]}
            found |= {f"{leaf:,}"} if isinstance(leaf, int) else set()
    return found


def numbers(text: str) -> list[str]:
    return [found.rstrip(",") for found in NUMBER.findall(text)]


def head_and_body(card: str) -> tuple[dict[str, Any], str]:
    _, head, body = card.split("---\n", 2)
    return yaml.safe_load(head), body


def check_with_hugging_face(card: str) -> Any:
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(card).data
    assert data.to_dict()["library_name"] == "s3prl"
    return data


# Runs


def test_every_number_is_the_records(tmp_path: Path) -> None:
    seed = secrets.randbelow(2**31)
    record = made_up(seed)
    card = run_card(stored(tmp_path, record))
    source = record.model_dump(mode="json")
    strange = [n for n in numbers(card) if n not in allowed(source)]
    assert strange == [], seed
    other = made_up(seed + 1).model_dump(mode="json")
    assert len([n for n in numbers(card) if n not in allowed(other)]) > 40, "the control"


@pytest.mark.parametrize("seed", [1, secrets.randbelow(2**31)])
def test_what_a_run_card_tells(tmp_path: Path, seed: int) -> None:
    record = made_up(seed)
    card = run_card(stored(tmp_path, record), licence="mit")
    head, body = head_and_body(card)
    assert head["license"] == "mit"
    (result,) = head["model-index"][0]["results"]
    test = [m for m in record.metrics if m.split == "test"]
    assert [(m["type"], m["value"]) for m in result["metrics"]] == [(m.name, m.value) for m in test]
    for m in record.metrics:
        assert m.ci95 is not None
        row = (
            f"| {m.split} | {m.value:.2f} [{m.ci95[0]:.2f}, {m.ci95[1]:.2f}] | % | lower | {m.n} |"
        )
        assert row in body
    facts = (
        record.signature, record.content["upstream_weights"], "Weights: mit", "Speech: Apache-2.0",
        f"{record.data['hours']['train']!r} hours", f"{record.cost['tuning'][0]['hours_processed']} hours",
        "kind nan_step", "with uncommitted changes", "single seed", "&lt;s>", "torch 2.14.1",
    )  # fmt: skip
    for fact in facts:
        assert str(fact) in body, fact
    assert "absent" not in body
    assert "curve" not in body
    recipe = yaml.safe_load(body.split("```yaml\n")[1].split("```")[0])
    expected = record.spec.model_dump(mode="json")
    expected["data"].pop("root")
    assert recipe == expected
    check_with_hugging_face(card)


def test_a_record_that_tells_little_makes_a_card_all_the_same(tmp_path: Path) -> None:
    spec = resolve(upstream="fbank", interface="weighted_sum", task="asr")
    record = ResultRecord(status="done", signature="5e", spec=spec)
    head, body = head_and_body(run_card(stored(tmp_path, record)))
    assert head["license"] == "unknown"
    assert "none is told in the record" in body
    assert "None" not in body
    assert "Undefined" not in body


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"data": {"corpus": "c", "synthetic": False, "speakers": {"test": 6}}}, "has 6 speakers"),
        (
            {"data": {"corpus": "c", "synthetic": False, "speakers": {"test": 0}}},
            "tells no speakers",
        ),
        (
            {"data": {"corpus": "c", "stands_in": "words stand in for entities"}},
            "Words stand in for",
        ),
    ],
)
def test_limits(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    record = made_up(3).model_copy(update=changed)
    assert words in run_card(stored(tmp_path, record))
    assert words not in run_card(stored(tmp_path / "other", made_up(3)))


@pytest.mark.parametrize(("value", "told"), [(95.5, True), (40.0, False)])
def test_floor(tmp_path: Path, value: float, told: bool) -> None:
    record = made_up(3)
    record.metrics[0] = record.metrics[0].model_copy(update={"value": value})
    assert ("near the bad end" in run_card(stored(tmp_path, record))) == told


def asked(bench: Bench, monkeypatch: pytest.MonkeyPatch, card: str, module: Any, name: str) -> Any:
    """The specification that the card's command resolves to; nothing is run."""
    seen: list[Any] = []

    def stop(spec: Any, *_: Any, **__: Any) -> None:
        seen.append(spec)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, name, stop)
    line = next(
        block.splitlines()[0]
        for block in card.split("```sh\n")[:0:-1]
        if block.startswith("ssft-bench")
    )
    code, _, error = bench(*shlex.split(line)[1:])
    assert code == 130, error
    return seen[0]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"upstream": "fbank", "interface": "layer:index=0"},
        {"protocol": "finetuned", "trainable": "top:2", "upstream": "hubert_mini"},
        {"lr_grid": (1e-4, 5e-4)},
        {"task": "qbe", "interface": "layer:index=3"},
        {"task": "ner", "suite": "pocket", "data": "some where"},
        {"sets": ["train.clip=null", "data.max_utterances=7", "task.options.dropout=0.5"]},
        {"sets": ["train.schedule.name=cosine", "train.schedule.final_scale=1e-3"]},
        {"sets": ["train.optimizer.betas=[0.8, 0.9]", "train.precision=bf16-mixed", "seed=77"]},
    ],
)
def test_the_command_makes_the_very_same_run(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    given = {"upstream": "score_hubert", "interface": "hconv", "task": "asr"} | given
    spec = resolve(**given)
    record = ResultRecord(status="done", signature="5e", spec=spec)
    card = run_card(stored(tmp_path / "cards", record))
    monkeypatch.chdir(tmp_path)
    assert asked(bench, monkeypatch, card, runner, "run") == spec


def test_a_controls_own_sizes_are_asked_for(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its head was enlarged after the user's words; asking for the enlarged one would enlarge it again."""
    sets = ["task.options.project_dim=32", "train.steps=9"]
    user = resolve(
        upstream="hubert_mini", interface="hconv", task="asr", control="matched-head", sets=sets
    )
    values = user.model_dump(mode="json")
    values["task"]["options"]["project_dim"] = 80
    values["control"]["parameters"] = 1234
    record = ResultRecord(
        status="done",
        signature="5e",
        spec=RunSpec.model_validate(values),
        args_passed={"sets": sets},
    )
    card = run_card(stored(tmp_path / "cards", record))
    monkeypatch.chdir(tmp_path)
    assert asked(bench, monkeypatch, card, runner, "run") == user


# Checkpoints


def drawn_checkpoint(place: Path, seed: int, **changes: Any) -> tuple[Path, dict[str, Any]]:
    """The packaged checkpoint with other numbers about it."""
    rng = random.Random(seed)
    packaged = read_checkpoint(PACKAGED)
    about = json.loads(json.dumps(packaged.about))
    about["hours_processed"] = round(rng.uniform(1, 99), 4)
    about["steps"] = rng.randrange(10**6)
    about["cost"] = {"seconds": round(rng.uniform(1, 99), 3), "updates": rng.randrange(10**6)}
    about["data"] |= {"hours": round(rng.uniform(1, 99), 4), "utterances": rng.randrange(10**6)}
    about["recipe"]["train"]["steps"] = about["steps"]
    about |= changes
    path = place / "tuned.safetensors"
    save_checkpoint(path, packaged.tensors, about, packaged.extra)
    return path, about


def test_a_checkpoints_card(tmp_path: Path) -> None:
    """Numbers of the checkpoint and of the runs with its weights; not those of other runs."""
    seed = secrets.randbelow(2**31)
    path, about = drawn_checkpoint(tmp_path, seed)
    unscored = checkpoint_card(path, tmp_path / "runs")
    weights = re.findall(r"changed tensors \| weights sha256 `(\w{64})`", unscored)[0]
    assert "No finished run below" in unscored
    own = [made_up(seed), made_up(seed + 1, interface="weighted_sum")]
    for record in own:
        record.content["upstream_weights"] = weights
    other = made_up(seed + 2)
    for record in (*own, other):
        stored(tmp_path / "runs", record)
    card = checkpoint_card(path, tmp_path / "runs")
    packaged = read_checkpoint(path)
    sizes = {"tensors": len(packaged.tensors), "extra": len(packaged.extra)}
    sources = [about, sizes, sha256_file(path), weights, [r.model_dump(mode="json") for r in own]]
    assert [n for n in numbers(card) if n not in allowed(*sources)] == [], seed
    assert other.metrics[0].value not in [
        m["value"]
        for r in head_and_body(card)[0]["model-index"][0]["results"]
        for m in r["metrics"]
    ]
    head, body = head_and_body(card)
    found = [m["value"] for r in head["model-index"][0]["results"] for m in r["metrics"]]
    assert sorted(found) == sorted(m.value for r in own for m in r.metrics if m.split == "test")
    assert head["base_model"] == "hubert_mini"
    for fact in (
        about["base"]["sha256"],
        sha256_file(path),
        f"{about['hours_processed']!r}",
        "eval (fixed)",
    ):
        assert fact in body
    recipe = yaml.safe_load(body.split("```yaml\n")[1].split("```")[0])
    assert recipe == about["recipe"]
    check_with_hugging_face(card)
    assert weights == _weights_that_a_run_records(path)


def _weights_that_a_run_records(path: Path) -> str:
    from ssft_bench.upstream import load_upstream, weights_sha256

    return weights_sha256(load_upstream("score_hubert", {"ckpt": str(path)}))


def test_the_tuning_command(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = json.loads(json.dumps(read_checkpoint(PACKAGED).about["recipe"]))
    recipe["train"]["schedule"] = {
        "name": "constant",
        "warmup": 0.5,
        "hold": 0.0,
        "final_scale": 0.0,
    }
    path, about = drawn_checkpoint(tmp_path, 5, recipe=recipe, steps=300)
    card = checkpoint_card(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    spec = asked(bench, monkeypatch, card, tuning_run, "tune")
    assert spec == TuneSpec.model_validate(about["recipe"])
    assert "train.schedule={" in card, "given whole: the recipe's has other keys"


def test_without_the_base_and_without_a_recipe(tmp_path: Path) -> None:
    base = {"name": "no_such_base", "options": {}, "sha256": "0" * 64}
    path, _ = drawn_checkpoint(
        tmp_path,
        5,
        base=base,
        recipe={},
        steps=None,
        hours_processed=None,
        cost={},
        data={},
        choices={},
    )
    card = checkpoint_card(path, tmp_path)
    _, body = head_and_body(card)
    assert "None were looked for: unknown upstream 'no_such_base'" in body
    assert body.count("The checkpoint does not tell.") == 3
    assert "tells no recipe" in body


# The command


def test_command(bench: Bench, tmp_path: Path) -> None:
    folder = stored(tmp_path / "runs", made_up(4))
    code, out, _ = bench("card", folder)
    assert code == 0
    assert out == run_card(folder)
    assert out.endswith(".\n")
    assert bench("card", folder, "-o", tmp_path / "new/CARD.md")[0] == 0
    assert (tmp_path / "new/CARD.md").read_text() == out
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    drawn_checkpoint(tuned, 1)[0].rename(tuned / "checkpoint.safetensors")
    (tuned / "tuned.sha256").unlink()
    code, out, _ = bench("card", tuned, "--runs", tmp_path / "runs")
    assert (code, "fine-tuned by self-supervised method `score`" in out) == (0, True)
    assert out.endswith(".\n")


def test_mistakes(bench: Bench, tmp_path: Path) -> None:
    failed = stored(tmp_path / "runs", made_up(4).model_copy(update={"status": "failed"}))
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    cases = {
        tmp_path / "absent": (2, "is not there"),
        failed: (2, "the run is failed"),
        tmp_path: (2, "holds no result.json"),
        tmp_path / "junk.safetensors": (3, "is not a safetensors file"),
    }
    for target, (expected, words) in cases.items():
        code, out, error = bench("card", target)
        assert (code, out) == (expected, ""), error
        assert words in error
    good = stored(tmp_path / "good", made_up(4))
    code, _, error = bench("card", good, "-o", tmp_path / "junk.safetensors/x")
    assert (code, "cannot write there" in error) == (2, True)
