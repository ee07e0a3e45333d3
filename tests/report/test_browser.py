"""The page in headless Chromium: keyboard, themes, widths, sound, silence towards network and console."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssft_bench.corpora.mini_corpus import MiniPhrases
from ssft_bench.data import SPLITS, rows_sha256
from ssft_bench.files import sha256_json
from ssft_bench.metric import Prediction
from ssft_bench.report import page
from ssft_bench.report.collect import collect
from tests.report.runs import finish
from tests.report.test_page import hostile

pytestmark = pytest.mark.slow
WIDTHS = (390, 1440)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A driven browser that has no network; skips visibly where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    binary = os.environ.get("SSFT_BENCH_CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("no chromium with chromedriver (Debian: apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    yield browser
    browser.quit()


@pytest.fixture
def opened(chromium: Any, runs: Path, tmp_path: Path) -> Any:
    """The browser with the page of made-up runs and of one on the embedded corpus."""
    rows = MiniPhrases().utterances("test")[:4]
    digest = rows_sha256([row for split in SPLITS for row in MiniPhrases().utterances(split)])
    finish(
        runs, [Prediction(r.id, r.text or "", "SOMETHING ELSE", r.speaker) for r in rows],
        interface="hconv", sets=["train.steps=9"],
        content={"upstream_weights": sha256_json("hubert_mini"), "corpus": digest},
    )  # fmt: skip
    return show(chromium, runs, tmp_path)


def show(chromium: Any, runs: Path, tmp_path: Path, **options: Any) -> Any:
    target = tmp_path / "report.html"
    target.write_text(page.build(collect(runs), **options))
    resize(chromium, 1440)
    system_theme(chromium, "light")
    chromium.get_log("browser")
    chromium.get_log("performance")
    chromium.get(target.as_uri())
    chromium.execute_script(
        "localStorage.clear(); document.documentElement.removeAttribute('data-theme')"
    )
    chromium.refresh()
    return chromium


def resize(chromium: Any, width: int) -> None:
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def system_theme(chromium: Any, theme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": theme}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def press(chromium: Any, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(chromium).send_keys(*keys).perform()


def tab_to(chromium: Any, script: str, most: int = 200) -> None:
    """Press Tab until the focused element `e` fulfils the script: so it can be reached by keyboard."""
    from selenium.webdriver.common.keys import Keys

    chromium.execute_script("document.querySelector('.skip').focus()")
    for _ in range(most):
        press(chromium, Keys.TAB)
        if chromium.execute_script(f"const e = document.activeElement; return Boolean({script})"):
            return
    last = chromium.execute_script("return document.activeElement.outerHTML.slice(0, 200)")
    pytest.fail(f"no Tab reaches {script}; the last one {last}")


def shown(chromium: Any, column: int) -> list[str]:
    return list(chromium.execute_script(
        "return [...document.querySelectorAll('#table tbody tr')].filter(r => !r.hidden)"
        ".map(r => r.cells[arguments[0]].dataset.value ?? r.cells[arguments[0]].textContent)", column,
    ))  # fmt: skip


def requests(chromium: Any) -> list[str]:
    """Addresses that were asked for since the page was opened, files and data: left out."""
    events = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    asked = [
        e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"
    ]
    return [url for url in asked if not url.startswith(("file:", "data:"))]


def background(chromium: Any) -> str:
    return str(chromium.execute_script("return getComputedStyle(document.body).backgroundColor"))


def test_no_request_no_console_error_and_sound(opened: Any) -> None:
    seconds = opened.execute_async_script(
        "const done = arguments[0]; const a = document.querySelector('#examples audio');"
        "const told = () => done(a.error ? a.error.message : a.duration);"
        "a.addEventListener('loadedmetadata', told); a.addEventListener('error', told);"
        "a.preload = 'auto'; a.load();"
    )
    assert isinstance(seconds, float | int), seconds
    assert 0.3 < seconds < 20
    for click in opened.find_elements("css selector", ".number")[:40:5]:
        opened.execute_script("arguments[0].click()", click)
    assert requests(opened) == []
    assert opened.get_log("browser") == []


def test_a_request_would_be_seen_and_is_refused(opened: Any) -> None:
    """The control of the test above: the policy stops a request, and the log tells of it."""
    opened.execute_script(
        "const i = new Image(); i.src = 'https://example.org/x.png'; document.body.append(i)"
    )
    opened.execute_async_script("setTimeout(arguments[0], 300)")
    told = " ".join(entry["message"] for entry in opened.get_log("browser"))
    assert "Content Security Policy" in told


def test_sorting_by_keyboard(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    column = 6  # the score
    tab_to(opened, "e.closest('thead') && e.textContent === 'Score'")
    heading = "return document.activeElement.closest('th').getAttribute('aria-sort')"
    press(opened, Keys.ENTER)
    assert opened.execute_script(heading) == "ascending"
    values = [float(value) for value in shown(opened, column)]
    assert values == sorted(values)
    press(opened, Keys.SPACE)
    assert opened.execute_script(heading) == "descending"
    assert [float(v) for v in shown(opened, column)] == sorted(values, reverse=True)
    sorts = (
        "return [...document.querySelectorAll('#table th[aria-sort]:not([aria-sort=none])')].length"
    )
    assert opened.execute_script(sorts) == 1
    tab_to(opened, "e.closest('thead') && e.textContent === 'Upstream'")
    press(opened, Keys.ENTER)
    names = [name.split()[0] for name in shown(opened, 2)]
    assert names == sorted(names)


def test_filtering_by_keyboard(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    everything = len(shown(opened, 1))
    tab_to(opened, "e.id === 'find'")
    press(opened, "spin")
    assert set(shown(opened, 2)) == {"spin_hubertweighted_sumseed 1", "spin_hubertweighted_sumseed 2",
                                     "spin_hubertweighted_sumseed 3"}  # fmt: skip
    assert opened.find_element("id", "count").text == f"3 of {everything} runs"
    press(opened, *[Keys.BACKSPACE] * 4)
    tab_to(opened, "e.dataset.filter === 'task'")
    press(opened, "q")
    assert {text[:3] for text in shown(opened, 1)} == {"qbe"}
    tab_to(opened, "e.type === 'reset'")
    press(opened, Keys.ENTER)
    opened.execute_async_script("setTimeout(arguments[0], 50)")
    assert len(shown(opened, 1)) == everything


def test_details_by_keyboard(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    tab_to(opened, "e.matches('#table tbody .number')")
    place = opened.execute_script("return document.activeElement.dataset.run")
    press(opened, Keys.ENTER)
    is_open = "return document.getElementById('details').open"
    assert opened.execute_script(is_open)
    text = opened.find_element("id", "details").text
    path = opened.execute_script(
        "return JSON.parse(document.getElementById('data').textContent).runs[arguments[0]].path",
        int(place),
    )
    assert path in text
    assert "ssft-bench run --upstream hubert_mini" in text
    press(opened, Keys.ESCAPE)
    assert not opened.execute_script(is_open)
    assert (
        opened.execute_script("return document.activeElement.dataset.run") == place
    )  # focus is back
    tab_to(opened, "e.matches('table.map .number')")
    press(opened, Keys.ENTER)
    assert "Holm" in opened.find_element("id", "details").text
    inner = "e.closest('#details-body') && e.dataset.run"
    for _ in range(5):
        press(opened, Keys.TAB)
        if opened.execute_script(f"const e = document.activeElement; return Boolean({inner})"):
            break
    press(opened, Keys.ENTER)
    assert "Command that makes it again" in opened.find_element("id", "details").text


def test_a_point_of_a_plot_tells_where_it_is_from(opened: Any) -> None:
    opened.execute_script(
        "document.querySelector('#costs [data-run]').dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    assert opened.execute_script("return document.getElementById('details').open")


def test_theme_follows_the_system_and_the_toggle_by_keyboard(opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    light = background(opened)
    system_theme(opened, "dark")
    dark = background(opened)
    assert {light, dark} == {"rgb(255, 255, 255)", "rgb(20, 23, 28)"}
    ink = "return getComputedStyle(document.querySelector('figure svg text')).fill"
    in_dark = opened.execute_script(ink)
    tab_to(opened, "e.id === 'theme'")
    pressed = "return document.activeElement.getAttribute('aria-pressed')"
    assert opened.execute_script(pressed) == "true"
    press(opened, Keys.ENTER)
    assert background(opened) == light
    assert opened.execute_script(pressed) == "false"
    assert opened.execute_script(ink) != in_dark  # plots go along
    opened.refresh()
    assert background(opened) == light  # it is remembered


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_focus_is_visible(opened: Any, theme: str) -> None:
    system_theme(opened, theme)
    tab_to(opened, "e.closest('thead')")
    style = "const s = getComputedStyle(document.activeElement); return [s.outlineStyle, s.outlineWidth]"
    assert opened.execute_script(style) == ["solid", "2px"]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_as_wide_as_the_window(opened: Any, width: int) -> None:
    resize(opened, width)
    opened.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    sizes = opened.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert sizes == [width, width]
    opened.execute_script("document.querySelector('#table .number').click()")
    box = opened.execute_script(
        "const b = document.getElementById('details').getBoundingClientRect(); return [b.left, b.right]"
    )
    assert box[0] >= 0
    assert box[1] <= width
    opened.execute_script(
        "const e = document.createElement('p'); e.style.width = '2000px'; e.textContent = 'wide';"
        "document.querySelector('main').append(e)"
    )
    assert opened.execute_script("return document.documentElement.scrollWidth") > width  # control


def test_text_on_a_phone_can_be_read(opened: Any) -> None:
    resize(opened, 390)
    sizes = opened.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(s => {"
        "const t = s.querySelector('text'); return t.getBoundingClientRect().height; })"
    )
    assert sizes
    assert min(sizes) > 8


def test_print_is_light_and_has_the_table(opened: Any) -> None:
    system_theme(opened, "dark")
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert background(opened) in ("rgb(255, 255, 255)", "rgba(0, 0, 0, 0)")
    hidden = opened.execute_script(
        "return ['nav', '#filters', '#theme'].map(s => getComputedStyle(document.querySelector(s)).display)"
    )
    assert hidden == ["none"] * 3
    assert (
        opened.execute_script(
            "return getComputedStyle(document.querySelector('#table .wide')).display"
        )
        != "none"
    )
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_hostile_texts_do_not_run(chromium: Any, tmp_path: Path) -> None:
    hostile(tmp_path / "runs")
    browser = show(chromium, tmp_path / "runs", tmp_path)
    for button in browser.find_elements("css selector", "#table .number"):
        browser.execute_script("arguments[0].click()", button)
    assert browser.execute_script("return window.hurt") is None
    told = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert told == []
    for width in WIDTHS:
        resize(browser, width)
        assert browser.execute_script("return document.documentElement.scrollWidth") == width


def test_failed_runs_only(chromium: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    finish(tmp_path / "runs", [Prediction("u", "A", "B")], status="failed", error="diverged " * 40)
    browser = show(chromium, tmp_path / "runs", tmp_path)
    assert browser.get_log("browser") == []
    resize(browser, 390)
    assert browser.execute_script("return document.documentElement.scrollWidth") == 390
