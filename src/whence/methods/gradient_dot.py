"""Gradient dot product: influence with the identity as curvature."""

from __future__ import annotations

from whence.curvature.solver import Identity
from whence.methods.registry import solver_method


@solver_method
def gradient_dot() -> Identity:
    """`score = (1/N) grad f(q) . grad log p(j)`, the first-order effect of one unit gradient step on j.

    Charpiat et al. 2019; one checkpoint of TracIn (Pruthi et al. 2020, arXiv 2002.08484); "Hessian-free" in
    Li et al. 2024. Cost: one pass over the training rows.
    """
    return Identity()
