"""Influence on the leading eigenvectors of the Gauss-Newton matrix."""

from __future__ import annotations

from whence.curvature.damping import Damping
from whence.curvature.exact import ArnoldiSubspace, Exact
from whence.methods.registry import solver_method


@solver_method
def arnoldi(*, damping: float = 0.1, rule: str = "block", rows: int = 0, seed: int = 0, iterations: int = 100,
            rank: int = 50, outside: str = "drop") -> ArnoldiSubspace:
    """`score = (1/N) v^T W^T (diag(mu) + W Lambda W^T)^-1 W g`, W the `rank` leading Ritz vectors of G.

    One Krylov space for all queries, `iterations` products in all. What of v lies outside it is dropped, as published,
    or (`outside=damp`) treated as without curvature; `captured` says how much lay inside.

    Schioppa, Zablotskaia, Vilar & Sokolov 2022 (arXiv 2112.03052).
    """
    return ArnoldiSubspace(Exact(Damping(damping, rule), rows, seed), iterations, rank, outside)
