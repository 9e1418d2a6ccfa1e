"""Gradient dot product: influence with the identity as curvature."""

from __future__ import annotations

from whence.curvature.gram import total
from whence.methods.evidence import Evidence
from whence.methods.registry import method
from whence.methods.solver_facts import solver_facts
from whence.scores.matrix import Scores


@method(needs={"grams"})
def gradient_dot(evidence: Evidence) -> Scores:
    """`score = (1/N) grad f(q) . grad log p(j)`, the first-order effect of one unit gradient step on j.

    Charpiat et al. 2019; one checkpoint of TracIn (Pruthi et al. 2020, arXiv 2002.08484); "Hessian-free" in
    Li et al. 2024. Cost: one product of Gram matrices, none beyond the sweep.
    """
    grams = evidence.need_grams()
    values = total(gram.cross for gram in grams) / grams[0].n
    return Scores(values, "", "nats per unit step", solver_facts("identity", grams, [1.0]))
