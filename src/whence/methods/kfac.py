"""K-FAC: the Gauss-Newton matrix of a block as one Kronecker product."""

from __future__ import annotations

from whence.curvature.damping import Damping
from whence.curvature.kronecker import Curvature
from whence.curvature.solver import Kronecker
from whence.methods.registry import solver_method


@solver_method
def kfac(*, damping: float = 0.1, rule: str = "block", labels: str = "sampled", rows: int = 0, seed: int = 0,
         parts: int = 1, draws: int = 0, rank: int = 0) -> Kronecker:
    """`score = (1/N) v^T (C + lambda I)^-1 g` with `C = T E[d d^T] x E[a~ a~^T]` by block, T tokens a row.

    Exact for the Gauss-Newton matrix of one linear layer on independent tokens whose a and d are independent; half
    the fitting of `ekfac`. Options as there.

    Martens & Grosse 2015 (arXiv 1503.05671); Grosse et al. 2023, Eq. 16 and 17.
    """
    return Kronecker(Curvature("kfac", labels, rows, seed, parts, draws), Damping(damping, rule), rank)
