"""Means over seeds and queries, paired differences, and Markdown."""

from __future__ import annotations

import numpy as np
import pandas as pd

from whence.study.estimate import above, below, difference, estimate, markdown, pick, signed


def table(values: np.ndarray, method: str = "a") -> pd.DataFrame:
    """Rows of [seeds, queries] values."""
    return pd.DataFrame([{"seed": s, "task": "t", "model": "m", "tune": "lora", "query": q, "method": method,
                          "metric": "acc", "value": values[s, q]}
                         for s in range(values.shape[0]) for q in range(values.shape[1])])


RNG = np.random.default_rng(0)
A = RNG.normal(size=(5, 30))


def test_a_mean_with_both_resampled() -> None:
    found = estimate(table(A))
    assert np.isclose(found.value, A.mean()) and found.low < A.mean() < found.high and found.n == 150
    shifts = A + 3 * np.arange(5)[:, None]  # seeds differ: the interval must say so
    assert estimate(table(shifts)).high - estimate(table(shifts)).low > 2 * (found.high - found.low)


def test_a_difference_is_paired() -> None:
    better = A + 0.1  # every query better by exactly as much
    found = difference(table(better), table(A, "b"))
    assert np.allclose([found.value, found.low, found.high], 0.1) and above(found) and not below(found)
    assert signed(found) == "+.100 [.100, .100]"


def test_other_queries_are_compared_by_their_means() -> None:
    some = difference(table(A + 0.1)[lambda rows: rows["query"] < 10], table(A, "b"))
    assert some.n == 5 and np.isclose(some.value, (A[:, :10] + 0.1).mean() - A.mean())


def test_nothing_is_nothing() -> None:
    empty = table(A)[:0]
    assert estimate(empty).n == 0 and difference(empty, table(A)).n == 0
    assert signed(estimate(empty)) == "-" and not above(estimate(empty)) and not below(estimate(empty))


def test_pick_and_markdown() -> None:
    rows = pd.concat([table(A), table(A, "b"), table(A, "c")])
    assert set(pick(rows, method=["a", "c"])["method"]) == {"a", "c"}
    assert len(pick(rows, method="b", query=3)) == 5
    assert markdown(["x", "y"], [["1", "2"]]) == "| x | y |\n|---|---|\n| 1 | 2 |\n"
