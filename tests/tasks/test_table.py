"""The metric table: numbers, chance, seeds, and its three forms."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console

from whence.base.errors import WhenceError
from whence.scores.matrix import Scores
from whence.tasks.interval import FEW_SEEDS, ONE_CLASS
from whence.tasks.metrics import DEFAULT_METRICS, judge, measure
from whence.tasks.table import MetricTable, metric_table

TRAIN = [*"aabbc"] * 4
QUERY = [*"abcab"]


def two_methods(seed: int = 0) -> dict[str, Scores]:
    rng = np.random.default_rng(seed)
    good = rng.normal(size=(5, 20)) + 9 * (np.array(QUERY)[:, None] == np.array(TRAIN)[None, :])
    return {"good": Scores(good, "good"), "noise[x]": Scores(rng.normal(size=(5, 20)), "noise")}


def test_rows_hold_the_means_and_chance_is_exact():
    scores = two_methods()
    table = metric_table(scores, TRAIN, QUERY)
    for method, of_method in scores.items():
        for name, x in measure(judge(of_method.values, TRAIN, QUERY)).items():
            estimate = table.rows[method][name]
            assert estimate.value == pytest.approx(x.mean())
            assert estimate.low <= estimate.value <= estimate.high
    assert table.rows["good"]["auprc"].value == 1.0
    assert table.chance["acc"] == pytest.approx(np.mean([8, 8, 4, 8, 8]) / 20)
    assert table.chance["roc_auc"] == 0.5
    assert table.metrics == DEFAULT_METRICS


def test_unscored_queries_and_one_class_are_noted():
    table = metric_table({"m": Scores(np.random.default_rng(0).random((3, 4)), "m")}, ["a"] * 4, ["a"] * 3)
    assert table.rows["m"]["roc_auc"].unscored == 3
    assert np.isnan(table.chance["roc_auc"])
    assert ONE_CLASS in table.notes
    assert "roc_auc: undefined for 3 queries, which are left out" in table.notes
    assert json.loads(json.dumps(table.to_json(), allow_nan=False))["chance"]["roc_auc"] is None


def test_tied_tops_are_noted():
    table = metric_table({"m": Scores(np.zeros((2, 2)), "m")}, ["a", "b"], ["a", "b"])
    assert "m: the top score is tied for 2 queries; row order decides" in table.notes


def test_markdown():
    lines = metric_table(two_methods(), TRAIN, QUERY, metrics=["acc", "roc_auc"]).to_markdown().splitlines()
    assert lines[0] == "| method | acc | roc_auc | hub |"
    assert lines[1] == "|---|---|---|---|"
    assert lines[2].startswith("| good | 1.000 [1.000, 1.000] | 1.000 [1.000, 1.000] | .")
    assert lines[4] == "| chance | .360 | .500 |  |"
    assert lines[6] == "5 queries, 20 training rows; mean [95% interval]."


def test_rich_shows_every_method_whatever_its_name():
    out = io.StringIO()
    Console(file=out, width=200).print(metric_table(two_methods(), TRAIN, QUERY).to_rich("title"))
    for text in ("title", "good", "noise[x]", "chance", "cover at positives", "5 queries, 20 training rows"):
        assert text in out.getvalue()


def test_rich_leaves_out_just_what_does_not_fit():
    table, console = metric_table(two_methods(), TRAIN, QUERY), Console(file=io.StringIO(), width=400)
    whole = console.measure(table.to_rich()).maximum
    assert len(table.to_rich(width=whole).columns) == len(table.to_rich().columns)
    for width in range(60, whole):
        shown = table.to_rich(width=width)
        left_out = len(table.to_rich().columns) - len(shown.columns)
        assert left_out > 0 and "no room here for" in str(shown.caption)
        assert console.measure(shown).maximum <= width or left_out == 5


def test_over_seeds_pools_the_seeds_and_widens_the_interval():
    tables = [metric_table(two_methods(seed), TRAIN, QUERY) for seed in range(3)]
    pooled = MetricTable.over_seeds(tables)
    for name in DEFAULT_METRICS:
        estimate = pooled.rows["noise[x]"][name]
        assert estimate.value == pytest.approx(np.mean([t.rows["noise[x]"][name].value for t in tables]))
        assert estimate.n == 15
        assert pooled.chance[name] == pytest.approx(tables[0].chance[name])
    assert pooled.per_query["good"]["acc"].shape == (3, 5)
    assert (pooled.seeds, len(pooled.hubs["good"])) == (3, 3)
    assert FEW_SEEDS in pooled.notes
    assert "3 seeds" in pooled.to_markdown()
    assert pooled.to_json()["seeds"] == 3


def test_over_seeds_refuses_tables_that_differ():
    table = metric_table(two_methods(), TRAIN, QUERY)
    for other, what in [
        (metric_table({"good": two_methods()["good"]}, TRAIN, QUERY), "methods"),
        (metric_table(two_methods(), TRAIN, QUERY, metrics=["acc"]), "metrics"),
        (metric_table({k: Scores(s.values[:4], k) for k, s in two_methods().items()}, TRAIN, QUERY[:4]),
         "number of queries"),
    ]:
        with pytest.raises(WhenceError, match=f"table 1 has other {what} than table 0"):
            MetricTable.over_seeds([table, other])
    with pytest.raises(WhenceError, match="no tables"):
        MetricTable.over_seeds([])


def test_mistakes_name_the_method():
    with pytest.raises(WhenceError, match=r"good: scores are \[5 queries, 20 training rows\]"):
        metric_table(two_methods(), TRAIN[:-1], QUERY)
    with pytest.raises(WhenceError, match="label 'z'"):
        metric_table(two_methods(), TRAIN, [*"abcaz"])
    with pytest.raises(WhenceError, match="no scores"):
        metric_table({}, TRAIN, QUERY)
