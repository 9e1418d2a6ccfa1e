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
    assert len(cells) == len(METHODS) - 2  # every other family; the headline's own has two members
    other = MADE.scores[METHODS[2]].values[0]
    assert cells[0].get_attribute("data-tip") == f"{METHODS[2]}: rank {1 + (other > other[row]).sum()} of 40"
    assert len(first.query_selector_all(".blocks .cells > span")) == 15  # 30 blocks of 15 layers
    assert "−" in opened.query_selector("#con .score").inner_text()


def test_tooltips_come_with_pointer_and_keys(opened) -> None:
    opened.hover("#pro > li:first-child .strip [data-tip]")
    assert opened.inner_text("#tip").startswith(f"{METHODS[2]}: rank ")
    opened.mouse.move(1, 1)
    assert opened.is_hidden("#tip")
    opened.focus("#pro > li:first-child .strip")
    opened.keyboard.press("ArrowRight")
    opened.keyboard.press("ArrowRight")
    assert opened.inner_text("#tip").startswith(f"{METHODS[3]}: rank ")
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


def test_ranks_under_every_damping_are_there_when_asked_for(opened) -> None:
    boxes = "#pro > li:first-child .strip [data-tip]"
    opened.check("#every")
    tips = [cell.get_attribute("data-tip") for cell in opened.query_selector_all(boxes)]
    assert [tip.partition(": rank")[0] for tip in tips] == list(METHODS[1:])
    opened.uncheck("#every")
    assert len(opened.query_selector_all(boxes)) == len(METHODS) - 2


def labels(page) -> list[str]:
    return [code.inner_text() for code in page.query_selector_all("#table tbody th code") if code.is_visible()]


def test_the_metric_table_sorts(opened) -> None:
    assert MADE.metrics is not None
    families = [METHODS[0], *METHODS[2:]]
    by_auprc = sorted(families, key=lambda label: -MADE.metrics.rows[label]["auprc"].value)
    assert labels(opened) == families
    opened.click("#table thead th:nth-child(3) button")
    assert labels(opened) == by_auprc
    assert opened.get_attribute("#table thead th:nth-child(3)", "aria-sort") == "descending"
    opened.click("#table thead th:nth-child(3) button")
    assert labels(opened) == by_auprc[::-1]
    opened.click("#table thead th:nth-child(1) button")
    assert labels(opened) == families


def test_dampings_unfold_one_by_one_and_all_at_once(opened) -> None:
    opened.click("#table .unfold")
    assert labels(opened) == list(METHODS)
    assert opened.get_attribute("#table .unfold", "aria-expanded") == "true"
    opened.click("#unfold-all")
    assert labels(opened) == [METHODS[0], *METHODS[2:]]
    opened.click("#unfold-all")
    assert labels(opened) == list(METHODS)


def test_without_script_the_table_is_whole_and_the_explorer_gone(browser, path: Path) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(path.as_uri())
    assert labels(page) == list(METHODS)
    assert page.is_hidden(".explorer") and page.is_hidden("#unfold-all")
    assert "needs JavaScript" in page.inner_text("#queries")
    page.close()


def test_one_query_under_one_method_needs_no_choosing(browser, tmp_path: Path) -> None:
    behaviour = {"log_prob_nats": -2.5, "greedy_matches": False}
    made = content(1, 12, methods=METHODS[:1], metrics=None, behaviours=[behaviour])
    page = browser.new_page()
    page.goto(write_report(made, tmp_path / "r.html").as_uri())
    assert page.is_hidden(".picker") and page.is_hidden("#every-label")
    assert page.inner_text("#queries-title") == "Query"
    assert "Greedy answer\n✗ differs from the response" in page.inner_text("#query")
    assert len(rows(page)) == 6 and page.query_selector(".strip") is None
    page.close()


def test_a_phone_need_not_scroll_sideways(browser, path: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.close()
