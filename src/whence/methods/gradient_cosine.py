"""Gradient cosine: the angle alone, so that rows with huge gradients do not win every query."""

from __future__ import annotations

import numpy as np

from whence.methods.evidence import Evidence
from whence.methods.registry import method
from whence.methods.solver_facts import solver_facts
from whence.scores.matrix import Scores


@method(needs={"grams"})
def gradient_cosine(evidence: Evidence) -> Scores:
    """`score = cos(grad f(q), grad log p(j))` over the whole model; 0 where a gradient is zero.

    Barshan et al. 2020 (RelatIF, arXiv 2003.11630) give the reason for the norm in the denominator.
    """
    whole = evidence.whole
    norms = np.sqrt(np.outer(whole.query_norms, np.diag(whole.train)))
    values = np.divide(whole.cross, norms, out=np.zeros_like(whole.cross), where=norms > 0)
    return Scores(values, "", "cosine", solver_facts("identity", (whole,), [1.0]))
