from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, spearmanr
from sklearn.metrics import roc_auc_score

from tests.report.synthetic import content
from whence.report.statistics import (
    agreement,
    bootstrap_mean,
    most_common_firsts,
    same_group,
    separation,
    wilson,
)


def test_agreement_is_the_mean_spearman_over_queries() -> None:
    rng = np.random.default_rng(0)
    first = rng.standard_normal((4, 20))
    second = first + rng.standard_normal((4, 20))
    third = np.round(second)  # ties
    mean, half = agreement([first, second, third])
    each = np.array([spearmanr(second[q], third[q]).statistic for q in range(4)])
    assert mean[1, 2] == pytest.approx(each.mean())
    assert half[1, 2] == pytest.approx(1.959964 * each.std(ddof=1) / 2)
    np.testing.assert_allclose(np.diag(mean), 1)
    assert agreement([first, -first])[0][0, 1] == pytest.approx(-1)


def test_agreement_leaves_out_queries_whose_rows_are_all_alike() -> None:
    first = np.array([[1.0, 2, 3], [5, 5, 5], [3, 2, 1]])
    second = np.array([[1.0, 2, 3], [1, 2, 3], [1, 2, 3]])
    assert agreement([first, second])[0][0, 1] == pytest.approx(0)
    assert np.isnan(agreement([first[1:2], second[1:2]])[0][0, 1])


def test_most_common_firsts_counts_rows_and_skips_ties() -> None:
    values = np.array([[9.0, 0, 0], [9, 1, 0], [0, 3, 1], [2, 2, 0]])
    assert most_common_firsts(values) == [2, 1]
    assert most_common_firsts(np.zeros((3, 2))) == []


def test_wilson_is_scipys() -> None:
    for count, n in ((0, 10), (7, 10), (200, 200)):
        expected = binomtest(count, n).proportion_ci(0.95, "wilson")
        made = wilson(count, n)
        assert (made.value, made.n) == (count / n, n)
        assert [made.low, made.high] == pytest.approx([expected.low, expected.high], abs=1e-6)


def test_bootstrap_mean_holds_the_mean_and_narrows() -> None:
    values = np.random.default_rng(1).standard_normal(400)
    small, large = bootstrap_mean(values[:40]), bootstrap_mean(values)
    assert large.value == pytest.approx(values.mean())
    assert large.low < large.value < large.high
    assert 2 < (small.high - small.low) / (large.high - large.low) < 5  # about sqrt(10)
    assert large == bootstrap_mean(values)
    assert np.isnan(bootstrap_mean(np.array([])).value)


def test_separation_is_the_roc_auc_of_each_query() -> None:
    made = content(4, 30)
    values = np.round(made.scores[made.headline].values, 1)
    same, labelled = same_group(made.train, made.queries)
    expected = [roc_auc_score(same[q], values[q]) for q in range(4)]
    assert separation(values, same, labelled).tolist() == pytest.approx(expected)
    labelled[:, 0] = same[:, 0] = False  # a row without a group counts nowhere
    expected = [roc_auc_score(same[q, 1:], values[q, 1:]) for q in range(4)]
    assert separation(values, same, labelled).tolist() == pytest.approx(expected)
    assert separation(values, np.ones_like(same), np.ones_like(same)).size == 0
