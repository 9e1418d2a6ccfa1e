"""Candidates against scores of all rows, the published filter against its formula, recall against sets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.base.errors import WhenceError
from whence.data.examples import Examples
from whence.methods.bm25 import bm25_scores
from whence.methods.lexical_text import words
from whence.methods.tfidf import tfidf_scores
from whence.views.candidates import FILTERS, find_candidates, overlap_idf_scores, recall

TRAIN = ["the cat sat", "a dog sat down", "cats and dogs", "the cat and the dog", "no words shared here", "?!",
         "the the the", "cat"]
QUERIES = ["the cat", "dog down there", "zebra"]


def examples(texts: list[str], prefix: str = "row") -> Examples:
    n = len(texts)
    return Examples(tuple(f"{prefix}{i}" for i in range(n)), (None,) * n, ("",) * n, tuple(texts),
                    (np.arange(2),) * n, (np.array([False, True]),) * n, (False,) * n)


def literal(queries: list[str], documents: list[str], k1: float = 1.5) -> np.ndarray:
    """Eq. 28-29 as printed, the sum restricted to the words of the query."""
    held = [set(words(text)) for text in documents]
    scores = np.zeros((len(queries), len(documents)))
    for q, query in enumerate(queries):
        for d, document in enumerate(held):
            for word in set(words(query)) & document:
                count = sum(word in other for other in held)
                idf = math.log((len(documents) - count + 0.5) / (count + 0.5) + 1)
                scores[q, d] += (k1 + 1) * 1 / (k1 + 1) * idf
    return scores


def test_the_published_filter_is_its_formula() -> None:
    np.testing.assert_allclose(overlap_idf_scores(QUERIES, TRAIN), literal(QUERIES, TRAIN), rtol=1e-13)


TEXTS = st.lists(st.text(alphabet="ab 1.", max_size=12), min_size=1, max_size=6)


@given(TEXTS, TEXTS)
def test_any_text_is_scored_as_the_formula_says(queries: list[str], documents: list[str]) -> None:
    np.testing.assert_allclose(overlap_idf_scores(queries, documents), literal(queries, documents), rtol=1e-12,
                               atol=1e-15)


def test_no_queries_and_no_documents() -> None:
    assert overlap_idf_scores([], ["a"]).shape == (0, 1)
    assert overlap_idf_scores(["a"], []).shape == (1, 0)
    none = find_candidates(examples([]), examples(TRAIN), 3)
    assert none.rows == () and len(none.union) == 0


@pytest.mark.parametrize(("name", "score"), [("bm25", bm25_scores), ("tfidf", tfidf_scores),
                                             ("tfidf-published", literal)])
@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_candidates_are_the_best_rows_that_share_a_word(name: str, score: object, count: int) -> None:
    found = find_candidates(examples(QUERIES), examples(TRAIN), count, filter=name, field="response")
    scores = score(QUERIES, TRAIN)  # type: ignore[operator]
    for rows, row in zip(found.rows, scores, strict=True):
        ranked = sorted((d for d in range(len(TRAIN)) if row[d] > 0), key=lambda d: (-round(row[d], 12), d))
        assert rows.tolist() == ranked[:count]
    assert found.union.tolist() == sorted({int(r) for rows in found.rows for r in rows})
    assert len(found.rows[2]) == 0  # nobody speaks of zebras
    assert found.facts["queries_with_fewer"] == sum(len(rows) < count for rows in found.rows)
    assert found.facts["union"] == len(found.union) and found.facts["n_train"] == len(TRAIN)
    assert name in found.bias and "without sharing its words" in found.bias


def test_recall_by_hand() -> None:
    found = find_candidates(examples(QUERIES), examples(TRAIN), 2, field="response")
    truth = np.zeros((3, 8))
    truth[0, [0, 7, 4]] = [3, 2, 1]  # the second and third best hold "cat", and nothing
    truth[1, [1, 4, 5]] = [3, 2, 1]
    truth[2, [4, 5, 6]] = [3, 2, 1]
    alone = recall(found, truth, (1, 3), shared=False)
    sets = [set(map(int, rows)) for rows in found.rows]
    best = [[0, 7, 4], [1, 4, 5], [4, 5, 6]]
    for result, top in zip(alone, (1, 3), strict=True):
        expected = [len(set(b[:top]) & s) / top for b, s in zip(best, sets, strict=True)]
        np.testing.assert_allclose(result.per_query, expected)
        assert result.value == pytest.approx(np.mean(expected))
        assert result.low <= result.value <= result.high
        assert result.notes
    union = set().union(*sets)
    together = recall(found, truth, (3,))[0]
    np.testing.assert_allclose(together.per_query, [len(set(b) & union) / 3 for b in best])


def test_full_candidates_have_full_recall() -> None:
    texts = [f"word {i}" for i in range(20)]
    found = find_candidates(examples(["word"] * 6), examples(texts), 20)
    (result,) = recall(found, np.random.default_rng(0).normal(size=(6, 20)), (5,))
    assert (result.value, result.low, result.high, result.notes) == (1.0, 1.0, 1.0, ())


def test_mistakes_are_refused() -> None:
    queries, train = examples(QUERIES), examples(TRAIN)
    with pytest.raises(WhenceError, match="filter=bm52: expected bm25, tfidf, tfidf-published"):
        find_candidates(queries, train, filter="bm52")
    with pytest.raises(WhenceError, match="count=0"):
        find_candidates(queries, train, 0)
    with pytest.raises(WhenceError, match="field=answer"):
        find_candidates(queries, train, field="answer")
    found = find_candidates(queries, train, 2)
    with pytest.raises(WhenceError, match=r"scores of shape \(3, 5\); expected \(3, 8\)"):
        recall(found, np.zeros((3, 5)))
    with pytest.raises(WhenceError, match="top 9 of 8 rows"):
        recall(found, np.zeros((3, 8)), (9,))
    assert tuple(FILTERS) == ("bm25", "tfidf", "tfidf-published")
