"""Candidates: the training rows that share words with a query, so that a pass need not touch all of them.

Ranked by BM25 or TF-IDF cosine as in `methods/`, or by the filter of Grosse et al. 2023 (arXiv 2308.03296, eq. 28-29):

    score(q, d) = sum over words t in both q and d of   (k1 + 1) 1 / (k1 + 1)  IDF(t)   =   sum of IDF(t)
    IDF(t)      = ln( (N - n(t) + 1/2) / (n(t) + 1/2) + 1 ),        n(t) = documents with t

As printed, the paper's sum runs over all tokens of the document, whatever the query; here it is restricted to the
words of the query, without which all queries had the same candidates. As the counts in it are indicators, its k1
cancels and a word counts once, however often it occurs. The paper takes the best 10,000.

Shapes: Q queries, N training rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from sklearn.feature_extraction.text import CountVectorizer

from whence.base.errors import WhenceError
from whence.data.examples import Examples
from whence.methods.bm25 import bm25_scores
from whence.methods.lexical_text import texts, words
from whence.methods.tfidf import tfidf_scores
from whence.views.resample import bootstrap

BIAS = ("candidates were chosen by shared words ({method}): rows that influence a query without sharing its words "
        "(paraphrases, other languages, formats) cannot be found, lexical overlap among the top rows is partly of the "
        "choice's making, and neither methods nor models are to be compared on these rows alone")


def overlap_idf_scores(queries: Sequence[str], documents: Sequence[str]) -> Float64[np.ndarray, "queries documents"]:
    """Sum of IDF over the distinct words that query and document share, [Q, N]; never negative."""
    if not any(words(text) for text in documents):
        return np.zeros((len(queries), len(documents)))
    vectorizer = CountVectorizer(analyzer=words, binary=True, dtype=np.float64)
    held = vectorizer.fit_transform(documents)
    n = np.asarray(held.sum(axis=0)).ravel()
    idf = np.log((len(documents) - n + 0.5) / (n + 0.5) + 1)
    return (vectorizer.transform(queries).multiply(idf).tocsr() @ held.T).toarray() if queries else np.zeros(
        (0, len(documents)))


FILTERS: dict[str, Callable[[Sequence[str], Sequence[str]], np.ndarray]] = {
    "bm25": bm25_scores, "tfidf": tfidf_scores, "tfidf-published": overlap_idf_scores}


@dataclass(frozen=True)
class Candidates:
    """Rows chosen for each query.

    Attributes:
        rows: for each query int64 row indices, best first; fewer than asked where fewer share a word.
        union: int64, all of them in rising order: what one shared pass has to touch.
        bias: what this choice cannot see; to be shown beside every result made on it.
        facts: filter, N, rows asked for, rows in the union, queries with fewer than asked.
    """

    rows: tuple[Int64[np.ndarray, " _"], ...]
    union: Int64[np.ndarray, " rows"]
    bias: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recall:
    """How many of the true top rows are candidates: the mean over queries, its interval, each query's share."""

    top: int
    value: float
    low: float
    high: float
    per_query: Float64[np.ndarray, " Q"]
    notes: tuple[str, ...] = ()


def find_candidates(queries: Examples, train: Examples, count: int = 10_000, *, filter: str = "bm25",
                    field: str = "both") -> Candidates:
    """The `count` best rows of `train` for each query; of equal ones the earlier. Rows without a shared word never.

    Args:
        filter: `bm25`, `tfidf` or `tfidf-published`.
        field: what is compared: `prompt`, `response` or `both`.

    Memory: one [Q, N] matrix.

    Raises:
        WhenceError: an unknown filter or field, or a count below 1.
    """
    if filter not in FILTERS:
        raise WhenceError(f"filter={filter}: expected {', '.join(FILTERS)}")
    if count < 1:
        raise WhenceError(f"count={count}: expected at least 1 candidate a query")
    scores = FILTERS[filter](texts(queries, field), texts(train, field))
    rows = tuple(_best(row, count) for row in scores)
    union = np.unique(np.concatenate(rows)) if rows else np.zeros(0, dtype=np.int64)
    facts = {"filter": filter, "field": field, "n_train": len(train), "asked": count, "union": len(union),
             "queries_with_fewer": sum(len(found) < count for found in rows)}
    return Candidates(rows, union, BIAS.format(method=filter), facts)


def recall(candidates: Candidates, truth: Float64[np.ndarray, "Q N"], tops: Sequence[int] = (10, 100), *,
           shared: bool = True, seed: int = 0) -> tuple[Recall, ...]:
    """Of the rows that full scores rank highest, the share that are candidates.

    Args:
        truth: scores of all rows, not only of candidates.
        tops: how many of the highest count as true.
        shared: a query is also served by the candidates of the others, as in a shared pass.

    Raises:
        WhenceError: scores of another number of queries, or fewer rows than a top.
    """
    if len(truth) != len(candidates.rows) or truth.shape[1] != candidates.facts["n_train"]:
        raise WhenceError(f"scores of shape {truth.shape}; expected ({len(candidates.rows)}, "
                          f"{candidates.facts['n_train']}), every row of the training data")
    order = np.argsort(-truth, axis=1, kind="stable")
    found = []
    for top in tops:
        if not 1 <= top <= truth.shape[1]:
            raise WhenceError(f"top {top} of {truth.shape[1]} rows: expected 1 to {truth.shape[1]}")
        served = [candidates.union] * len(truth) if shared else candidates.rows
        per_query = np.array([np.isin(best[:top], rows).mean() for best, rows in zip(order, served, strict=True)])
        low, high, _ = bootstrap([per_query], lambda drawn: drawn[0].mean(axis=1), seed=seed)
        notes = ("fewer than 5 queries: the interval says little",) if len(per_query) < 5 else ()
        found.append(Recall(top, float(per_query.mean()), low, high, per_query, notes))
    return tuple(found)


def _best(scores: Float64[np.ndarray, " N"], count: int) -> Int64[np.ndarray, " _"]:
    """Rows with a positive score, highest first, ties by row."""
    kept = np.flatnonzero(scores > 0)
    if len(kept) > count:  # only what reaches the last place is sorted
        least = np.partition(scores[kept], len(kept) - count)[len(kept) - count]
        kept = kept[scores[kept] >= least]
    return kept[np.argsort(-scores[kept], kind="stable")][:count].astype(np.int64)
