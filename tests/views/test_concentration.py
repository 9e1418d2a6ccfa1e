"""Shares of the top rows against a literal loop."""

from __future__ import annotations

import math

import numpy as np
import pytest

from whence.base.errors import WhenceError
from whence.views.concentration import top_shares


def test_against_a_literal_loop() -> None:
    scores = np.random.default_rng(1).standard_t(2, size=(3, 157))
    percents = [0.5, 1.0, 7.0, 50.0, 100.0]
    for row, found in zip(scores, top_shares(scores, percents), strict=True):
        for k, share in zip(percents, found, strict=True):
            best = sorted(row, reverse=True)[: math.ceil(k * 157 / 100)]
            expected = sum(x for x in best if x > 0) / sum(x for x in row if x > 0)
            assert share == pytest.approx(expected, rel=1e-12)


def test_counts_are_rounded_up_but_not_by_rounding_errors() -> None:
    scores = np.ones((1, 100))
    assert top_shares(scores, [7, 7.5, 0.01]).tolist() == [[pytest.approx(0.07), pytest.approx(0.08),
                                                            pytest.approx(0.01)]]


def test_negative_scores_are_no_part_of_it() -> None:
    assert top_shares(np.array([[2.0, -9.0, 2.0, -1.0]]), [25, 75])[0].tolist() == [0.5, 1.0]


def test_a_query_without_positive_scores_is_unscored() -> None:
    assert np.isnan(top_shares(np.array([[-1.0, 0.0], [1.0, 0.0]]), [50])).tolist() == [[True], [False]]
    assert np.isnan(top_shares(np.zeros((1, 0)), [50])).all()


def test_mistakes_are_refused() -> None:
    with pytest.raises(WhenceError, match="percents: 0; expected"):
        top_shares(np.ones((1, 2)), [1, 0])
    with pytest.raises(WhenceError, match="not finite"):
        top_shares(np.array([[1.0, np.nan]]))
