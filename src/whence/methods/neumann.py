"""LiSSA on exact Gauss-Newton products, at a scale at which it converges."""

from __future__ import annotations

from whence.curvature.damping import Damping
from whence.curvature.exact import Exact, NeumannSeries
from whence.methods.registry import solver_method


@solver_method
def neumann(*, damping: float = 0.1, rule: str = "block", rows: int = 0, seed: int = 0,
            iterations: int = 50) -> NeumannSeries:
    """`r <- v + r - (G + Lambda) r / s`, x = r / s, with s above the largest eigenvalue found by power iteration.

    The same system as `cg`, by the series that LiSSA truncates; slower, and its `residual` says how much.

    Agarwal, Bullins & Hazan 2017 (arXiv 1602.03943); Koh & Liang 2017 (arXiv 1703.04730); Grosse et al. 2023, Eq. 10.
    """
    return NeumannSeries(Exact(Damping(damping, rule), rows, seed), iterations)
