"""The diagonal of the Gauss-Newton matrix."""

from __future__ import annotations

from whence.curvature.damping import Damping
from whence.curvature.kronecker import Curvature
from whence.curvature.solver import Kronecker
from whence.methods.registry import solver_method


@solver_method
def diagonal(*, damping: float = 0.1, rule: str = "block", labels: str = "sampled", rows: int = 0, seed: int = 0,
             draws: int = 0, rank: int = 0) -> Kronecker:
    """`score = (1/N) sum_p v_p g_p / (E[G_p^2] + lambda)`: the Fisher's diagonal, in the coordinates of the weights.

    What Adam's second moment estimates. Options as for `ekfac`.
    """
    return Kronecker(Curvature("diagonal", labels, rows, seed, draws=draws), Damping(damping, rule), rank)
