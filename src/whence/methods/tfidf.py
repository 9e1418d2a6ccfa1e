"""TF-IDF: cosine of weighted counts of words or characters.

    weight(t, d) = count(t, d) (1 + ln((1 + N) / (1 + df(t))))        cos = <w_q, w_d> / |w_q| |w_d|

N and df are of the documents (the training rows), and terms that no document has are left out of queries too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64
from sklearn.feature_extraction.text import TfidfVectorizer

from whence.base.errors import WhenceError
from whence.methods.evidence import Evidence
from whence.methods.lexical_text import WORD, texts
from whence.methods.registry import method
from whence.scores.matrix import Scores

Analyzer = Literal["word", "char", "char_wb"]


def tfidf_scores(queries: Sequence[str], documents: Sequence[str], ngrams: tuple[int, int] = (1, 2),
                 analyzer: str = "word") -> Float64[np.ndarray, "queries documents"]:
    """Cosines [Q, N], from 0 to 1; 0 where they share no term, or have none.

    Args:
        ngrams: shortest and longest run of words or characters that is a term.
        analyzer: `word`, `char`, or `char_wb` (characters within words); lower case.

    Raises:
        WhenceError: a range of n-grams that is empty or begins below 1.
    """
    if analyzer not in get_args(Analyzer):
        raise WhenceError(f"analyzer={analyzer}: expected {', '.join(get_args(Analyzer))}")
    if not 1 <= ngrams[0] <= ngrams[1]:
        raise WhenceError(f"ngrams={ngrams}: expected (shortest, longest) with 1 <= shortest <= longest")
    pattern = WORD if analyzer == "word" else None
    vectorizer = TfidfVectorizer(analyzer=analyzer, ngram_range=ngrams, token_pattern=pattern)
    terms_of = vectorizer.build_analyzer()
    if not queries or not any(terms_of(text) for text in documents):
        return np.zeros((len(queries), len(documents)))  # nothing to compare, which scikit-learn refuses
    train = vectorizer.fit_transform(documents)
    return (vectorizer.transform(queries) @ train.T).toarray()


@method(needs=set())
def tfidf(evidence: Evidence, *, field: str = "both", analyzer: str = "word",
          longest: int = 2) -> Scores:
    """TF-IDF cosine over n-grams of 1 to `longest` words (or 2 to `longest` characters); no model."""
    shortest = 1 if analyzer == "word" else min(2, longest)
    queries, train = texts(evidence.queries, field), texts(evidence.train, field)
    values = tfidf_scores(queries, train, (shortest, longest), analyzer)
    return Scores(values, "", "cosine")
