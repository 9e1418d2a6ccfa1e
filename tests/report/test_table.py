from __future__ import annotations

from tests.report.synthetic import HEADLINE, METHODS, content, examples
from whence.report.table import fact_sections, metric_rows
from whence.scores.matrix import Scores
from whence.tasks.hubs import hub_facts
from whence.tasks.table import metric_table


def test_families_stand_together_their_default_first() -> None:
    labels = ("fisher(damping=1)", "bm25", HEADLINE, "fisher(damping=10)")
    groups = metric_rows(content(methods=labels))
    assert [[row.label for row in group] for group in groups] == [
        [HEADLINE, "fisher(damping=1)", "fisher(damping=10)"], ["bm25"]]


def test_cells_are_the_tables_with_the_best_and_chance_marked() -> None:
    made = content()
    assert made.metrics is not None
    rows = {row.label: row for group in metric_rows(made) for row in group}
    assert set(rows) == set(METHODS)
    for place, name in enumerate(made.metrics.metrics):
        estimates = {label: row[name] for label, row in made.metrics.rows.items()}
        top = max(estimate.value for estimate in estimates.values())
        for label, estimate in estimates.items():
            cell = rows[label].cells[place]
            assert cell is not None and cell.estimate == estimate
            assert cell.best == (estimate.value == top)
            assert cell.at_chance == (estimate.low <= made.metrics.chance[name] <= estimate.high)
    assert rows["bm25"].hubs == hub_facts(made.scores["bm25"].values)


def test_what_could_not_be_scored_is_an_empty_cell() -> None:
    train, queries = examples(6, "train"), examples(2, "query")
    scores = {"bm25": Scores(content(2, 6).scores["bm25"].values, "bm25")}
    table = metric_table(scores, ["red"] * 6, ["red"] * 2, metrics=("acc", "roc_auc"))
    made = content(train=train, queries=queries, scores=scores, headline="bm25", baselines=(), metrics=table,
                   blocks=(), block_scores=None, behaviours=None)
    ((row,),) = metric_rows(made)
    assert [cell is None for cell in row.cells] == [False, True]
    assert metric_rows(content(metrics=None)) == []


def test_nested_facts_become_sections() -> None:
    facts = {"n": 12000, "model": {"name": "tiny", "rope": {"theta": 0.5}}, "seeds": [0, 1], "empty": {}}
    assert fact_sections(facts) == [
        ("Run", [("n", "12,000"), ("seeds", "0, 1")]), ("model", [("name", "tiny")]),
        ("model · rope", [("theta", "0.5")])]
