"""Power-law tails: planted exponents come back, other laws are rejected, the test's p-values are p-values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from whence.base.errors import WhenceError
from whence.views.tail import _choose, _falling, _fit, fit_tail


def pareto(n: int, alpha: float, x_min: float = 1.0, seed: int = 0) -> np.ndarray:
    """Density exponent alpha, by inverting the survival function."""
    return x_min * np.random.default_rng(seed).random(n) ** (-1 / (alpha - 1))


def test_the_fit_is_clausets_formula_and_scipys_distance() -> None:
    values = pareto(300, 2.5)
    found = fit_tail(values, count=40, resamples=100)
    tail = np.sort(values)[-40:]
    alpha = 1 + 40 / sum(math.log(x / tail[0]) for x in tail)
    assert found.alpha == pytest.approx(alpha, rel=1e-12)
    assert found.survival == pytest.approx(alpha - 1, rel=1e-12)
    assert found.standard_error == pytest.approx((alpha - 1) / math.sqrt(40), rel=1e-12)
    assert found.x_min == pytest.approx(tail[0], rel=1e-12)
    expected = scipy.stats.kstest(tail, scipy.stats.pareto(alpha - 1, scale=tail[0]).cdf).statistic
    assert found.ks == pytest.approx(expected, rel=1e-9)
    assert (found.tail, found.positive, found.total) == (40, 300, 300)


@pytest.mark.parametrize("alpha", [1.8, 3.0])
def test_a_planted_pareto_comes_back(alpha: float) -> None:
    values = np.concatenate([pareto(1000, alpha, 0.02), -np.ones(3000), np.zeros(10)])
    found = fit_tail(values, fraction=1000 / 4010, resamples=300)
    assert found.low < alpha < found.high
    assert found.alpha == pytest.approx(alpha, rel=0.1)
    assert not found.rejected
    assert (found.tail, found.positive, found.total) == (1000, 1000, 4010)


def test_the_beginning_of_the_tail_is_found() -> None:
    rng = np.random.default_rng(2)
    values = np.concatenate([rng.uniform(0.1, 1.0, size=1500), pareto(500, 2.5, seed=3)])
    found = fit_tail(values, resamples=100)
    assert 0.8 < found.x_min < 1.6
    assert found.low < 2.5 < found.high
    assert not found.rejected
    assert found.chosen == "chosen by Kolmogorov-Smirnov"


def test_the_choice_has_the_least_distance_of_all_it_tried() -> None:
    logs = _falling(np.log(np.concatenate([pareto(200, 2.0), np.full(30, 1.5)])))
    size, _, ks = _choose(logs, 20)
    tried = [_fit(logs, n)[2] for n in range(20, len(logs) + 1)]
    assert ks == _fit(logs, size)[2]
    assert min(tried) <= ks <= np.quantile(tried, 0.2)  # it tries every tenth more


def test_exponential_and_uniform_are_rejected() -> None:
    rng = np.random.default_rng(4)
    for values in (rng.exponential(size=1000), rng.uniform(size=1000), np.abs(rng.normal(size=1000))):
        found = fit_tail(values, fraction=0.5, resamples=200)
        assert found.rejected
        assert found.p_value == pytest.approx(1 / 201)


def test_p_values_of_true_power_laws_are_uniform() -> None:
    p = [fit_tail(pareto(60, 2.2, seed=seed), count=40, resamples=100).p_value for seed in range(60)]
    assert scipy.stats.kstest(p, "uniform").pvalue > 0.01


def test_intervals_cover_the_planted_exponent_about_as_often_as_they_say() -> None:
    fits = [fit_tail(pareto(300, 2.2, seed=seed), count=300, resamples=150, level=0.9) for seed in range(60)]
    covered = np.mean([fit.low <= 2.2 <= fit.high for fit in fits])
    assert 0.8 <= covered <= 0.98  # binomial, 60 draws of 0.9: standard error 0.039


def test_it_has_no_unit_and_depends_on_the_seed_alone() -> None:
    values = pareto(200, 2.5)
    one, same, scaled = (fit_tail(v, count=100, resamples=100) for v in (values, values, 1e-8 * values))
    assert one == same
    assert scaled.alpha == pytest.approx(one.alpha, rel=1e-9)
    assert scaled.x_min == pytest.approx(1e-8 * one.x_min, rel=1e-9)
    assert fit_tail(values, count=100, resamples=100, seed=1).low != one.low


def test_ties_at_the_beginning_of_the_tail_all_belong_to_it() -> None:
    values = np.concatenate([pareto(30, 2.5, 3.0), np.full(10, 2.0), np.ones(50)])
    assert fit_tail(values, count=35, resamples=100).tail == 40


def test_both_conventions_are_named() -> None:
    found = fit_tail(pareto(100, 3.0), count=50, resamples=100)
    line, plain = str(found), found.to_json()
    assert f"density exponent {found.alpha:.2f}" in line and f"survival exponent {found.alpha - 1:.2f}" in line
    assert plain["alpha_density"] == found.alpha and plain["alpha_survival"] == found.alpha - 1
    assert plain["rejected"] is found.rejected


@pytest.mark.parametrize(("values", "options", "says"), [
    (np.ones(100), {"count": 20}, "the 100 scores of the tail are all 1"),
    (-np.ones(100), {"count": 20}, "0 of 100 scores are positive; the tail needs 20"),
    (pareto(40, 2.0), {}, "40 of 40 scores are positive; the tail needs at least 50"),
    (pareto(100, 2.0), {"count": 5}, "a tail of 5 of 100 scores: expected at least 10"),
    (pareto(100, 2.0), {"fraction": 1.5}, "fraction=1.5: expected a number above 0, up to 1"),
    (pareto(100, 2.0), {"fraction": 0.5, "count": 20}, "both given"),
    (np.array([1.0, np.nan]), {"count": 20}, "not finite"),
    (pareto(100, 2.0), {"resamples": 10}, "resamples=10"),
])
def test_mistakes_are_refused(values: np.ndarray, options: dict, says: str) -> None:
    with pytest.raises(WhenceError, match=says):
        fit_tail(values, **options)
