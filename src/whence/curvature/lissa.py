"""LiSSA: (F + lambda I)^-1 v by a truncated Neumann series, and what the published code computes instead.

Both recursions start at r_0 = v and are polynomials in F, so T iterations are a closed form on its spectrum.

Corrected (Agarwal et al. 2017; Koh & Liang 2017), with a scale `s >= mu_max + lambda` that makes it converge:

    r <- v + r - (F + lambda I) r / s        x = r / s -> (F + lambda I)^-1 v
    f_T(mu) = (1 - (1 - (mu + lambda) / s)^(T+1)) / (mu + lambda)

As published (code of Li et al. 2024, arXiv 2409.19998, inherited from that of DataInf), with s = 1000 and
the sign of the damping reversed:

    r <- v + r - (F - lambda I) r / s        f_T(mu) = sum_{j=0..T} (1 - (mu - lambda) / s)^j

Where mu is far below 1000 the latter is (1 + T) v: gradient matching, not an inverse.
"""

from __future__ import annotations

import numpy as np

from whence.base.errors import WhenceError
from whence.curvature.gram import Gram

PUBLISHED_SCALE = 1e3


def check_iterations(iterations: int) -> None:
    """Refuse a number of iterations that is no number of iterations."""
    if iterations < 0:
        raise WhenceError(f"iterations={iterations}: expected 0 or more")


def published_filter(mu: np.ndarray, damping: float, iterations: int) -> np.ndarray:
    """f_T(mu) of the published recursion, summed term by term; [N] -> [N]."""
    factor = 1 - (mu - damping) / PUBLISHED_SCALE
    return np.sum([factor**j for j in range(iterations + 1)], axis=0)


def corrected_filter(mu: np.ndarray, damping: float, iterations: int, scale: float) -> np.ndarray:
    """f_T(mu) of the convergent recursion; [N] -> [N]."""
    eigenvalue = mu + damping
    return _one_minus_power(eigenvalue / scale, iterations + 1) / eigenvalue


def convergent_scale(gram: Gram, damping: float) -> float:
    """The smallest scale at which no component overshoots: mu_max + lambda."""
    return float(gram.spectrum.mu[-1]) + damping


def relative_residual(gram: Gram, damping: float, iterations: int, scale: float) -> np.ndarray:
    """`|(F + lambda I) x - v| / |v|` for every query, float64 [Q]; nan-free: 0 for a zero gradient.

    Component by component the residual is `(1 - (mu + lambda)/s)^(T+1) v`; the part of v outside the span
    of the training gradients has mu = 0.
    """
    mu = gram.spectrum.mu
    inside = np.zeros_like(gram.rotated_cross())
    real = mu > mu[-1] * 1e-12
    inside[:, real] = gram.rotated_cross()[:, real] ** 2 / (gram.n * mu[real])
    outside = np.maximum(gram.query_norms - inside.sum(axis=1), 0)
    left = (1 - _one_minus_power((mu + damping) / scale, iterations + 1)) ** 2
    left_outside = (1 - _one_minus_power(np.array([damping / scale]), iterations + 1)[0]) ** 2
    squared = inside @ left + outside * left_outside
    return np.sqrt(np.divide(squared, gram.query_norms, out=np.zeros_like(squared), where=gram.query_norms > 0))


def _one_minus_power(step: np.ndarray, power: int) -> np.ndarray:
    """`1 - (1 - step)^power`, exact also where step is tiny."""
    with np.errstate(divide="ignore"):
        return -np.expm1(power * np.log1p(-np.minimum(step, 1.0)))
