"""Percentile bootstrap of any statistic of several samples, each resampled by itself (Efron & Tibshirani 1993)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float64

RESAMPLES = 2000
LEVEL = 0.95


def bootstrap(samples: Sequence[Float64[np.ndarray, " _"]], statistic: Callable[[list[np.ndarray]], np.ndarray],
              resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0) -> tuple[float, float, float]:
    """`(low, high, undefined)` of `statistic`, a function of one [resamples, n_k] array a sample.

    It gives [resamples] values. They may be infinite; NaN ones are left out of the interval, and `undefined` is their
    share. Where nothing is left both ends are NaN.
    """
    rng = np.random.default_rng(seed)
    drawn = [sample[rng.integers(len(sample), size=(resamples, len(sample)))] for sample in samples]
    values = statistic(drawn)
    undefined = float(np.isnan(values).mean())
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan"), undefined
    # existing values as ends: between a number and infinity there is no mean
    low = np.quantile(values, (1 - level) / 2, method="lower")
    return float(low), float(np.quantile(values, (1 + level) / 2, method="higher")), undefined
