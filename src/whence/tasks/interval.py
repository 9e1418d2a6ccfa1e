"""Bootstrap intervals of a mean: over queries, and over training seeds and queries together.

Percentile bootstrap (Efron & Tibshirani 1993, chapter 13). With weights w = how often each query was drawn,
one resample's mean is sum_q w_q x_q / sum_q w_q, and the interval is the (1 -+ level)/2 quantiles over
resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from whence.base.errors import WhenceError

RESAMPLES = 2000
LEVEL = 0.95
BLOCK = 1 << 22  # drawn numbers held at once
ONE_CLASS = ("all queries have one label: the interval is that of the choice of queries alone, and the "
             "same few training rows may decide every one of them")
NO_SPREAD = ("an interval without width comes from queries that all gave the same number: resampling them "
             "shows no spread, which is not to say there is none")
FEW_SEEDS = "fewer than 5 seeds: the interval says little about the spread over seeds"


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        value: the mean over scored queries (then seeds); NaN where nothing could be scored.
        low, high: ends of the interval.
        n: queries (times seeds) that were scored.
        unscored: queries (times seeds) for which the metric is undefined.
        notes: reasons to distrust the interval.
    """

    value: float
    low: float
    high: float
    n: int
    unscored: int = 0
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """`.390 [.300, .490]`; `-` where nothing could be scored."""
        if self.n == 0:
            return "-"
        return f"{short(self.value)} [{short(self.low)}, {short(self.high)}]"

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; null for what could not be scored."""
        ends = {"value": self.value, "low": self.low, "high": self.high}
        return {name: plain(x) for name, x in ends.items()} | {
            "n": self.n, "unscored": self.unscored, "notes": list(self.notes)}


def short(x: float) -> str:
    """Three decimals without a leading zero.

    >>> short(0.39), short(1.0), short(-0.25), short(0.9996), short(12.5)
    ('.390', '1.000', '-.250', '1.000', '12.500')
    """
    if np.isnan(x):
        return "-"
    text = f"{x:.3f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def plain(x: float) -> float | None:
    """A Python float for JSON, None for NaN."""
    return None if np.isnan(x) else float(x)


def mean_scored(per_query: np.ndarray) -> float:
    """Mean of the entries that are scored; NaN where none is."""
    scored = per_query[~np.isnan(per_query)]
    return float(scored.mean()) if len(scored) else float("nan")


def bootstrap_mean(per_query: Float[np.ndarray, " queries"], *, query_labels: Sequence[str] | None = None,
                   resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0) -> Estimate:
    """Mean over queries and its interval. NaN = unscored: left out of the mean and counted.

    `query_labels`, where given, only serve to attach a note when all queries share one label: then resampling
    queries does not touch what decides the number (the few training rows that come first for all of them).

    >>> print(bootstrap_mean(np.array([0.0] * 61 + [1.0] * 39)))
    .390 [.300, .480]
    """
    return _bootstrap(per_query[None, :], resamples, level, seed, _notes(query_labels))


def bootstrap_seeds(per_seed_per_query: Float[np.ndarray, "seeds queries"], *,
                    query_labels: Sequence[str] | None = None, resamples: int = RESAMPLES,
                    level: float = LEVEL, seed: int = 0) -> Estimate:
    """Mean over seeds and queries; seeds and queries are both resampled, independently of each other.

    Every seed answers the same queries, so a hard query is hard under all of them: drawing queries anew for
    each drawn seed would average that away. Each resample therefore draws S seeds and one set of Q queries
    and takes the mean of the rows and columns drawn (the pigeonhole bootstrap; Owen 2007, arXiv 0712.1111),
    which is conservative. Where each seed has queries of its own the interval is wider than it need be.
    """
    notes = _notes(query_labels) + ((FEW_SEEDS,) if len(per_seed_per_query) < 5 else ())
    return _bootstrap(per_seed_per_query, resamples, level, seed, notes)


def _notes(query_labels: Sequence[str] | None) -> tuple[str, ...]:
    return (ONE_CLASS,) if query_labels is not None and len(set(query_labels)) == 1 else ()


def _bootstrap(x_SQ: np.ndarray, resamples: int, level: float, seed: int, notes: tuple[str, ...]) -> Estimate:
    if resamples < 100 or not 0 < level < 1:
        raise WhenceError(f"{resamples} resamples at level {level}; an interval needs at least 100 "
                          "resamples and a level between 0 and 1")
    scored_SQ = ~np.isnan(x_SQ)
    n = int(scored_SQ.sum())
    unscored = scored_SQ.size - n
    if n == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, unscored, notes)
    some = scored_SQ.any(axis=0)
    counts = scored_SQ[:, some].astype(np.float64)
    sums = np.where(scored_SQ, x_SQ, 0.0)[:, some]
    rng = np.random.default_rng(seed)
    seeds, queries = sums.shape
    means = []
    block = max(1, BLOCK // max(queries, seeds))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        w_RS = _draws(rng, size, seeds)
        w_RQ = _draws(rng, size, queries)
        total, weight = (((w_RS @ part) * w_RQ).sum(axis=1) for part in (sums, counts))
        drew = weight > 0  # where seeds differ in what is scored, a resample may have drawn nothing that is
        means.append(total[drew] / weight[drew])
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    if np.ptp(x_SQ[scored_SQ]) == 0:
        notes += (NO_SPREAD,)
    return Estimate(float(sums.sum() / n), float(low), float(high), n, unscored, notes)


def _draws(rng: np.random.Generator, resamples: int, n: int) -> np.ndarray:
    """[resamples, n] how often each of n things is among n drawn with replacement."""
    drawn = rng.integers(n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)
