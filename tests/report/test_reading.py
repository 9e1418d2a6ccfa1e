from __future__ import annotations

import re

import numpy as np
import pytest

from tests.report.synthetic import content, ranked
from whence.report import ReportContent, to_html
from whence.report.reading import readings
from whence.tasks.table import metric_table

GOOD, BAD = (0, 3, 1, 4, 2, 5), (1, 2, 4, 5, 0, 3)  # rows 0 and 3 are red, as query 0 is
PLAIN = {"blocks": (), "block_scores": None, "behaviours": None}


def made(headline: str = "mine", baselines: tuple[str, ...] = ("bm25",), **orders: list) -> ReportContent:
    """A report of red queries (groups red, green, blue repeat in the six training rows)."""
    base = content(1, 6, metrics=None)
    queries = base.queries.select([0])
    columns = {name: value * 4 for name, value in vars(queries).items() if isinstance(value, tuple)}
    queries = type(queries)(**(columns | {"ids": tuple("abcd")}))
    scores = {name: ranked(order, name) for name, order in orders.items()}
    table = metric_table(scores, list(base.train.groups), list(queries.groups), metrics=("acc", "auprc"))
    return content(train=base.train, queries=queries, scores=scores, headline=headline, baselines=baselines,
                   metrics=table, **PLAIN)


def words(page: str) -> str:
    lead = page[page.index('<ul class="readings"'):page.index('<section id="queries"')]
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", "", lead))


def test_a_baseline_that_wins_is_said_to_win() -> None:
    report = made(bm25=[GOOD] * 4, mine=[BAD] * 4)
    ranking, top = readings(report)
    assert (ranking.heading, top.heading) == ("AUPRC", "Acc")
    assert (ranking.first.label, ranking.second.label, ranking.verdict) == ("bm25", "mine", "ahead")  # type: ignore[union-attr]
    values = [report.metrics.rows[name]["auprc"].value for name in ("bm25", "mine")]  # type: ignore[union-attr]
    assert ranking.lead.value == pytest.approx(values[0] - values[1])  # type: ignore[union-attr]
    said = words(to_html(report))
    assert "bm25, a baseline, is ahead with 1.000 [1.000, 1.000]: the best other method, mine, has" in said
    assert "Chance: .333" in said


def test_overlap_is_judged_query_by_query() -> None:
    mixed = made(bm25=[GOOD, GOOD, BAD, BAD], mine=[GOOD, BAD, GOOD, GOOD])
    top = readings(mixed)[1]
    assert (top.first.label, top.verdict) == ("mine", "unclear")
    assert top.lead.low <= 0 < top.lead.value  # type: ignore[union-attr]
    assert "cannot be told from it" in words(to_html(mixed))


def test_equal_methods_are_level() -> None:
    level = readings(made(bm25=[GOOD] * 4, mine=[GOOD] * 4))[0]
    assert (level.verdict, level.lead.value) == ("level", 0)  # type: ignore[union-attr]
    assert "are level at 1.000 [1.000, 1.000]" in words(to_html(made(bm25=[GOOD] * 4, mine=[GOOD] * 4)))


def test_the_method_shown_is_named_when_it_is_not_the_best_and_the_choice_is_counted() -> None:
    report = made("weak", bm25=[GOOD] * 4, mine=[GOOD] * 4, weak=[BAD] * 4)
    reading = readings(report)[0]
    assert reading.headline is not None and reading.headline.label == "weak"
    assert reading.second is not None and {reading.first.among, reading.second.among} == {1, 2}
    assert "The method shown below, weak, has" in words(to_html(report))
    assert "of 2 other settings was picked on these same queries" in words(to_html(report))
    assert readings(made(bm25=[BAD] * 4, mine=[GOOD] * 4))[0].headline is None


def test_nothing_to_compare_and_nothing_above_chance() -> None:
    reading = readings(made(baselines=(), mine=[BAD] * 4))[1]
    assert (reading.second, reading.lead, reading.verdict, reading.at_chance) == (None, None, None, True)
    said = words(to_html(made(baselines=(), mine=[BAD] * 4)))
    assert "nothing of the other kind" in said and "nothing here is shown to do better than that" in said
    assert readings(content(metrics=None)) == []


def test_a_metric_that_nothing_was_scored_on_is_left_out() -> None:
    base = content(2, 6, metrics=None)
    scores = {"mine": ranked([GOOD, BAD], "mine")}
    table = metric_table(scores, ["red"] * 6, ["red"] * 2, metrics=("roc_auc",))
    assert np.isnan(table.chance["roc_auc"])
    assert readings(content(train=base.train, queries=base.queries, scores=scores, headline="mine", baselines=(),
                            metrics=table, **PLAIN)) == []
