"""Lexical baselines against their formulas in plain Python."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.base.errors import WhenceError
from whence.methods.bm25 import bm25_scores
from whence.methods.lexical_text import words
from whence.methods.random import random_scores
from whence.methods.tfidf import tfidf_scores

DOCUMENTS = ["The cat sat.", "the DOG sat on the cat", "9 dogs!", "?!"]
QUERIES = ["the cat", "cat cat sat", "9", "unheard words", "..."]
TEXTS = st.lists(st.text(alphabet="ab 1.", max_size=12), min_size=1, max_size=6)


def plain_bm25(queries: list[str], documents: list[str], k1: float = 1.5, b: float = 0.75) -> np.ndarray:
    counts = [Counter(words(text)) for text in documents]
    mean = sum(count.total() for count in counts) / len(counts)

    def one(query: str, count: Counter[str]) -> float:
        total = 0.0
        for word in words(query):
            df = sum(word in other for other in counts)
            idf = math.log(1 + (len(counts) - df + 0.5) / (df + 0.5))
            if count[word]:
                total += idf * count[word] / (count[word] + k1 * (1 - b + b * count.total() / mean))
        return total

    return np.array([[one(query, count) for count in counts] for query in queries])


def plain_tfidf(queries: list[str], documents: list[str], longest: int = 2) -> np.ndarray:
    def terms(text: str) -> Counter[str]:
        found = words(text)
        lengths = range(1, longest + 1)
        return Counter(" ".join(found[i : i + n]) for n in lengths for i in range(len(found) - n + 1))

    counts = [terms(text) for text in documents]
    df = Counter(term for count in counts for term in count)
    idf = {term: 1 + math.log((1 + len(documents)) / (1 + df[term])) for term in df}

    def cosine(one: Counter[str], other: Counter[str]) -> float:
        x, y = ({t: c * idf[t] for t, c in count.items() if t in idf} for count in (one, other))
        norms = math.hypot(*x.values()) * math.hypot(*y.values())
        return sum(w * y.get(t, 0.0) for t, w in x.items()) / norms if norms else 0.0

    return np.array([[cosine(terms(query), count) for count in counts] for query in queries])


def test_words_are_lower_case_with_digits_and_single_letters() -> None:
    assert words("A cat, isn't 12 cats?") == ["a", "cat", "isn", "t", "12", "cats"]
    assert words("Über-ÉTÉ") == ["über", "été"]
    assert words("?!") == []


def test_bm25_by_hand() -> None:
    # "cat" is in one of two documents: idf = ln(1 + 1.5/1.5) = ln 2; lengths 1 and 3, mean 2
    scores = bm25_scores(["cat"], ["cat", "a b c"])
    np.testing.assert_allclose(scores, [[math.log(2) / (1 + 1.5 * (0.25 + 0.75 / 2)), 0.0]], rtol=1e-14)


def test_bm25_equals_its_formula() -> None:
    np.testing.assert_allclose(bm25_scores(QUERIES, DOCUMENTS), plain_bm25(QUERIES, DOCUMENTS), rtol=1e-13)
    np.testing.assert_allclose(bm25_scores(QUERIES, DOCUMENTS, k1=0.9, b=0.4),
                               plain_bm25(QUERIES, DOCUMENTS, 0.9, 0.4), rtol=1e-13)


def test_tfidf_by_hand() -> None:
    # two documents, "a" in both (idf 1), "b" in one (idf 1 + ln 3/2)
    idf_b = 1 + math.log(3 / 2)
    scores = tfidf_scores(["b"], ["a b", "a"], ngrams=(1, 1))
    np.testing.assert_allclose(scores, [[idf_b / math.hypot(1, idf_b), 0.0]], rtol=1e-14)


def test_tfidf_equals_its_formula() -> None:
    np.testing.assert_allclose(tfidf_scores(QUERIES, DOCUMENTS), plain_tfidf(QUERIES, DOCUMENTS), rtol=1e-13)


@given(TEXTS, TEXTS)
def test_any_text_is_scored_as_the_formula_says(queries: list[str], documents: list[str]) -> None:
    wordless = not any(words(text) for text in documents)
    zeros = np.zeros((len(queries), len(documents)))
    bm25 = zeros if wordless else plain_bm25(queries, documents)
    np.testing.assert_allclose(bm25_scores(queries, documents), bm25, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(tfidf_scores(queries, documents), plain_tfidf(queries, documents), rtol=1e-12,
                               atol=1e-15)


@pytest.mark.parametrize("documents", [["?!", ""], ["...", "- -"], []])
def test_documents_without_words_score_zero(documents: list[str]) -> None:
    for scores in (bm25_scores(["a cat", "?"], documents), tfidf_scores(["a cat", "?"], documents)):
        np.testing.assert_array_equal(scores, np.zeros((2, len(documents))))


def test_no_queries() -> None:
    assert bm25_scores([], ["a"]).shape == tfidf_scores([], ["a"]).shape == (0, 1)


def test_a_query_without_known_words_scores_zero() -> None:
    for scores in (bm25_scores(["zebra", "?"], DOCUMENTS), tfidf_scores(["zebra", "?"], DOCUMENTS)):
        np.testing.assert_array_equal(scores, np.zeros((2, 4)))


def test_tfidf_of_characters_sees_what_words_do_not() -> None:
    assert tfidf_scores(["dogs"], ["dog", "cat"])[0].tolist() == [0.0, 0.0]
    dog, cat = tfidf_scores(["dogs"], ["dog", "cat"], ngrams=(2, 3), analyzer="char")[0]
    assert dog > 0.5
    assert cat == 0.0
    assert tfidf_scores(["ab"], ["a"], ngrams=(2, 3), analyzer="char").tolist() == [[0.0]]  # no run of two


@pytest.mark.parametrize("ngrams", [(0, 1), (2, 1)])
def test_tfidf_refuses_an_empty_range(ngrams: tuple[int, int]) -> None:
    with pytest.raises(WhenceError, match=r"ngrams=\(\d, 1\): expected \(shortest, longest\)"):
        tfidf_scores(["a"], ["a"], ngrams=ngrams)


def test_random_scores_depend_on_the_seed_alone() -> None:
    scores = random_scores(30, 40, seed=5)
    assert scores.shape == (30, 40)
    np.testing.assert_array_equal(scores, random_scores(30, 40, seed=5))
    assert not np.array_equal(scores, random_scores(30, 40, seed=6))
    assert abs(scores.mean()) < 0.15  # 1200 draws: standard error 0.03
    assert abs(scores.std() - 1) < 0.15


def test_no_progress_bar_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    bm25_scores(QUERIES, DOCUMENTS)
    assert capfd.readouterr() == ("", "")
