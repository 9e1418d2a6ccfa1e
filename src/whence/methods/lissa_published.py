"""LiSSA as the published code of Li et al. 2024 computes it, defects included."""

from __future__ import annotations

from functools import partial

import numpy as np

from whence.curvature.gram import dampings_of, total
from whence.curvature.lissa import PUBLISHED_SCALE, check_iterations, published_filter
from whence.methods.evidence import Evidence
from whence.methods.registry import method
from whence.methods.solver_facts import solver_facts
from whence.scores.matrix import Scores


@method(needs={"grams"})
def lissa_published(evidence: Evidence, *, damping: float = 0.1, iterations: int = 3, rule: str = "block") -> Scores:
    """`r <- v + r - (F - lambda I) r / 1000`, r_0 = v, by block; then `(1/N) r . g`.

    The scale of 1000 and the reversed sign of the damping make it (1 + iterations) x gradient dot wherever
    the Fisher's eigenvalues are far below 1000, and divergent where they are above 2000: see
    `curvature/lissa.py`. `largest_step` in the facts is mu_max / 1000. Use `lissa` for an inverse.
    `rule` is that of the damping: block (the published one), largest, global, absolute (`curvature/damping.py`).
    """
    check_iterations(iterations)
    grams = evidence.need_grams()
    dampings = dampings_of(grams, damping, rule)
    values = total(gram.apply(partial(published_filter, damping=lam, iterations=iterations))
                   for gram, lam in zip(grams, dampings, strict=True))
    largest = float(np.max([gram.spectrum.mu[-1] for gram in grams])) / PUBLISHED_SCALE
    facts = solver_facts("empirical Fisher, three terms of a mis-scaled series", grams, dampings, rule,
                         iterations=iterations, scale=PUBLISHED_SCALE, largest_step=largest)
    return Scores(values / grams[0].n, "", "nats, mis-scaled", facts)
