"""Conjugate gradients on exact Gauss-Newton products."""

from __future__ import annotations

from whence.curvature.damping import Damping
from whence.curvature.exact import ConjugateGradients, Exact
from whence.methods.registry import solver_method


@solver_method
def cg(*, damping: float = 0.1, rule: str = "block", rows: int = 0, seed: int = 0, iterations: int = 20,
       tolerance: float = 0.01) -> ConjugateGradients:
    """`score = (1/N) v^T (G + Lambda)^-1 g` with the exact Gauss-Newton matrix G of `rows` training rows, all blocks.

    Preconditioned by EK-FAC, whose mean eigenvalues also set the damping. Each iteration costs about 1.4 epochs of
    those rows for every query; `residual` in the facts is `|(G + Lambda) x - v| / |v|`, computed anew.

    Hestenes & Stiefel 1952; Martens 2010.
    """
    return ConjugateGradients(Exact(Damping(damping, rule), rows, seed), iterations, tolerance)
