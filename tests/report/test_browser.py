"""The page in a real browser: what a click and a key do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.report.synthetic import METHODS, content
from whence.report import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
PLACES = ("/usr/bin/chromium", shutil.which("chromium"), shutil.which("chromium-browser"))
CHROMIUM = next((place for place in PLACES if place and Path(place).exists()), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium at /usr/bin/chromium or on PATH")
MADE = content(8, 40, n_blocks=30)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(MADE, tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture
def opened(browser, path: Path) -> Iterator[SimpleNamespace]:
    """A page with what it said on the console and asked of the network; both must stay empty."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    yield page
    page.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def rows(page, which: str = "pro") -> list[int]:
    return [int(item.get_attribute("data-row")) for item in page.query_selector_all(f"#{which} > li")]


def highest(label: str, q: int) -> list[int]:
    return np.argsort(-MADE.scores[label].values[q])[:10].tolist()


def test_choosing_a_query_changes_its_hits(opened) -> None:
    assert rows(opened) == highest(METHODS[0], 0)
    assert rows(opened, "con") == np.argsort(MADE.scores[METHODS[0]].values[0])[:10].tolist()
    opened.click("#query-3")
    assert rows(opened) == highest(METHODS[0], 3)
    assert "response of query 3" in opened.inner_text("#query")
    assert "answer 3 ✗ differs from the response" in opened.inner_text("#query")
    assert "−4.5 nats" in opened.inner_text("#query")
    opened.click("#next")
    assert rows(opened) == highest(METHODS[0], 4)
    opened.focus("#list")
    opened.keyboard.press("ArrowUp")
    opened.keyboard.press("ArrowUp")
    assert rows(opened) == highest(METHODS[0], 2)
    assert opened.inner_text("#position") == "3 of 8"


def test_choosing_a_method_changes_the_order(opened) -> None:
    for label in METHODS[1:]:
        opened.select_option("#method", label=label)
        assert rows(opened) == highest(label, 0)
        assert opened.query_selector("#pro .blocks") is None  # contributions are the headline's only
    opened.reload()  # the address remembers
    assert rows(opened) == highest(METHODS[-1], 0)


def test_a_hit_shows_sign_unit_group_ranks_and_layers(opened) -> None:
    first = opened.query_selector("#pro > li")
    row, value = rows(opened)[0], MADE.scores[METHODS[0]].values[0].max()
    assert f"+{value:.4f} nats" in first.inner_text()
    assert f"row {row} · train-{row}" in first.inner_text()
    same = MADE.train.groups[row] == MADE.queries.groups[0]
    assert (first.query_selector(".chip.same") is not None) == same
    cells = first.query_selector_all(".strip [data-tip]")
    assert len(cells) == len(METHODS) - 1
    other = MADE.scores[METHODS[1]].values[0]
    assert cells[0].get_attribute("data-tip") == f"{METHODS[1]}: rank {1 + (other > other[row]).sum()} of 40"
    assert len(first.query_selector_all(".blocks .cells > span")) == 15  # 30 blocks of 15 layers
    assert "−" in opened.query_selector("#con .score").inner_text()


def test_tooltips_come_with_pointer_and_keys(opened) -> None:
    opened.hover("#pro > li:first-child .strip [data-tip]")
    assert opened.inner_text("#tip").startswith(f"{METHODS[1]}: rank ")
    opened.focus("#pro > li:first-child .strip")
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press("ArrowRight")
    assert opened.inner_text("#tip").startswith(f"{METHODS[2]}: rank ")
    opened.keyboard.press("Escape")
    assert opened.is_hidden("#tip")


def test_search_narrows_the_list(opened) -> None:
    opened.fill("#search", "green query-4")
    assert opened.inner_text("#position") == "1 of 1"
    assert rows(opened) == highest(METHODS[0], 4)
    opened.fill("#search", "nowhere")
    assert opened.inner_text("#list") == "No query matches."
    opened.fill("#search", "")
    assert len(opened.query_selector_all("#list [role=option]")) == 8


def test_the_metric_table_sorts(opened) -> None:
    def first() -> str:
        return opened.inner_text("#table tbody tr:first-child th code")

    assert first() == METHODS[0]
    opened.click("#table thead th:nth-child(2) button")
    assert first() == "bm25"
    assert opened.get_attribute("#table thead th:nth-child(2)", "aria-sort") == "descending"
    opened.click("#table thead th:nth-child(2) button")
    assert first() == METHODS[0]


def test_a_phone_need_not_scroll_sideways(browser, path: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.close()
