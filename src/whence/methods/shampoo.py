"""Shampoo's Kronecker product as curvature."""

from __future__ import annotations

from whence.curvature.damping import Damping
from whence.curvature.kronecker import Curvature
from whence.curvature.solver import Kronecker
from whence.methods.registry import solver_method


@solver_method
def shampoo(*, damping: float = 0.1, rule: str = "block", labels: str = "sampled", rows: int = 0, seed: int = 0,
            parts: int = 1, draws: int = 0, rank: int = 0) -> Kronecker:
    """`score = (1/N) v^T (C + lambda I)^-1 g` with `C = E[G G^T] x E[G^T G] / tr` by block.

    Its factors are moments of whole-sequence gradients, where those of `kfac` are moments of tokens. Options as for
    `ekfac`.

    Gupta, Koren & Singer 2018 (arXiv 1802.09568); Morwani et al. 2024 (arXiv 2406.17748) for the form without roots.
    """
    return Kronecker(Curvature("shampoo", labels, rows, seed, parts, draws), Damping(damping, rule), rank)
