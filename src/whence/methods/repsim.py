"""RepSim: cosine similarity of hidden states."""

from __future__ import annotations

import numpy as np

from whence.methods.evidence import Evidence
from whence.methods.registry import method
from whence.scores.matrix import Scores
from whence.sweep.hidden import Token


@method(needs={"hidden"})
def repsim(evidence: Evidence, *, layer: int = -1, token: Token = "last_prompt", model: str = "tuned") -> Scores:
    """`score = cos(h(q), h(j))` at one layer and token of the tuned model, or of its base (`model=base`).

    The published choice (Li et al. 2024) is the last layer at the last prompt token, so responses are not
    looked at. A similarity, not a predicted change. 0 where a vector is zero.
    """
    query, train = evidence.hidden[model, layer, token]
    norms = np.outer(np.linalg.norm(query, axis=1), np.linalg.norm(train, axis=1))
    values = np.divide(query @ train.T, norms, out=np.zeros_like(norms), where=norms > 0)
    return Scores(values, "", "cosine", {"width": query.shape[1]})
