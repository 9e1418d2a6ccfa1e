"""Bootstrap intervals: against the normal approximation, with unscored queries, and over seeds."""

from __future__ import annotations

import json

import numpy as np
import pytest

from whence.base.errors import WhenceError
from whence.tasks import interval
from whence.tasks.interval import FEW_SEEDS, NO_SPREAD, ONE_CLASS, Estimate, bootstrap_mean, bootstrap_seeds


def test_the_interval_is_that_of_the_normal_approximation_for_many_queries():
    x = np.random.default_rng(0).normal(2.0, 3.0, size=400)
    estimate = bootstrap_mean(x, resamples=4000)
    half = 1.96 * x.std() / 20
    assert estimate.value == pytest.approx(x.mean())
    assert estimate.low == pytest.approx(x.mean() - half, abs=0.06 * half * 2)
    assert estimate.high == pytest.approx(x.mean() + half, abs=0.06 * half * 2)
    narrow = bootstrap_mean(x, resamples=4000, level=0.5)
    assert estimate.low < narrow.low < narrow.high < estimate.high


def test_the_same_seed_gives_the_same_interval_and_another_does_not():
    x = np.random.default_rng(0).random(30)
    assert bootstrap_mean(x) == bootstrap_mean(x)
    assert bootstrap_mean(x).low != bootstrap_mean(x, seed=1).low


def test_the_block_size_does_not_matter(monkeypatch):
    x = np.random.default_rng(0).random(20)
    whole = bootstrap_mean(x, resamples=100)
    monkeypatch.setattr(interval, "BLOCK", 140)
    assert bootstrap_mean(x, resamples=100) == whole


def test_unscored_queries_are_left_out_and_counted():
    x = np.array([0.0, np.nan, 1.0, 1.0, np.nan])
    estimate = bootstrap_mean(x)
    scored = bootstrap_mean(x[[0, 2, 3]])
    assert (estimate.n, estimate.unscored) == (3, 2)
    assert (estimate.value, estimate.low, estimate.high) == (scored.value, scored.low, scored.high)
    nothing = bootstrap_mean(np.array([np.nan, np.nan]))
    assert (nothing.n, nothing.unscored, str(nothing)) == (0, 2, "-")
    assert json.loads(json.dumps(nothing.to_json(), allow_nan=False))["value"] is None


def test_notes_say_when_an_interval_misleads():
    x = np.array([0.0, 1.0, 1.0])
    assert bootstrap_mean(x, query_labels=["a", "a", "b"]).notes == ()
    assert bootstrap_mean(x, query_labels=["a", "a", "a"]).notes == (ONE_CLASS,)
    assert bootstrap_mean(np.ones(4)).notes == (NO_SPREAD,)
    assert bootstrap_seeds(np.eye(4)).notes == (FEW_SEEDS,)
    assert bootstrap_seeds(np.eye(5)).notes == ()


def test_seeds_one_seed_is_the_interval_over_queries():
    x = np.random.default_rng(0).random(30)
    one, plain = bootstrap_seeds(x[None, :], resamples=20_000), bootstrap_mean(x, resamples=20_000)
    assert (one.value, one.n) == (plain.value, plain.n)
    assert one.low == pytest.approx(plain.low, abs=3e-3)


def test_seeds_the_spread_is_that_of_seeds_where_only_seeds_differ_and_of_queries_where_only_queries_do():
    rng = np.random.default_rng(0)
    effect_S, effect_Q = rng.normal(size=25), rng.normal(size=36)
    by_seed = bootstrap_seeds(np.repeat(effect_S[:, None], 36, axis=1), resamples=4000)
    by_query = bootstrap_seeds(np.repeat(effect_Q[None, :], 25, axis=0), resamples=4000)
    # The second holds only because queries are drawn once a resample: drawn anew for each seed, the
    # interval would be 5 times narrower.
    assert by_seed.high - by_seed.low == pytest.approx(2 * 1.96 * effect_S.std() / 5, rel=0.15)
    assert by_query.high - by_query.low == pytest.approx(2 * 1.96 * effect_Q.std() / 6, rel=0.15)


def test_seeds_unscored_entries_are_weighted_out():
    x = np.array([[0.0, np.nan, 1.0], [np.nan, np.nan, 1.0], [0.0, np.nan, np.nan]])
    estimate = bootstrap_seeds(x)
    assert (estimate.value, estimate.n, estimate.unscored) == (0.5, 4, 5)
    assert (estimate.low, estimate.high) == (0.0, 1.0)


def test_printing():
    assert str(Estimate(0.39, 0.3, 0.49, 100)) == ".390 [.300, .490]"
    assert str(Estimate(1.0, 0.9996, 1.0, 100)) == "1.000 [1.000, 1.000]"


@pytest.mark.parametrize("bad", [{"resamples": 99}, {"level": 0.0}, {"level": 1.0}])
def test_too_little_to_make_an_interval_of(bad):
    with pytest.raises(WhenceError, match="at least 100 resamples"):
        bootstrap_mean(np.ones(3), **bad)
