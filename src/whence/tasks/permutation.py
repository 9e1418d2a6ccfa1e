"""The permutation null: what these very scores give when the training labels mean nothing.

Training labels are shuffled and the metric is computed again. The scores stay as they are, hubs included, so
the null is as wide as the method makes it: where one training row comes first for every query, accuracy under
the null is a coin thrown once, not once a query. p = (1 + number of shuffles at least as good) / (1 + number
of shuffles) (Phipson & Smyth 2010), so it is never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from whence.base.errors import WhenceError
from whence.tasks.interval import mean_scored, plain
from whence.tasks.labels import label_codes
from whence.tasks.metrics import DEFAULT_METRICS, Judged, check_shape, metric
from whence.tasks.ranking import Ranking

SAME = 1e-12  # two equal means summed in another order differ by less


@dataclass(frozen=True)
class Null:
    """A metric under shuffled training labels; NaN throughout where no query could be scored."""

    observed: float
    mean: float
    percentile95: float
    p_value: float
    permutations: int

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; null for what could not be scored."""
        return {"observed": plain(self.observed), "mean": plain(self.mean), "p95": plain(self.percentile95),
                "p_value": plain(self.p_value), "permutations": self.permutations}


def permutation_null(values: Float[np.ndarray, "queries train"], train_labels: Sequence[str],
                     query_labels: Sequence[str], name: str = "acc", permutations: int = 200,
                     seed: int = 0) -> Null:
    """The null of one metric."""
    return permutation_nulls(values, train_labels, query_labels, [name], permutations, seed)[name]


def permutation_nulls(values: Float[np.ndarray, "queries train"], train_labels: Sequence[str],
                      query_labels: Sequence[str], names: Iterable[str] = DEFAULT_METRICS,
                      permutations: int = 200, seed: int = 0) -> dict[str, Null]:
    """The null of several metrics from the same shuffles; scores are ranked once."""
    if permutations < 1:
        raise WhenceError(f"{permutations} permutations; a null needs at least 1")
    check_shape(values, len(train_labels), len(query_labels))
    metrics = [metric(name) for name in names]
    train, query = label_codes(train_labels, query_labels)
    ranking, rng = Ranking.of(values), np.random.default_rng(seed)
    shuffles = [train, *(rng.permutation(train) for _ in range(permutations))]
    means = np.empty((len(shuffles), len(metrics)))
    for i, codes in enumerate(shuffles):
        judged = Judged(ranking, codes[ranking.order] == query[:, None], len(set(train_labels)))
        means[i] = [mean_scored(m.per_query(judged)) for m in metrics]
    return {m.name: _null(means[0, i], means[1:, i]) for i, m in enumerate(metrics)}


def _null(observed: float, shuffled: np.ndarray) -> Null:
    if np.isnan(observed):
        return Null(observed, observed, observed, observed, len(shuffled))
    p = (1 + int((shuffled >= observed - SAME).sum())) / (1 + len(shuffled))
    return Null(float(observed), float(shuffled.mean()), float(np.quantile(shuffled, 0.95)), p, len(shuffled))
