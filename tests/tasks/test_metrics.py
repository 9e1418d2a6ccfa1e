"""Metrics against scikit-learn, against literal loops, and under changes that must not matter."""

from __future__ import annotations

import doctest
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from whence.base.errors import WhenceError
from whence.tasks import chance, hubs, interval, labels, metrics
from whence.tasks.metrics import DEFAULT_METRICS, check_shape, judge, judge_relevance, measure, metric

TRAIN = [*"abcabcabcaab"]
QUERY = [*"abca"]


def tied_scores(seed: int = 0, queries: int = 4, train: int = 12) -> np.ndarray:
    """Scores with many ties."""
    return np.random.default_rng(seed).integers(0, 4, size=(queries, train)).astype(float)


@pytest.mark.parametrize("module", [chance, hubs, interval, labels, metrics])
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [True, False])
def test_auprc_and_roc_auc_equal_sklearn(seed, ties):
    values = tied_scores(seed) if ties else np.random.default_rng(seed).normal(size=(4, 12))
    got = measure(judge(values, TRAIN, QUERY), ["auprc", "roc_auc"])
    for q, label in enumerate(QUERY):
        relevant = np.array([t == label for t in TRAIN])
        assert got["auprc"][q] == pytest.approx(average_precision_score(relevant, values[q]), abs=1e-12)
        assert got["roc_auc"][q] == pytest.approx(roc_auc_score(relevant, values[q]), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_cuts_equal_a_literal_loop(seed):
    values = np.random.default_rng(seed).normal(size=(4, 12))
    got = measure(judge(values, TRAIN, QUERY), ["acc", "cover", "cover_at_positives", "mrr", "precision@5"])
    for q, label in enumerate(QUERY):
        ranked = [TRAIN[j] == label for j in sorted(range(12), key=lambda j: -values[q, j])]
        cut, positives = 12 // 3, TRAIN.count(label)
        assert got["acc"][q] == ranked[0]
        assert got["cover"][q] == pytest.approx(sum(ranked[:cut]) / cut)
        assert got["cover_at_positives"][q] == pytest.approx(sum(ranked[:positives]) / positives)
        assert got["mrr"][q] == pytest.approx(1 / (1 + ranked.index(True)))
        assert got["precision@5"][q] == pytest.approx(sum(ranked[:5]) / 5)


def test_ties_go_by_row_order():
    judged = judge(np.zeros((2, 3)), ["a", "b", "b"], ["a", "b"])
    got = measure(judged, ["acc", "mrr", "roc_auc", "auprc"])
    assert got["acc"].tolist() == [1.0, 0.0]
    assert got["mrr"].tolist() == [1.0, 0.5]
    assert got["roc_auc"].tolist() == [0.5, 0.5]
    assert got["auprc"] == pytest.approx([1 / 3, 2 / 3])


def test_undefined_queries_are_marked_and_the_others_unharmed():
    values = np.random.default_rng(0).normal(size=(3, 4))
    relevant = np.array([[False] * 4, [True] * 4, [True, False, False, True]])
    judged = judge_relevance(values, relevant)
    got = measure(judged, ["acc", "cover_at_positives", "auprc", "roc_auc", "mrr"])
    assert np.isnan(got["roc_auc"]).tolist() == [True, True, False]
    for name in ("cover_at_positives", "auprc", "mrr"):
        assert np.isnan(got[name]).tolist() == [True, False, False]
        assert got[name][1] == 1.0
    assert got["acc"][:2].tolist() == [0.0, 1.0]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_a_strictly_increasing_transform_of_a_querys_scores_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    values = tied_scores(seed)
    scale, shift = rng.uniform(0.1, 5, size=(4, 1)), rng.normal(size=(4, 1))
    before = measure(judge(values, TRAIN, QUERY))
    for changed in (values * scale + shift, np.exp(values), np.arctan(values), values**3):
        after = measure(judge(changed, TRAIN, QUERY))
        for name in DEFAULT_METRICS:
            np.testing.assert_array_equal(after[name], before[name])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_reordering_training_rows_with_their_labels_or_queries_with_theirs_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    values = rng.permuted(np.arange(48.0)).reshape(4, 12)
    rows, columns = rng.permutation(4), rng.permutation(12)
    before = measure(judge(values, TRAIN, QUERY))
    after = measure(judge(values[rows][:, columns], [TRAIN[j] for j in columns], [QUERY[q] for q in rows]))
    for name in DEFAULT_METRICS:
        np.testing.assert_allclose(after[name], before[name][rows], rtol=0, atol=1e-14)


def test_metrics_that_do_not_depend_on_row_order_keep_that_with_ties():
    values, columns = tied_scores(), np.random.default_rng(1).permutation(12)
    before = measure(judge(values, TRAIN, QUERY), ["auprc", "roc_auc"])
    after = measure(judge(values[:, columns], [TRAIN[j] for j in columns], QUERY), ["auprc", "roc_auc"])
    for name, x in before.items():
        np.testing.assert_allclose(after[name], x, rtol=0, atol=1e-14)


@pytest.mark.parametrize("positives", [1, 2, 4, 5])
@pytest.mark.parametrize("name", [*DEFAULT_METRICS[:1], *DEFAULT_METRICS[2:], "precision@2"])
def test_chance_is_the_mean_over_every_order(name, positives):
    n = 5
    relevant = np.arange(n) < positives
    orders = np.array(list(itertools.permutations(range(n))), dtype=float)
    per_order = metric(name).per_query(judge_relevance(orders, np.broadcast_to(relevant, orders.shape)))
    expected = metric(name).by_chance(np.array([positives]), n)
    np.testing.assert_allclose(per_order.mean(), expected[0], atol=1e-12)


def test_chance_of_a_query_without_positives_is_undefined_where_the_metric_is():
    for name in ("cover_at_positives", "auprc", "roc_auc", "mrr"):
        assert np.isnan(metric(name).by_chance(np.array([0]), 3)[0])
    assert metric("acc").by_chance(np.array([0]), 3)[0] == 0


def test_mistakes_are_named():
    with pytest.raises(WhenceError, match=r"no metric 'accuracy'; there are acc, cover, .*precision@k"):
        metric("accuracy")
    with pytest.raises(WhenceError, match="precision at 13 of 12 training rows"):
        measure(judge(tied_scores(), TRAIN, QUERY), ["precision@13"])
    with pytest.raises(WhenceError, match="there are no classes here"):
        measure(judge_relevance(tied_scores(), np.ones((4, 12), dtype=bool)), ["cover"])
    with pytest.raises(WhenceError, match="nothing to rank"):
        judge(np.zeros((0, 2)), ["a", "b"], [])


def test_a_shape_that_does_not_match_is_refused_and_a_transposed_one_recognised():
    check_shape(np.zeros((2, 3)), n_train=3, n_query=2)
    with pytest.raises(WhenceError, match=r"\[2 queries, 3 training rows\], but there are 5 labels in "
                                          r"q.jsonl and 3 in t.jsonl") as error:
        check_shape(np.zeros((2, 3)), 3, 5, "s.csv", "t.jsonl", "q.jsonl")
    assert "other way round" not in str(error.value)
    with pytest.raises(WhenceError, match="They fit the other way round: the matrix is transposed"):
        check_shape(np.zeros((2, 3)), n_train=2, n_query=3)
