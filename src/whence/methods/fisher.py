"""Exact influence with the damped empirical Fisher as curvature, through Gram matrices."""

from __future__ import annotations

from functools import partial

from whence.curvature.gram import dampings_of, inverse_filter, total
from whence.methods.evidence import Evidence
from whence.methods.registry import method
from whence.methods.solver_facts import solver_facts
from whence.scores.matrix import Scores


@method(needs={"grams"})
def fisher(evidence: Evidence, *, damping: float = 0.1, scope: str = "block", rule: str = "block") -> Scores:
    """`score = (1/N) v^T (F + lambda I)^-1 g = K_v (K + N lambda I)^-1`, with no approximation of the inverse.

    F is the empirical Fisher, `(1/N) sum_i g_i g_i^T` of the training rows' gradients: of each block
    (`scope=block`, the scores summed) or of all parameters together (`scope=model`).
    `lambda = damping x mean eigenvalue of F`, or what another `rule` says (block, largest, global, absolute:
    `curvature/damping.py`). Exact for this matrix, which is not the Hessian: with few rows it can rank worse
    than an approximate inverse of a better estimate.

    Koh & Liang 2017 (arXiv 1703.04730) with the Gram identity `(G^T G + c I)^-1 G^T = G^T (G G^T + c I)^-1`.
    """
    grams = evidence.blocks(scope)
    dampings = dampings_of(grams, damping, rule)
    values = total(gram.apply(partial(inverse_filter, damping=lam)) for gram, lam in zip(grams, dampings, strict=True))
    return Scores(values / grams[0].n, "", "nats", solver_facts("empirical Fisher", grams, dampings, rule))
