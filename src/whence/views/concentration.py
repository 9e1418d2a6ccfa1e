"""Concentration: how much of all positive influence the top rows hold.

    share(k) = sum of the positive scores among the ceil(k/100 N) highest / sum of all positive scores

(Grosse et al. 2023, arXiv 2308.03296, figure 9: 12 to 52 % in the top 1 % of sequences). Negative scores are no part
of either sum. Only full, unfiltered scores have this meaning; on candidates chosen by words it is another number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from whence.base.errors import WhenceError


def top_shares(scores: Float64[np.ndarray, "Q N"], percents: Sequence[float | int] = (0.1, 1.0, 10.0)
               ) -> Float64[np.ndarray, "Q percents"]:
    """Share of the positive influence that the top k % of the rows hold, for each query and k.

    NaN for a query without a positive score: it is unscored, and to be counted as such (`bootstrap_mean` does, and
    gives the interval over queries).

    >>> top_shares(np.array([[6.0, 3.0, 1.0, -5.0]]), [25, 50, 100])
    array([[0.6, 0.9, 1. ]])

    Raises:
        WhenceError: a percentage that is not above 0 and at most 100; a score that is not finite.
    """
    wrong = [k for k in percents if not 0 < k <= 100]
    if wrong:
        raise WhenceError(f"percents: {wrong[0]}; expected numbers above 0, up to 100")
    if not np.isfinite(scores).all():
        raise WhenceError("a score is not finite; shares of such scores mean nothing")
    positive = np.clip(-np.sort(-scores, axis=1), 0.0, None)
    running, n = positive.cumsum(axis=1), scores.shape[1]
    # the small amount keeps ceil from seeing 7.000000000000001 in 0.07 * 100
    counts = [min(n, max(1, int(np.ceil(k / 100 * n - 1e-9)))) for k in percents]
    if n == 0:
        return np.full((len(scores), len(percents)), np.nan)
    total = running[:, -1:]
    return np.divide(running[:, [count - 1 for count in counts]], total,
                     out=np.full((len(scores), len(percents)), np.nan), where=total > 0)
