"""The empirical Fisher through Gram matrices: any function of it, exactly, from N x N algebra.

Let G [N, P] hold the training gradients of a block, V [Q, P] those of the queries, `F = G^T G / N` the
empirical Fisher. With `K = G G^T = U diag(N mu) U^T` and `K_v = V G^T`, for any function f

    V f(F) G^T = K_v U diag(f(mu)) U^T,

because `G^T U` spans the eigenvectors of F with eigenvalues mu and the rows of G lie in that span. So one
eigendecomposition of K gives every damping of the exact inverse (f = 1 / (mu + lambda)), and every
truncated Neumann series (LiSSA after any number of iterations) in closed form.

Cost: O(N^3) once for a block, then O(Q N^2) for each f; independent of P.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float

from whence.curvature.damping import Damping


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues `mu` [N] of the empirical Fisher on the span of the gradients, and `U` [N, N] of K."""

    mu: np.ndarray
    U: np.ndarray


@dataclass(frozen=True)
class Gram:
    """Gram matrices of one block, or of several added up (gradients side by side).

    Attributes:
        name: block name.
        parameters: P, coordinates of the gradient.
        train: K = G G^T, float64 [N, N].
        cross: K_v = V G^T, float64 [Q, N].
        query_norms: |v|^2, float64 [Q].
    """

    name: str
    parameters: int
    train: Float[np.ndarray, "N N"]
    cross: Float[np.ndarray, "Q N"]
    query_norms: Float[np.ndarray, " Q"]
    _spectrum: list[Spectrum] = field(default_factory=list, repr=False, compare=False)
    _rotated: list[np.ndarray] = field(default_factory=list, repr=False, compare=False)

    @property
    def n(self) -> int:
        """N, the number of training rows."""
        return len(self.train)

    @property
    def spectrum(self) -> Spectrum:
        """Eigendecomposition of K / N, computed once; rounding below zero is set to zero."""
        if not self._spectrum:
            mu, U = torch.linalg.eigh(torch.from_numpy(self.train) / self.n)
            self._spectrum.append(Spectrum(mu.clamp_min(0).numpy(), U.numpy()))
        return self._spectrum[0]

    def rotated_cross(self) -> np.ndarray:
        """`K_v U` [Q, N], what every spectral method starts from; computed once."""
        if not self._rotated:
            self._rotated.append(self.cross @ self.spectrum.U)
        return self._rotated[0]

    def apply(self, f: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """`V f(F) G^T` [Q, N]; f maps eigenvalues [N] to [N]."""
        return (self.rotated_cross() * f(self.spectrum.mu)) @ self.spectrum.U.T

    def with_queries(self, cross: np.ndarray, query_norms: np.ndarray) -> Gram:
        """The same training rows with other queries; an eigendecomposition already made is kept."""
        return Gram(self.name, self.parameters, self.train, cross, query_norms, self._spectrum)

    @property
    def mean(self) -> float:
        """The mean eigenvalue of F over all P coordinates, `tr(K) / (N P) = mean_i mean(g_i^2)`."""
        return float(np.trace(self.train)) / (self.n * self.parameters)

    @property
    def largest(self) -> float:
        """The largest eigenvalue of F."""
        return float(self.spectrum.mu[-1])

    def damping(self, factor: float) -> float:
        """lambda of this block by itself: `factor` times the mean eigenvalue of F."""
        return dampings_of([self], factor)[0]


def dampings_of(grams: Sequence[Gram], factor: float, rule: str = "block") -> list[float]:
    """lambda of every block by a rule of `curvature/damping.py`; only `largest` costs an eigendecomposition.

    Raises:
        WhenceError: an unknown rule, a factor that is not positive, or a block whose lambda would be zero.
    """
    damping = Damping(factor, rule)
    largest = [gram.largest for gram in grams] if rule == "largest" else []
    return damping.of([gram.mean for gram in grams], largest, [gram.parameters for gram in grams])


def inverse_filter(mu: np.ndarray, damping: float) -> np.ndarray:
    """f(mu) = 1 / (mu + lambda): the exact damped inverse."""
    return 1 / (mu + damping)


def total(products: Iterable[np.ndarray]) -> np.ndarray:
    """The sum over blocks of [Q, N] products."""
    return np.sum(list(products), axis=0)


def add_up(grams: Sequence[Gram], name: str = "all blocks") -> Gram:
    """The Gram matrices of the gradients of several blocks laid side by side: the sums of theirs."""
    return Gram(name, sum(g.parameters for g in grams), np.sum([g.train for g in grams], axis=0),
                np.sum([g.cross for g in grams], axis=0), np.sum([g.query_norms for g in grams], axis=0))
