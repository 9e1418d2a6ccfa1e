"""Metrics of a ranking of training rows against which of them are relevant; one number a query.

Acc and Cover are those of "Do Influence Functions Work on Large Language Models?" (arXiv 2409.19998) as its
code computes them. With R_q(p) = 1 where the training row at place p (1 = top) is relevant to query q, N
training rows and P_q relevant ones:

    acc                 R_q(1)
    cover               (1/c) sum_{p <= c} R_q(p),  c = floor(N / number of classes among the training rows)
    cover_at_positives  the same with c = P_q (R-precision)
    auprc               average precision, sum over distinct scores of (recall gained) x (precision there)
    roc_auc             P(relevant row scores higher than irrelevant row), ties count one half
    mrr                 1 / place of the first relevant row
    precision@k         the first k places

**Ties.** acc, cover, cover_at_positives, mrr and precision@k take equal scores in row order, as a stable sort
does; auprc and roc_auc do not depend on the order of equal scores (as in scikit-learn).

**Undefined.** NaN is how a query is marked as unscored: where P_q = 0 for cover_at_positives, auprc and mrr,
and where P_q is 0 or N for roc_auc. Scores are finite, so NaN has no other source; whoever aggregates counts
them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from whence.base.errors import WhenceError
from whence.tasks import chance
from whence.tasks.labels import relevance
from whence.tasks.ranking import Ranking

PerQuery = Float[np.ndarray, " queries"]
DEFAULT_METRICS = ("acc", "cover", "cover_at_positives", "auprc", "roc_auc", "mrr")


@dataclass(frozen=True)
class Judged:
    """A ranking and what it should have found.

    Attributes:
        ranking: places of the training rows.
        hits: [queries, places] relevance in rank order, best first.
        n_classes: distinct labels among the training rows; None where relevance did not come from classes.
    """

    ranking: Ranking
    hits: Bool[np.ndarray, "queries train"]
    n_classes: int | None

    @property
    def n_train(self) -> int:
        return self.hits.shape[1]

    @property
    def positives(self) -> np.ndarray:
        """int [queries], relevant training rows of each query."""
        return self.hits.sum(axis=1)


@dataclass(frozen=True)
class Metric:
    """A name, the number it gives each query, and the expectation of a random ranking.

    Attributes:
        per_query: float [queries], NaN = unscored.
        by_chance: the same from (relevant rows of each query, training rows); see `whence.tasks.chance`.
    """

    name: str
    per_query: Callable[[Judged], np.ndarray]
    by_chance: Callable[[np.ndarray, int], np.ndarray]


def precision_at(judged: Judged, k: int) -> PerQuery:
    """Share of relevant rows among the first k."""
    if not 1 <= k <= judged.n_train:
        raise WhenceError(f"precision at {k} of {judged.n_train} training rows; expected 1 to "
                          f"{judged.n_train}")
    return judged.hits[:, :k].mean(axis=1)


def accuracy(judged: Judged) -> PerQuery:
    """Whether the first row is relevant."""
    return precision_at(judged, 1)


def cover_cut(n_train: int, n_classes: int) -> int:
    """Where the paper's Cover cuts the ranking: floor(N / number of classes).

    >>> cover_cut(40, 2), cover_cut(900, 10), cover_cut(250, 2)
    (20, 90, 125)
    """
    return n_train // n_classes


def cover(judged: Judged) -> PerQuery:
    """Share of relevant rows among the first floor(N / number of classes)."""
    if judged.n_classes is None:
        raise WhenceError("cover cuts the ranking at N / number of classes, and there are no classes here; "
                          "use cover_at_positives or precision@k")
    return precision_at(judged, cover_cut(judged.n_train, judged.n_classes))


def cover_at_positives(judged: Judged) -> PerQuery:
    """Share of relevant rows among the first P_q; at most 1 also where classes are unbalanced."""
    positives = judged.positives
    found = np.cumsum(judged.hits, axis=1)[np.arange(len(positives)), np.maximum(positives, 1) - 1]
    return _unless(positives == 0, found / np.maximum(positives, 1))


def average_precision(judged: Judged) -> PerQuery:
    """Average precision; every relevant row counts the precision at the end of its run of equal scores."""
    positives, last = judged.positives, judged.ranking.tie_last
    precision = np.take_along_axis(np.cumsum(judged.hits, axis=1), last, axis=1) / (last + 1)
    return _unless(positives == 0, (precision * judged.hits).sum(axis=1) / np.maximum(positives, 1))


def roc_auc(judged: Judged) -> PerQuery:
    """Mann-Whitney form: (sum of the relevant rows' ranks - P(P+1)/2) / (P (N - P)), mean ranks for ties."""
    p, n = judged.positives, judged.n_train
    ranks = n - (judged.ranking.tie_first + judged.ranking.tie_last) / 2
    above = (ranks * judged.hits).sum(axis=1) - p * (p + 1) / 2
    return _unless((p == 0) | (p == n), above / np.maximum(p * (n - p), 1))


def reciprocal_rank(judged: Judged) -> PerQuery:
    """1 / place of the first relevant row."""
    return _unless(judged.positives == 0, 1.0 / (1 + judged.hits.argmax(axis=1)))


def _unless(unscored: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    return np.where(unscored, np.nan, numbers)


_METRICS = {m.name: m for m in (
    Metric("acc", accuracy, chance.precision),
    Metric("cover", cover, chance.precision),
    Metric("cover_at_positives", cover_at_positives, chance.precision_at_positives),
    Metric("auprc", average_precision, chance.average_precision),
    Metric("roc_auc", roc_auc, chance.roc_auc),
    Metric("mrr", reciprocal_rank, chance.reciprocal_rank),
)}


def metric(name: str) -> Metric:
    """The metric of that name; `precision@k` for any whole k >= 1.

    Raises:
        WhenceError: no metric has that name; the message lists them.
    """
    if at := re.fullmatch(r"precision@([1-9]\d*)", name):
        k = int(at[1])
        return Metric(name, lambda judged: precision_at(judged, k), chance.precision)
    if name not in _METRICS:
        raise WhenceError(f"no metric {name!r}; there are {', '.join(_METRICS)} and precision@k")
    return _METRICS[name]


def judge(values: Float[np.ndarray, "queries train"], train_labels: Sequence[str],
          query_labels: Sequence[str]) -> Judged:
    """Rank the scores and mark the training rows that have the query's label."""
    check_shape(values, len(train_labels), len(query_labels))
    ranking = Ranking.of(values)
    return Judged(ranking, ranking.sort(relevance(train_labels, query_labels)), len(set(train_labels)))


def judge_relevance(values: Float[np.ndarray, "queries train"],
                    relevant: Bool[np.ndarray, "queries train"]) -> Judged:
    """Rank the scores; relevance is any boolean matrix (injected rows, edited facts, duplicates, ...)."""
    ranking = Ranking.of(values)
    return Judged(ranking, ranking.sort(relevant), None)


def measure(judged: Judged, metrics: Iterable[str] = DEFAULT_METRICS) -> dict[str, np.ndarray]:
    """Every metric by name: float [queries], NaN where the query is unscored.

    >>> judged = judge(np.array([[3.0, 1.0, 2.0], [0.0, 2.0, 1.0]]), ["a", "b", "a"], ["a", "a"])
    >>> {name: x.tolist() for name, x in measure(judged, ["acc", "mrr", "auprc"]).items()}
    {'acc': [1.0, 0.0], 'mrr': [1.0, 0.5], 'auprc': [1.0, 0.5833333333333333]}
    """
    return {name: metric(name).per_query(judged) for name in metrics}


def check_shape(values: np.ndarray, n_train: int, n_query: int, scores_from: str = "scores",
                train_from: str = "training labels", query_from: str = "query labels") -> None:
    """Refuse scores [Q, N] without exactly Q query labels and N training labels.

    Raises:
        WhenceError: gives both shapes, and says so where the transposed matrix would fit.
    """
    if values.shape == (n_query, n_train):
        return
    hint = ""
    if values.shape == (n_train, n_query):
        hint = " They fit the other way round: the matrix is transposed, or the two label files are swapped."
    raise WhenceError(f"{scores_from}: scores are [{values.shape[0]} queries, {values.shape[1]} training "
                      f"rows], but there are {n_query} labels in {query_from} and {n_train} in "
                      f"{train_from}; expected one query label for each row and one training label for each "
                      f"column.{hint}")
