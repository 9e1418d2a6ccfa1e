"""The permutation null: centred on chance, honest about hubs, exact in a case that can be counted."""

from __future__ import annotations

import numpy as np
import pytest

from whence.base.errors import WhenceError
from whence.tasks.metrics import DEFAULT_METRICS, metric
from whence.tasks.permutation import permutation_null, permutation_nulls

TRAIN = [*"ab"] * 15
QUERY = [*"ab"] * 10


def informed(strength: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(20, 30)) + strength * (np.array(QUERY)[:, None] == np.array(TRAIN)[None, :])


def test_the_null_is_centred_on_chance():
    nulls = permutation_nulls(informed(0.0), TRAIN, QUERY, permutations=400)
    for name in DEFAULT_METRICS:
        expected = metric(name).by_chance(np.array([15]), 30)[0]
        assert nulls[name].mean == pytest.approx(expected, abs=0.02)
        assert nulls[name].percentile95 > nulls[name].mean
        assert nulls[name].p_value > 0.01


def test_informed_scores_beat_every_shuffle_and_p_is_never_zero():
    null = permutation_null(informed(3.0), TRAIN, QUERY, "auprc", permutations=99)
    assert null.observed > null.percentile95
    assert null.p_value == pytest.approx(1 / 100)
    assert null.to_json()["permutations"] == 99


def test_under_one_hub_accuracy_is_one_coin():
    values = np.random.default_rng(0).random((10, 30))
    values[:, 7] = 9.0
    null = permutation_null(values, TRAIN, ["b"] * 10, "acc", permutations=400)
    assert null.observed == 1.0
    assert null.percentile95 == 1.0
    assert null.p_value == pytest.approx(0.5, abs=0.08)


def test_the_same_seed_gives_the_same_null_and_one_metric_is_as_with_others():
    values = informed(1.0)
    together = permutation_nulls(values, TRAIN, QUERY, permutations=20, seed=3)
    assert permutation_null(values, TRAIN, QUERY, "mrr", permutations=20, seed=3) == together["mrr"]
    assert permutation_null(values, TRAIN, QUERY, "mrr", permutations=20, seed=4) != together["mrr"]


def test_undefined_throughout_is_null_in_json_and_no_permutations_is_refused():
    null = permutation_null(np.random.default_rng(0).random((2, 3)), ["a"] * 3, ["a"] * 2, "roc_auc", 5)
    assert null.to_json() == {"observed": None, "mean": None, "p95": None, "p_value": None, "permutations": 5}
    with pytest.raises(WhenceError, match="at least 1"):
        permutation_null(np.zeros((1, 2)), ["a", "b"], ["a"], permutations=0)
