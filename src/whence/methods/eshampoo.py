"""Gauss-Newton in the eigenbasis of Shampoo's factors, with eigenvalues measured there."""

from __future__ import annotations

from whence.curvature.damping import Damping
from whence.curvature.kronecker import Curvature
from whence.curvature.solver import Kronecker
from whence.methods.registry import solver_method


@solver_method
def eshampoo(*, damping: float = 0.1, rule: str = "block", labels: str = "sampled", rows: int = 0, seed: int = 0,
             parts: int = 1, draws: int = 0, rank: int = 0) -> Kronecker:
    """`ekfac` with the eigenvectors of `E[G^T G]` and `E[G G^T]` as bases.

    The corrected eigenvalues are the best diagonal in a given basis (George et al. 2018), so this differs from
    `ekfac` in the basis alone. Options as there.
    """
    return Kronecker(Curvature("eshampoo", labels, rows, seed, parts, draws), Damping(damping, rule), rank)
