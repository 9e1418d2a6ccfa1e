"""BM25: shared words, rare ones counting more, long documents less.

    score(q, d) = sum over words w of q  idf(w) tf(w, d) / (tf(w, d) + k1 (1 - b + b |d| / mean |d|))
    idf(w)      = ln(1 + (N - df(w) + 1/2) / (df(w) + 1/2))

The variant of Lucene (Kamphuis et al., ECIR 2020), without the constant factor k1 + 1; never negative. A word
that occurs twice in the query counts twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import bm25s
import numpy as np
from jaxtyping import Float64

from whence.methods.evidence import Evidence
from whence.methods.lexical_text import texts, words
from whence.methods.registry import method
from whence.scores.matrix import Scores


def bm25_scores(queries: Sequence[str], documents: Sequence[str], k1: float = 1.5, b: float = 0.75
                ) -> Float64[np.ndarray, "queries documents"]:
    """Scores [Q, N] of each document for each query; 0 where they share no word, or have none."""
    values = np.zeros((len(queries), len(documents)))
    corpus = [words(text) for text in documents]
    if not any(corpus):
        return values  # the mean length is 0
    index = bm25s.BM25(k1=k1, b=b, method="lucene", dtype="float64")
    index.index(corpus, show_progress=False)
    for row, text in zip(values, queries, strict=True):
        known = index.get_tokens_ids(words(text))  # words that no document has are left out
        row[:] = index.get_scores_from_ids(known)
    return values


@method(needs=set())
def bm25(evidence: Evidence, *, field: str = "both") -> Scores:
    """BM25 of the query's text against each training row's; `field`: prompt, response or both. No model."""
    return Scores(bm25_scores(texts(evidence.queries, field), texts(evidence.train, field)), "", "BM25")
