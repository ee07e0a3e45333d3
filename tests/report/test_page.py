"""The page without a browser: every number is its record's, nothing is fetched, nothing hostile runs."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lxml import html

from ssft_bench.metric import Prediction
from ssft_bench.report import page
from ssft_bench.report.collect import collect
from tests.report.runs import finish, several, texts

Bench = Callable[..., tuple[int, str, str]]


def built(root: Path, base: str | None = None, **options: Any) -> Any:
    """The page of a folder, parsed."""
    return html.fromstring(page.build(collect(root, base), **options))


def table(tree: Any) -> list[dict[str, Any]]:
    """Rows of the table of results: heading -> cell."""
    (found,) = tree.xpath("//table[@id='table']")
    names = [th.text_content().strip() for th in found.xpath("./thead/tr/th")]
    rows = found.xpath("./tbody/tr")
    return [dict(zip(names, row.xpath("./td|./th"), strict=True)) for row in rows]


def first_number(cell: Any) -> float:
    (number,) = cell.xpath("./button")
    return float(number.text_content().split()[0])


def test_every_number_of_the_table_is_that_of_its_record(runs: Path) -> None:
    collection = collect(runs)
    tree = built(runs)
    rows = table(tree)
    assert len(rows) == len(collection.runs) == 13
    for row in rows:
        place = int(row["Score"].xpath("./button/@data-run")[0])
        record = json.loads((collection.runs[place].folder / "result.json").read_text())
        primary = next(m for m in record["metrics"] if m["primary"])
        assert first_number(row["Score"]) == float(f"{primary['value']:.2f}")
        assert float(row["Score"].get("data-value")) == primary["value"]
        low, _, high = row["95% CI"].text_content().partition(" to ")
        assert [float(low), float(high)] == [float(f"{x:.2f}") for x in primary["ci95"]]
        spec, cost = record["spec"], record["cost"]
        assert int(row["Seed"].text_content()) == spec["seed"]
        assert row["Task"].text_content().startswith(spec["task"]["name"])
        assert row["Upstream"].text_content().startswith(spec["upstream"]["name"])
        assert row["Interface"].text_content() == spec["interface"]["name"]
        assert row["Suite"].text_content() == spec["suite"]
        assert row["Protocol"].text_content() == spec["protocol"]
        learned = sum(part["trainable"] for part in cost["parameters"].values())
        assert int(row["Trainable"].text_content().replace(",", "")) == learned
        per_second = sum(cost["macs_per_second_of_audio"].values())
        assert float(row["MMAC/s"].text_content().replace(",", "")) == pytest.approx(
            per_second / 1e6
        )
        hours = sum(t["hours_processed"] for t in cost["tuning"])
        assert float(row["Tuning hours"].text_content()) == pytest.approx(hours, abs=0.005)


def test_bold_is_the_best_of_its_task(runs: Path) -> None:
    rows = table(built(runs))
    for task, better in (("asr", min), ("sa", max)):
        own = [row for row in rows if row["Task"].text_content().startswith(task)]
        values = {id(row): float(row["Score"].get("data-value")) for row in own}
        bold = {id(row) for row in own if row["Score"].xpath(".//b")}
        best = better(values.values())
        assert bold == {key for key, value in values.items() if value == best}


def test_curves_and_shares_are_told_as_numbers(runs: Path) -> None:
    collection = collect(runs)
    tree = built(runs)
    for section, key in (("curves", "learning_curve"), ("layers", "interface_state")):
        rows = tree.xpath(f"//section[@id='{section}']//figure//tbody/tr")
        assert rows
        for row in rows:
            record = collection.runs[int(row.xpath(".//button/@data-run")[0])].record
            own = getattr(record, key)
            wanted = (
                own["layer_usage"]
                if key == "interface_state"
                else [point[f"dev_{record.spec.selection.metric}"] for point in own]
            )
            shown = [float(cell.text_content()) for cell in row.xpath("./td")[1:]]
            assert shown == pytest.approx(wanted, abs=0.005)


def test_a_line_goes_through_its_points(tmp_path: Path, rng: np.random.Generator) -> None:
    """The drawing itself: pixels of the path are a linear map of the numbers."""
    curve = [(100 * n, float(v)) for n, v in enumerate(rng.uniform(10, 90, 7), 1)]
    finish(tmp_path, texts(rng, 12, 0.4), curve=curve)
    (path,) = built(tmp_path).xpath("//section[@id='curves']//*[@data-run='0']/path")
    points = np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", path.get("d")), float)
    steps, values = np.array(curve).T
    assert len(points) == 7
    for drawn, wanted in ((points[:, 0], steps), (points[:, 1], values)):
        fit = np.polyval(np.polyfit(wanted, drawn, 1), wanted)
        assert np.abs(fit - drawn).max() < 0.01
    off = np.where(np.arange(7) == 3, values + 5, values)
    assert np.abs(np.polyval(np.polyfit(off, points[:, 1], 1), off) - points[:, 1]).max() > 0.5
    assert np.polyfit(values, points[:, 1], 1)[0] < 0  # up is more


def test_every_drawing_has_a_title_a_text_and_ids_of_its_own(runs: Path) -> None:
    tree = built(runs)
    drawings = tree.xpath("//figure//*[name()='svg']")
    assert len(drawings) > 5
    for drawing in drawings:
        assert drawing.get("role") == "img"
        for name in drawing.get("aria-labelledby").split():
            (found,) = tree.xpath(f"//*[@id='{name}']")
            assert found.text_content()
    ids = tree.xpath("//@id")
    assert len(ids) == len(set(ids))
    for place in tree.xpath("//@*[name()='xlink:href' or name()='href']"):
        assert place.startswith(("#", "data:"))
        if place.startswith("#"):
            assert place[1:] in ids


def test_nothing_is_fetched(runs: Path) -> None:
    text = page.build(collect(runs))
    tree = html.fromstring(text)
    for attribute in ("src", "href", "action", "data", "poster", "srcset", "background"):
        for value in tree.xpath(f"//@{attribute}"):
            assert value.startswith(("data:", "#")), value
    styles = [*tree.xpath("//style/text()"), *tree.xpath("//@style")]
    scripts = tree.xpath("//script[not(@type)]/text()")
    assert len(scripts) == 1
    for code in (*styles, *scripts):
        assert "//" not in code
        assert "@import" not in code
        assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", code)
    assert not re.findall(
        r"\b(fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon|import\s*\()", scripts[0]
    )
    assert not tree.xpath(
        "//link[not(starts-with(@href, 'data:'))]|//iframe|//object|//embed|//base"
    )
    policy = tree.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")[0]
    assert policy.startswith("default-src 'none'")


HOSTILE = [
    "<script>window.hurt=1</script>",
    "</script><script>window.hurt=1</script>",
    '"><img src=x onerror="window.hurt=1">',
    "' onmouseover='window.hurt=1",
    "<!--<script>",
    "]]></style><svg onload=window.hurt=1>",
    "{{ 7 * 7 }}",
    "$\\frac{1}{0$",
]


def hostile(root: Path) -> None:
    """Runs whose every text is an attack."""
    for place, text in enumerate(HOSTILE):
        words = [
            Prediction(f"{text}{n}", f"GOOD {text}", f"{text} BAD", f"{text}{n % 2}")
            for n in range(3)
        ]
        folder = finish(root, words, seed=place + 1, curve=[(1, 5.0 + place)])
        record = json.loads((folder / "result.json").read_text())
        record["spec"]["upstream"] = {"name": f"up{text}", "options": {text: text}}
        record["spec"]["interface"] = {"name": f"in{text}", "options": {}}
        record["spec"]["data"]["corpus"] = f"corpus{text}"
        record["signature"] += str(place)
        record["data"] = {"synthetic": True, "licence": text, "stands_in": text}
        record["interface_state"]["usage_kind"] = text
        record["metrics"][0]["unit"] = text
        record["metrics"][0]["ci_method"] = text
        record["code"] = {"version": text, "commit": text, "dirty": True}
        (folder / "result.json").write_text(json.dumps(record))
    finish(root, [Prediction("u", "A", "B")], seed=99, status="failed", error=HOSTILE[1])


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    hostile(tmp_path)
    tree = built(tmp_path)
    assert len(tree.xpath("//script")) == 2
    assert not tree.xpath("//img")
    assert not [a for a in tree.xpath("//@*") if a.is_attribute and a.attrname.startswith("on")]
    everything = tree.text_content()
    for text in HOSTILE:
        assert text in everything  # shown as it is, not dropped
    data = json.loads(tree.xpath("//script[@type='application/json']")[0].text)
    assert any(HOSTILE[1] in run["title"] for run in data["runs"])
    assert "49" not in {cell.text_content() for cell in tree.xpath("//th")}


def test_the_same_runs_give_the_same_bytes(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = page.build(collect(runs))
    later = time.time() + 1e6
    monkeypatch.setattr(time, "time", lambda: later)
    elsewhere = tmp_path / "elsewhere"
    runs.rename(elsewhere)
    assert page.build(collect(elsewhere)) == first
    record = next(elsewhere.rglob("result.json"))
    record.write_text(record.read_text().replace('"value": 4', '"value": 5'))
    assert page.build(collect(elsewhere)) != first


def test_a_single_run(tmp_path: Path, rng: np.random.Generator) -> None:
    finish(tmp_path, texts(rng, 12, 0.4), upstream="fbank")
    tree = built(tmp_path)
    assert len(table(tree)) == 1
    assert not tree.xpath("//select")  # nothing to choose from
    assert "name one with --base" in tree.xpath("//section[@id='gains']")[0].text_content()
    assert tree.xpath("//section[@id='examples']//article")


def test_failed_runs_only(tmp_path: Path, rng: np.random.Generator) -> None:
    finish(tmp_path, texts(rng, 12, 0.4), status="failed", error="CheckFailed: diverged")
    tree = built(tmp_path)
    assert "No run has finished" in tree.xpath("//section[@id='results']")[0].text_content()
    assert "diverged" in tree.xpath("//section[@id='unfinished']//tbody")[0].text_content()
    assert not tree.xpath("//section[@id='gains']")


def test_no_curve_no_layers(tmp_path: Path, rng: np.random.Generator) -> None:
    from tests.report.runs import searches

    finish(tmp_path, searches(rng), task="qbe", interface="layer", usage=None)
    tree = built(tmp_path)
    assert "there is no curve" in tree.xpath("//section[@id='curves']")[0].text_content()
    assert "chooses among layers" in tree.xpath("//section[@id='layers']")[0].text_content()
    assert not tree.xpath("//section[@id='costs']//figure")


def test_markup_is_semantic(runs: Path) -> None:
    tree = built(runs)
    assert tree.get("lang") == "en"
    assert not tree.xpath("//th[not(@scope)]")
    assert len(tree.xpath("//h1")) == 1
    for heading in tree.xpath("//table[@id='table']/thead//th"):
        assert heading.get("aria-sort") == "none"
        assert len(heading.xpath("./button[@type='button']")) == 1
    for field in tree.xpath("//select|//input"):
        assert field.xpath("ancestor::label")
    assert not tree.xpath("//audio[not(@controls)]|//audio[@autoplay]")
    for row in tree.xpath("//table[@id='table']/tbody/tr"):
        assert len(row.xpath("./th[@scope='row']")) == 1


def test_errors_are_marked_without_colour(tmp_path: Path) -> None:
    finish(tmp_path, [Prediction("u", "A B C D", "A X C D D E")])
    finish(tmp_path, [Prediction("u", "A B C D", "B C D")], upstream="fbank")
    tree = built(tmp_path)
    wanted = {
        "substitute": ("S", ("del", "B"), ("ins", "X")),
        "delete": ("D", ("del", "A")),
        "insert": ("I", ("ins", "E")),
    }
    for kind, (letter, *parts) in wanted.items():
        found = tree.xpath(f"//dd//span[@class='piece {kind}']")
        assert found
        for piece in found:
            assert piece.xpath("./i")[0].text == letter
        for element, word in parts:
            assert word in [own.text for piece in found for own in piece.xpath(f"./{element}")]
    assert len(tree.xpath("//dd//span[@class='piece equal']")) == 3 + 3


def test_command_line(bench: Bench, runs: Path, tmp_path: Path) -> None:
    target = tmp_path / "out" / "page.html"
    code, out, err = bench("report", "--runs", runs, "-o", target, "--audio", 1)
    assert code == 0, err
    assert f"written: {target}" in out
    assert "13 runs" in out
    code, out, _ = bench("report", "--runs", runs, "-o", target, "--base", "fbank", "--json")
    assert json.loads(out)["base"] == "fbank"
    assert json.loads(out)["bytes"] == target.stat().st_size
    before = target.read_bytes()
    for arguments, wanted, told in (
        (("--runs", tmp_path / "no"), 3, "no run there"),
        (("--runs", runs, "--base", "wavlm"), 2, "no finished run"),
        (("--runs", runs, "-o", tmp_path), 2, "that is a folder"),
    ):
        code, _, err = bench("report", "-o", target, *arguments)
        assert code == wanted
        assert told in err
        assert err.count("\n") == 1
    assert target.read_bytes() == before


@pytest.mark.slow
def test_hundreds_of_runs(tmp_path: Path, rng: np.random.Generator) -> None:
    names = ("hubert_mini", "score_hubert", "spin_hubert", "laser_hubert", "rewire_hubert", "fbank")
    interfaces = ("weighted_sum", "hconv", "mean", "last", "gated", "lap", "concat_proj", "mhfa", "chconv",
                  "grouped_weighted_sum", "cls_pool", "gumbel")  # fmt: skip
    rates = dict(zip(names, rng.uniform(0.2, 0.6, len(names)), strict=True))
    several(tmp_path, rng, rates, interfaces=interfaces, seeds=range(1, 6), utterances=40)
    collection = collect(tmp_path)
    assert len(collection.runs) == 360
    began = time.monotonic()
    text = page.build(collection)
    assert len(text.encode()) < 10_000_000
    assert time.monotonic() - began < 180
    assert len(table(html.fromstring(text))) == 360
