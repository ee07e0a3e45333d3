"""`show`: the sizes it prints are those of the specification's table."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

Bench = Callable[..., tuple[int, str, str]]

# Parameters for (13, 768), (25, 768), (13, 1024), (25, 1024): from the papers' formulas, worked out
# outside this package.
PARAMETERS = {
    "weighted_sum": (13, 25, 13, 25),
    "last": (0, 0, 0, 0),
    "layer:index=4": (0, 0, 0, 0),
    "mean": (0, 0, 0, 0),
    "grouped_weighted_sum": (1_180_429, 1_180_441, 2_098_189, 2_098_201),
    "grouped_weighted_sum:groups=2": (1_180_429, 1_180_441, 2_098_189, 2_098_201),
    "grouped_weighted_sum:groups=3": (1_770_253, 1_770_265, 3_146_765, 3_146_777),
    "grouped_weighted_sum:groups=4": (2_360_077, 2_360_089, 4_195_341, 4_195_353),
    "concat_proj": (7_668_480, 14_746_368, 13_632_512, 26_215_424),
    "hconv": (4_424_832, 3_933_184, 7_865_856, 6_990_165),
    "cls_pool": (7_099_392, 7_108_608, 12_611_584, 12_623_872),
    "pca_concat": (0, 0, 0, 0),
    "channel_weighted_sum": (9_984, 19_200, 13_312, 25_600),
    "gated": (9_997, 19_225, 13_325, 25_625),
    "bottleneck_concat": (2_558_336, 4_919_168, 3_410_560, 6_557_824),
    "hconv_residual": (4_424_846, 3_933_210, 7_865_870, 6_990_191),
    "gumbel": (9_984, 19_200, 13_312, 25_600),
    "gumbel:project=true": (600_576, 609_792, 1_062_912, 1_075_200),
    "lap": (989_680, 997_072, 1_580_272, 1_587_664),
    "mhfa": (2_302_554, 2_302_578, 2_368_090, 2_368_114),
    "chconv": (4_424_832, 3_933_184, 7_865_856, 6_990_165),
}
WIDTHS = {
    "hconv": (768, 768, 1024, 1023),
    "hconv_residual": (768, 768, 1024, 1023),
    "chconv": (768, 768, 1024, 1023),
    "pca_concat": (780, 775, 1027, 1025),
    "lap": (512,) * 4,
    "mhfa": (256,) * 4,
}


def sizes(bench: Bench, name: str) -> list[dict[str, int]]:
    code, out, err = bench("show", name, "--json")
    assert code == 0, err
    found: dict[str, dict[str, int]] = json.loads(out)["interfaces"]["sizes"]
    assert list(found) == [f"{n} layers of {d}" for d in (768, 1024) for n in (13, 25)]
    return list(found.values())


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_and_widths(bench: Bench, name: str) -> None:
    found = sizes(bench, name)
    assert tuple(row["parameters"] for row in found) == PARAMETERS[name]
    wanted = WIDTHS.get(name.partition(":")[0], (768, 768, 1024, 1024))
    assert tuple(row["output_dim"] for row in found) == wanted


def test_what_pca_stores(bench: Bench) -> None:
    stored = [row["stored beside them"] for row in sizes(bench, "pca_concat")]
    assert stored == [609_024, 614_400, 1_064_960, 1_075_200]
    assert not any(row["stored beside them"] for row in sizes(bench, "hconv"))


def test_every_built_in_interface_is_in_the_table() -> None:
    from ssft_bench import registry

    names = {p.name for p in registry.plugins("interfaces") if p.origin == "built-in"}
    assert names == {name.partition(":")[0] for name in PARAMETERS}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hconv:stride=1", "stride must be at least 2"),
        ("hconv:strid=3", "strid"),
        ("asr:layers=2", "options are shown for interfaces only"),
    ],
)
def test_options_that_do_not_fit(bench: Bench, name: str, message: str) -> None:
    code, out, err = bench("show", name)
    assert code == 2
    assert message in err
    assert "Traceback" not in out + err
