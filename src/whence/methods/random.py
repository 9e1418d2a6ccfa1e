"""Random scores: what a method that knows nothing reaches."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from whence.base.errors import WhenceError
from whence.methods.evidence import Evidence
from whence.methods.registry import method
from whence.scores.matrix import Scores


def random_scores(n_queries: int, n_train: int, seed: int) -> Float64[np.ndarray, "n_queries n_train"]:
    """Independent standard normal scores [Q, N]; same seed, same scores."""
    return np.random.default_rng(seed).standard_normal((n_queries, n_train))


@method(needs=set())
def random(evidence: Evidence, *, seed: int = 0) -> Scores:
    """Independent standard normal scores."""
    if seed < 0:
        raise WhenceError(f"random(seed={seed}): expected 0 or more")
    return Scores(random_scores(len(evidence.queries), len(evidence.train), seed), "", "none")
