"""LiSSA with a scale at which it converges, and its residual reported."""

from __future__ import annotations

from functools import partial

import numpy as np

from whence.curvature.gram import dampings_of
from whence.curvature.lissa import check_iterations, convergent_scale, corrected_filter, relative_residual
from whence.methods.evidence import Evidence
from whence.methods.registry import method
from whence.methods.solver_facts import solver_facts
from whence.scores.matrix import Scores


@method(needs={"grams"})
def lissa(evidence: Evidence, *, damping: float = 0.1, iterations: int = 1000, rule: str = "block") -> Scores:
    """`r <- v + r - (F + lambda I) r / s` with `s = mu_max + lambda`, by block; then `(1/N) (r / s) . g`.

    Evaluated in closed form on the spectrum of F (`curvature/lissa.py`), so the number of iterations costs
    nothing; what it leaves undone is reported as `residual`, the median and the largest over queries and
    blocks of `|(F + lambda I) x - v| / |v|`. `rule` is that of the damping (block, largest, global, absolute:
    `curvature/damping.py`).

    Agarwal, Bullins & Hazan 2017 (arXiv 1602.03943); Koh & Liang 2017.
    """
    check_iterations(iterations)
    grams = evidence.need_grams()
    dampings = dampings_of(grams, damping, rule)
    values, residuals = np.zeros_like(grams[0].cross), []
    for gram, lam in zip(grams, dampings, strict=True):
        scale = convergent_scale(gram, lam)
        values += gram.apply(partial(corrected_filter, damping=lam, iterations=iterations, scale=scale))
        residuals.append(relative_residual(gram, lam, iterations, scale))
    facts = solver_facts("empirical Fisher, truncated series", grams, dampings, rule, iterations=iterations,
                         residual={"median": float(np.median(residuals)), "max": float(np.max(residuals))})
    return Scores(values / grams[0].n, "", "nats", facts)
