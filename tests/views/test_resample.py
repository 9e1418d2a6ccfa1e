"""The bootstrap against the normal theory of a mean, with values that are infinite or undefined."""

from __future__ import annotations

import numpy as np
import pytest

from whence.views.resample import bootstrap


def test_the_interval_of_a_mean_is_that_of_normal_theory() -> None:
    sample = np.random.default_rng(0).normal(size=400)
    low, high, undefined = bootstrap([sample], lambda drawn: drawn[0].mean(axis=1))
    error = sample.std() / 20
    assert low == pytest.approx(sample.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(sample.mean() + 1.96 * error, abs=0.15 * error)
    assert undefined == 0


def test_samples_are_drawn_each_by_itself() -> None:
    one, other = np.array([0.0, 1.0]), np.array([10.0])

    def difference(drawn: list[np.ndarray]) -> np.ndarray:
        assert [d.shape for d in drawn] == [(2000, 2), (2000, 1)]
        assert set(np.unique(drawn[0])) == {0.0, 1.0}
        return drawn[1].mean(axis=1) - drawn[0].mean(axis=1)

    assert bootstrap([one, other], difference) == (9.0, 10.0, 0.0)


def test_infinite_and_undefined_values() -> None:
    sample = np.array([0.0, 1.0])
    low, high, undefined = bootstrap([sample], lambda d: np.where(d[0].mean(axis=1) == 1, np.inf, d[0].mean(axis=1)))
    assert (low, high, undefined) == (0.0, np.inf, 0.0)
    low, high, undefined = bootstrap([sample], lambda d: np.where(d[0][:, 0] == 1, np.nan, 3.0))
    assert (low, high) == (3.0, 3.0) and 0.4 < undefined < 0.6
    assert np.isnan(bootstrap([sample], lambda d: np.full(2000, np.nan))[:2]).all()
