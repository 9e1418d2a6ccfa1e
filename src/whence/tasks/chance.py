"""What a random ranking (all N! orders equally likely) gives on average, exactly.

With P relevant rows of N. For average precision, a relevant row stands at place i with chance 1/N, and then
each of the i - 1 places above holds a relevant row with chance (P-1)/(N-1):

    E[AP] = (1/N) sum_i (1/i) (1 + (i-1) (P-1)/(N-1)) = (1/N) (H_N + (P-1)/(N-1) (N - H_N)),   H_N = sum_i 1/i

For the reciprocal rank, Pr(first relevant row at place r) = p_r with p_1 = P/N and
p_{r+1} = p_r (N - r - P + 1) / (N - r).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def precision(positives: Int[np.ndarray, " queries"], n_train: int) -> Float[np.ndarray, " queries"]:
    """Expected precision at any cut: P/N."""
    return positives / n_train


def precision_at_positives(positives: Int[np.ndarray, " queries"], n_train: int
                           ) -> Float[np.ndarray, " queries"]:
    """Expected precision at P: P/N; NaN where P = 0."""
    return np.where(positives == 0, np.nan, positives / n_train)


def roc_auc(positives: Int[np.ndarray, " queries"], n_train: int) -> Float[np.ndarray, " queries"]:
    """Expected area under the ROC curve: 1/2; NaN where P is 0 or N."""
    return np.where((positives == 0) | (positives == n_train), np.nan, 0.5)


def average_precision(positives: Int[np.ndarray, " queries"], n_train: int) -> Float[np.ndarray, " queries"]:
    """Expected average precision; NaN where P = 0. Larger than P/N, noticeably so in small sets.

    >>> average_precision(np.array([1, 2]), 2)
    array([0.75, 1.  ])
    """
    harmonic = (1.0 / np.arange(1, n_train + 1)).sum()
    others = (positives - 1) / max(n_train - 1, 1)
    return np.where(positives == 0, np.nan, (harmonic + others * (n_train - harmonic)) / n_train)


def reciprocal_rank(positives: Int[np.ndarray, " queries"], n_train: int) -> Float[np.ndarray, " queries"]:
    """Expected reciprocal rank of the first relevant row; NaN where P = 0.

    >>> reciprocal_rank(np.array([1, 2]), 2)
    array([0.75, 1.  ])
    """
    distinct, where = np.unique(positives, return_inverse=True)
    return np.array([_reciprocal_rank(int(p), n_train) for p in distinct])[where]


def _reciprocal_rank(positives: int, n_train: int) -> float:
    if positives == 0:
        return float("nan")
    place = np.arange(1, n_train - positives + 2)
    # Pr(first at r) = Pr(first at 1) x product over earlier places of the chance to miss there.
    misses = (n_train - place[:-1] - positives + 1) / (n_train - place[:-1])
    at = positives / n_train * np.concatenate([[1.0], np.cumprod(misses)])
    return float((at / place).sum())
