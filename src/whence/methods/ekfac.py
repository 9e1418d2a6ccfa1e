"""EK-FAC: Gauss-Newton in the eigenbasis of its Kronecker factors, with eigenvalues measured there."""

from __future__ import annotations

from whence.curvature.damping import Damping
from whence.curvature.kronecker import Curvature
from whence.curvature.solver import Kronecker
from whence.methods.registry import solver_method


@solver_method
def ekfac(*, damping: float = 0.1, rule: str = "block", labels: str = "sampled", rows: int = 0, seed: int = 0,
          parts: int = 1, draws: int = 0, rank: int = 0) -> Kronecker:
    """`score = (1/N) v^T (C + lambda I)^-1 g` with `C = (Q_S x Q_A) diag(E[(Q_S^T G Q_A)^2]) (Q_S x Q_A)^T` by block.

    Q_A and Q_S are the eigenvectors of `E[a~ a~^T]` and `E[d d^T]` over tokens; the eigenvalues are second moments of
    whole-sequence gradients (`curvature/kronecker.py`). `labels=sampled` makes C the Gauss-Newton matrix of the loss,
    `labels=empirical` the empirical Fisher. `rows` is the sample it is fitted on (0: a default that grows with the
    widest block; -1: all), `draws` labels are sampled for each token (0: one, and more where all rows together are
    too few), `parts` cuts the two covariances into diagonal blocks, `rank` keeps low-rank vectors, `rule` is that of
    the damping (block, largest, global, absolute).

    Grosse et al. 2023 (arXiv 2308.03296), Eq. 18 to 21; George et al. 2018 (arXiv 1806.03884).
    """
    return Kronecker(Curvature("ekfac", labels, rows, seed, parts, draws), Damping(damping, rule), rank)
