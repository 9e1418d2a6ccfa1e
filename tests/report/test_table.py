from __future__ import annotations

import math

from tests.report.synthetic import HEADLINE, Estimate, content
from whence.report.table import fact_sections, metric_table, tiles


def test_best_chance_and_baselines() -> None:
    made = content()
    table = metric_table(made)
    assert table is not None
    assert (table.metrics, table.headings) == (("acc", "hub_top1_share"), ("Acc", "hub top-1 share"))
    assert table.chance == (0.33, None)
    rows = dict(table.rows)
    best = {label: tuple(cell is not None and cell.best for cell in cells) for label, cells in rows.items()}
    assert best["bm25"] == (True, True)  # highest Acc (0.7), lowest hub share (0.5)
    assert not any(any(marks) for label, marks in best.items() if label != "bm25")
    acc = {label: cells[0] for label, cells in rows.items()}
    assert acc[HEADLINE] is not None and acc[HEADLINE].at_chance  # [0.25, 0.35] holds 0.33
    assert acc["fisher(damping=1)"] is not None and not acc["fisher(damping=1)"].at_chance  # [0.35, 0.45]
    accuracy, hub = tiles(made, table)
    assert accuracy.baseline == ("bm25", made.metrics["bm25"]["acc"].value)  # type: ignore[index]
    assert accuracy.beaten and hub.beaten


def test_a_baseline_that_loses_is_not_said_to_win() -> None:
    metrics = {HEADLINE: {"acc": Estimate(0.8, 0.7, 0.9, 5), "hub_top1_share": Estimate(0.1, 0.0, 0.2, 5)},
               "bm25": {"acc": Estimate(0.4, 0.3, 0.5, 5), "hub_top1_share": Estimate(0.3, 0.2, 0.4, 5)}}
    made = content(metrics=metrics)
    assert [tile.beaten for tile in tiles(made, metric_table(made))] == [False, False]


def test_undefined_and_missing_estimates_are_empty_cells() -> None:
    made = content(metrics={HEADLINE: {"acc": Estimate(math.nan, math.nan, math.nan, 0)},
                            "bm25": {"mrr": Estimate(0.5, 0.4, 0.6, 5)}})
    table = metric_table(made)
    assert table is not None
    assert [[cell is None for cell in cells] for _, cells in table.rows] == [[True, True], [True, False]]
    assert tiles(made, table) == []
    assert metric_table(content(metrics=None)) is None


def test_nested_facts_become_sections() -> None:
    facts = {"n": 12000, "model": {"name": "tiny", "rope": {"theta": 0.5}}, "seeds": [0, 1], "empty": {}}
    assert fact_sections(facts) == [
        ("Run", [("n", "12,000"), ("seeds", "0, 1")]), ("model", [("name", "tiny")]),
        ("model · rope", [("theta", "0.5")])]
