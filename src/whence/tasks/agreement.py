"""Agreement between two methods that scored the same training rows for the same queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from jaxtyping import Float

from whence.base.errors import WhenceError
from whence.scores.matrix import Scores
from whence.tasks.interval import Estimate, bootstrap_mean
from whence.tasks.ranking import Ranking

TOP_K = 10


@dataclass(frozen=True)
class Agreement:
    """Means over queries.

    Attributes:
        spearman: rank correlation of the two rows of scores, mean ranks for ties; a query for which either
            method gives every training row the same score is unscored.
        top1: whether both have the same top row (ties in row order).
        overlap: |top k of one and of the other| / k.
        k: that depth.
    """

    spearman: Estimate
    top1: Estimate
    overlap: Estimate
    k: int

    def to_json(self) -> dict[str, Any]:
        return {"spearman": self.spearman.to_json(), "top1": self.top1.to_json(),
                "overlap": self.overlap.to_json(), "k": self.k}


def agreement(a: Scores, b: Scores, *, k: int = TOP_K, seed: int = 0) -> Agreement:
    """How far two methods agree; 1 = the same ranking. k is lowered to N where there are fewer training rows.

    Raises:
        WhenceError: the scores have different shapes.
    """
    return agreement_matrix({"a": a, "b": b}, k=k, seed=seed)["a"]["b"]


def agreement_matrix(scores: Mapping[str, Scores], *, k: int = TOP_K, seed: int = 0
                     ) -> dict[str, dict[str, Agreement]]:
    """Agreement of every method with every other (and itself), by name; symmetric.

    Raises:
        WhenceError: scores have different shapes.
    """
    first = next(iter(scores.values()), None)
    for other in scores.values():
        if first is not None and other.values.shape != first.values.shape:
            raise WhenceError(f"{first.method} has scores of {list(first.values.shape)} (queries, training "
                              f"rows) and {other.method} of {list(other.values.shape)}; agreement needs the "
                              "same of both")
    rankings = {name: Ranking.of(of_method.values) for name, of_method in scores.items()}
    pairs = {(a, b): _agreement(rankings[a], rankings[b], k, seed)
             for a, b in combinations_with_replacement(rankings, 2)}
    return {a: {b: pairs[a, b] if (a, b) in pairs else pairs[b, a] for b in rankings} for a in rankings}


def _agreement(a: Ranking, b: Ranking, k: int, seed: int) -> Agreement:
    k = min(k, a.order.shape[1])
    same_top = (a.order[:, 0] == b.order[:, 0]).astype(np.float64)
    shared = (_in_top(a, k) & _in_top(b, k)).sum(axis=1) / k
    return Agreement(bootstrap_mean(rank_correlation(a, b), seed=seed), bootstrap_mean(same_top, seed=seed),
                     bootstrap_mean(shared, seed=seed), k)


def rank_correlation(first: Ranking, second: Ranking) -> Float[np.ndarray, " queries"]:
    """Spearman's rank correlation of each query: Pearson's of mean ranks; NaN where a side is constant."""
    a, b = (r.ranks() - (r.order.shape[1] + 1) / 2 for r in (first, second))
    scale = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.where(scale > 0, (a * b).sum(axis=1) / np.where(scale > 0, scale, 1.0), np.nan)


def _in_top(ranking: Ranking, k: int) -> np.ndarray:
    inside = np.zeros(ranking.order.shape, dtype=bool)
    np.put_along_axis(inside, ranking.order[:, :k], True, axis=1)
    return inside
