"""The numbers behind the plots, each with its 95 % interval over queries."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from whence.data.examples import Examples

Z = 1.959964  # 97.5 % quantile of the normal distribution
RESAMPLES = 1000


@dataclass(frozen=True)
class Interval:
    """`value` with its 95 % interval, from `n` queries; NaN where n = 0."""

    value: float
    low: float
    high: float
    n: int


def bootstrap_mean(values: np.ndarray) -> Interval:
    """Mean of `values` [n], percentile bootstrap over its entries, 1000 resamples, seed 0."""
    n = len(values)
    if n == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    draws = np.random.default_rng(0).integers(0, n, size=(RESAMPLES, n))
    low, high = np.quantile(values[draws].mean(1), [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high), n)


def wilson(count: int, n: int) -> Interval:
    """The share count / n with Wilson's score interval (Wilson 1927, JASA 22:209)."""
    p = count / n
    middle, spread = p + Z**2 / (2 * n), Z * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    scale = 1 + Z**2 / n
    return Interval(p, float((middle - spread) / scale), float((middle + spread) / scale), n)


def agreement(values_MQN: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean over queries of Spearman's rank correlation between methods, and the half-width of its interval.

    Args: one array [Q, N] of scores a method.
    Returns: (mean [M, M], 1.96 standard errors [M, M]). A query counts for a pair only where both methods
        tell its rows apart; NaN where there is no such query, half-width NaN where there is only one.
    """
    M, Q = len(values_MQN), len(values_MQN[0])
    correlations_QMM = np.empty((Q, M, M))
    for q in range(Q):
        ranks_MN = rankdata(np.stack([values[q] for values in values_MQN]), axis=1)
        ranks_MN -= ranks_MN.mean(1, keepdims=True)
        norms_M = np.linalg.norm(ranks_MN, axis=1)
        unit_MN = np.divide(ranks_MN, norms_M[:, None], where=norms_M[:, None] > 0,
                            out=np.full_like(ranks_MN, np.nan))
        correlations_QMM[q] = np.einsum("mn,kn->mk", unit_MN, unit_MN)  # too small for threads
    known = np.isfinite(correlations_QMM)
    n = known.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, correlations_QMM, 0).sum(0) / n
        variance = np.where(known, (correlations_QMM - mean) ** 2, 0).sum(0) / (n - 1)
        return mean, Z * np.sqrt(variance / n)


def most_common_firsts(values_QN: np.ndarray) -> list[int]:
    """How many queries each training row is top-1 for, most first, rows with none left out.

    Queries whose best score is shared by several rows have no top-1 and are left out.
    """
    best_Q1 = values_QN.max(1, keepdims=True)
    alone = (values_QN == best_Q1).sum(1) == 1
    return [count for _, count in Counter(values_QN.argmax(1)[alone].tolist()).most_common()]


def same_group(train: Examples, queries: Examples) -> tuple[np.ndarray, np.ndarray]:
    """(same [Q, N]: the row has the query's group, labelled [Q, N]: both have a group)."""
    of_train, of_queries = np.array(train.groups, dtype=object), np.array(queries.groups, dtype=object)
    labelled = (of_queries != None)[:, None] & (of_train != None)[None, :]  # noqa: E711 (element by element)
    return (of_queries[:, None] == of_train[None, :]) & labelled, labelled


def separation(values_QN: np.ndarray, same_QN: np.ndarray, labelled_QN: np.ndarray) -> np.ndarray:
    """For each query with rows of both kinds: P(a same-group row scores above another), ties half."""
    shares = []
    for values, same, labelled in zip(values_QN, same_QN, labelled_QN, strict=True):
        n_same, n_other = int(same[labelled].sum()), int((~same[labelled]).sum())
        if n_same and n_other:
            ranks = rankdata(values[labelled])
            shares.append((ranks[same[labelled]].sum() - n_same * (n_same + 1) / 2) / (n_same * n_other))
    return np.array(shares)
