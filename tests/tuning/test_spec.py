"""Recipes become specifications; what does not fit is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from ssft_bench import registry
from ssft_bench.errors import UsageError
from ssft_bench.tuning.spec import Points, TuneData, load_recipes, recipe_for, resolve, signature

METHODS = [plugin.name for plugin in registry.plugins("methods")]
RECIPES = ["hubert_base", "wavlm_base", "hubert_mini", "wavlm_mini"]


def test_points_are_straight_lines() -> None:
    rng = np.random.default_rng()
    updates = np.sort(rng.choice(1000, 4, replace=False))
    rates = rng.random(4)
    points = Points(points=list(zip(updates.tolist(), rates.tolist(), strict=True)))
    for step in rng.integers(0, 1000, 50):
        assert points.factor(int(step), 1) == pytest.approx(np.interp(step, updates, rates))
    with pytest.raises(ValueError, match="rise"):
        Points(points=[(5, 1.0), (5, 0.0)])


@pytest.mark.parametrize("method", METHODS)
def test_every_recipe_resolves_by_its_own_name(method: str) -> None:
    recipes = load_recipes(registry.load("methods", method))
    for name in recipes:
        resolved = resolve(method=method, base="hubert", recipe=name)
        assert resolved.recipe == name
        assert resolved.data.corpus == ("mini" if "mini" in name else "librispeech")


@pytest.mark.parametrize(
    ("base", "wanted"),
    [("hubert_base", "hubert_base"), ("hubert_large_ll60k", "hubert_base"),
     ("wavlm_local", "wavlm_base"), ("hf_hubert_custom", "hubert_base"),
     ("wav2vec2_large_ll60k", "hubert_base"), ("hubert_mini_random", "hubert_mini"),
     ("hubert_mini_local", "hubert_mini"), ("wavlm_mini", "wavlm_mini")],
)  # fmt: skip
def test_recipe_of_a_base(base: str, wanted: str) -> None:
    assert recipe_for(base, {key: {} for key in RECIPES}) == wanted


def test_no_recipe_of_that_size() -> None:
    with pytest.raises(UsageError, match="--recipe"):
        recipe_for("hubert_base", {"hubert_mini": {}})


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"method": "scor"}, ("'scor'", "score")),
        ({"base": "hubert_mni"}, ("hubert_mini",)),
        ({"corpus": "minni"}, ("mini",)),
        ({"recipe": "hubert_bas"}, ("hubert_base",)),
        ({"faithful": ["teacher"]}, ("teacher_mode",)),
        ({"sets": ["train.stps=3"]}, ("train.steps",)),
        ({"sets": ["train.steps=0"]}, ("train.steps",)),
        ({"sets": ["method.options.gamma=-1"]}, ("method.options.gamma",)),
        ({"method": "score:gama=1"}, ("gama", "gamma")),
        ({"sets": ["data.batch_seconds=9"]}, ("pack",)),
    ],
)
def test_mistakes_are_named(arguments: dict[str, object], parts: tuple[str, ...]) -> None:
    given = {"method": "score", "base": "hubert_mini", **arguments}
    with pytest.raises(UsageError) as caught:
        resolve(**given)  # type: ignore[arg-type]
    assert all(part in str(caught.value) for part in parts), caught.value


def test_options_flags_and_sets_win_in_this_order() -> None:
    spec = resolve(
        method="score:teacher_mode=eval,gamma=0.5",
        base="hubert_mini",
        faithful=["teacher_mode"],
        sets=["method.options.gamma=0.25", "train.steps=7"],
        seed=9,
    )
    assert spec.method.options["teacher_mode"] == "train"
    assert spec.method.options["gamma"] == 0.25
    assert (spec.train.steps, spec.seed) == (7, 9)


def test_the_signature_knows_what_counts() -> None:
    spec = resolve(method="score", base="hubert_mini", data="/here")
    same = resolve(method="score", base="hubert_mini", data="/there", sets=["train.log_every=1"])
    other = resolve(method="score", base="hubert_mini", sets=["train.clip=2"])
    content = {"base_weights": "a"}
    assert signature(spec, content) == signature(same, content)
    assert signature(spec, content) != signature(other, content)
    assert signature(spec, content) != signature(spec, {"base_weights": "b"})


def test_batches_must_be_addressable() -> None:
    with pytest.raises(ValueError, match="batch_size or batch_seconds"):
        TuneData(corpus="mini", pack="by_length", batch_size=None)


def test_every_number_of_a_recipe_is_where_its_reader_finds_it() -> None:
    """No key of a recipe is silently dropped."""
    for method in METHODS:
        module = registry.load("methods", method)
        import inspect

        path = Path(inspect.getfile(module)).with_name("recipe.yaml")
        for name, recipe in yaml.safe_load(path.read_text()).items():
            assert set(recipe) <= {"options", "data", "train", "store", "seed"}, (method, name)
