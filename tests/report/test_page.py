from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.report.synthetic import HEADLINE, content
from whence.base.errors import WhenceError
from whence.report import MAX_BYTES, to_html, write_report
from whence.report.page import HERE, SCRIPTS
from whence.tasks.table import metric_table

EVIL = "</script><img onerror=alert(1) src=x><!--<script>alert(2)//"


class Elements(HTMLParser):
    """Names and attributes of all elements, and the text of the data element."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.data = ""
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        self._inside = dict(attrs).get("id") == "data"

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        self.data += data if self._inside else ""


def test_the_page_refers_to_nothing_outside_itself() -> None:
    page = to_html(content())
    assert not re.search(r"https?://|\bsrc=|@import|url\((?!#)|xmlns", page)
    for tag, attributes in Elements(page).seen:
        for name in ("href", "action", "srcset", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:,")), (tag, attributes)


def test_every_script_is_on_the_page_and_nothing_else_is_allowed_to_run() -> None:
    page = to_html(content())
    assert sorted(SCRIPTS) == sorted(file.name for file in HERE.glob("*.js"))
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    places = [script.index((HERE / name).read_text(encoding="utf-8")) for name in SCRIPTS]
    assert places == sorted(places)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert re.findall(r"script-src ([^;]*);", page) == [f"'sha256-{digest}'"]


def test_the_page_is_the_same_every_time() -> None:
    assert to_html(content()) == to_html(content())


def test_text_from_data_is_never_markup() -> None:
    made = content()
    hostile = (EVIL,) * 30
    train = dataclasses.replace(made.train, prompts=hostile, responses=hostile, groups=hostile)
    ids = tuple(f"{EVIL}{q}" for q in range(5))
    queries = dataclasses.replace(made.queries, prompts=hostile[:5], ids=ids)
    label = f"m({EVIL})"
    scores = {label: made.scores[made.headline]}
    metrics = metric_table(scores, hostile, [EVIL] * 5)
    metrics = dataclasses.replace(metrics, **{
        part: {label: {EVIL: getattr(metrics, part)[label]["acc"]}} for part in ("rows", "per_query")},
        chance={EVIL: 0.5})
    page = to_html(content(
        train=train, queries=queries, title=EVIL, notes=(EVIL,), metrics=metrics,
        facts={EVIL: EVIL, "nest": {EVIL: {EVIL: EVIL}}},
        scores=scores, headline=label, baselines=(label,),
        blocks=(EVIL,), block_scores=lambda q, rows: np.ones((len(rows), 1)), behaviours=[{EVIL: EVIL}] * 5))
    elements = Elements(page)
    assert "img" not in {tag for tag, _ in elements.seen}
    assert sum(tag == "script" for tag, _ in elements.seen) == 2
    assert not [name for _, attributes in elements.seen for name in attributes if name.startswith("on")]
    assert json.loads(elements.data)["queries"][0]["prompt"] == [EVIL, 0]


def test_a_large_study_fits_and_says_what_is_left_out(tmp_path: Path) -> None:
    methods = [f"family{m // 5}(damping={m % 5})" for m in range(25)]
    path = write_report(content(200, 900, methods=methods, words=80, metrics=None), tmp_path / "report.html")
    page = path.read_text(encoding="utf-8")
    data = json.loads(Elements(page).data)
    assert MAX_BYTES * 0.9 < path.stat().st_size <= MAX_BYTES
    assert 20 < data["shown"] < 200
    assert f"{data['shown']} of 200 queries are shown" in page
    assert f"with {data['hits']} hits a list" in page


def test_an_impossible_limit_leaves_the_old_report(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(WhenceError, match="allow more bytes"):
        write_report(content(), path, max_bytes=20_000)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_report_without_labels_or_blocks_is_whole() -> None:
    page = to_html(content(metrics=None, blocks=(), block_scores=None, behaviours=None, notes=(),
                           baselines=(), facts={}))
    assert 'id="metrics"' not in page
    assert page.count("<figure") == 3


def test_half_a_surrogate_pair_does_not_stop_the_report(tmp_path: Path) -> None:
    made = content()
    broken = dataclasses.replace(made.queries, prompts=("\ud800 half",) * 5)
    assert write_report(content(queries=broken), tmp_path / "r.html").stat().st_size > 0


def test_units_signs_and_notes_are_said() -> None:
    page = to_html(content())
    for words in ("Positive = proponent", "Negative = opponent", "nats", "look out", "baseline", "chance"):
        assert words in page


def test_the_smallest_report_is_whole() -> None:
    data = json.loads(Elements(to_html(content(1, 1))).data)
    assert (data["hits"], len(data["queries"]), list(data["train"])) == (1, 1, ["0"])


CARD = {"method": HEADLINE, "level": "free", "verdict": {"answer": "don't believe", "because": ["nudge test"]},
        "queries": [{"id": f"query-{q}", "answer": "doubt", "because": ["hubs"]} for q in range(5)],
        "dials": [{"name": "hubs", "level": "free", "role": "cause", "reading": "bad", "says": "row 'x' <b> holds 90%",
                   "expected": "at most 30%", "value": 0.9},
                  {"name": "like BM25", "level": "free", "role": "note", "reading": "unknown", "says": "it is like it",
                   "expected": "", "value": 0.5}], "facts": {}, "overall": 0.1, "expectation": "rank correlation: .100"}


def test_a_card_stands_on_the_page_and_only_there_where_it_is() -> None:
    page = to_html(content(card=CARD))
    assert 'id="card"' in page and "Don&#39;t believe" in page and "row &#39;x&#39; &lt;b&gt; holds 90%" in page
    assert "Rank correlation: .100" in page
    assert "believe 0, doubt 5, don't believe 0" in page.replace("&#39;", "'") and ">fact</td>" in page
    assert "Should you believe it?" not in to_html(content())
    with pytest.raises(WhenceError, match="expected one of the headline"):
        content(card=CARD | {"method": "bm25"})
    with pytest.raises(WhenceError, match="for 4 queries"):
        content(n_queries=5, card=CARD | {"queries": CARD["queries"][:4]})
