"""The vectors that solvers make of a query's gradient, compared with the exact one without forming either.

G [N, P] are the training gradients of a block, V [Q, P] the queries', `F = G^T G / N`, `K = G G^T = U diag(N mu) U^T`
and `K_v = V G^T`. What the solvers on F make of v is always

    x_q = alpha_q v_q + G^T b_q            alpha [Q], b [Q, N]

    exact            alpha = 1/lambda      b = -(1/lambda) K_v (N lambda I + K)^-1        (Woodbury)
    identity         alpha = 1/lambda      b = 0                                          (gradient dot)
    DataInf          alpha = 1/lambda      b_i = -K_v,i / (N lambda (lambda + |g_i|^2))   (`curvature/datainf.py`)
    LiSSA            by its recursion, r = alpha v + G^T b (`curvature/lissa.py`)

so that `x . y`, and with it every error and angle, follows from K, K_v and |v|^2. Cost: O(N^3) once for a block, then
O(Q N^2) for each vector; independent of P. All in float64.

Precision. `alpha_x alpha_y |v|^2 + alpha_x b_y . K_v + alpha_y b_x . K_v + b_x K b_y` cancels where mu is far above
lambda. `GramVector.dot` adds up coordinates on the eigenvectors of F above 1e-7 of the largest eigenvalue instead, and
takes that form for what is left of v only. Where v lies in the span of the gradients, rounding of the Gram matrices
(eps |v|^2; 1e-7 |v|^2 if they were made in float32) still shows as a part outside of it, which x has at 1/lambda.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float

from whence.base.errors import WhenceError
from whence.curvature.gram import Gram
from whence.curvature.lissa import PUBLISHED_SCALE, check_iterations, convergent_scale

COORDINATE = 1e-7  # of the largest eigenvalue: below, K_v U / sqrt(N mu) would magnify rounding
HUGE = 1e100  # a factor that a series may put on v; its square, times |v|^2, is a number still
ZERO = 1e-10  # of the largest eigenvalue: below, an eigenvalue does not count for the numerical rank


@dataclass(frozen=True)
class GramVector:
    """`x_q = alpha_q v_q + G^T b_q` for every query of a `Gram`."""

    alpha: Float[np.ndarray, " Q"]
    b: Float[np.ndarray, "Q N"]

    def __sub__(self, other: GramVector) -> GramVector:
        return GramVector(self.alpha - other.alpha, self.b - other.b)

    def scores(self, gram: Gram) -> Float[np.ndarray, "Q N"]:
        """`x^T G^T = alpha K_v + b K`."""
        return self.alpha[:, None] * gram.cross + self.b @ gram.train

    def dot(self, other: GramVector, gram: Gram) -> Float[np.ndarray, " Q"]:
        """`x_q . y_q` (see the module's text)."""
        mu, U = gram.spectrum.mu, gram.spectrum.U
        along = mu > COORDINATE * mu[-1]
        along[: max(gram.n - gram.parameters, 0)] = False  # F has at most P eigenvectors
        k, size = gram.rotated_cross(), np.sqrt(gram.n * mu)
        w = k[:, along] / size[along]  # coordinates of v on the eigenvectors of F
        rest = np.maximum(gram.query_norms - (w**2).sum(axis=1), 0)
        if np.count_nonzero(along) == gram.parameters:
            rest = np.zeros_like(rest)  # there is nothing beside them
        x, y = self.b @ U, other.b @ U
        a, c = self.alpha[:, None], other.alpha[:, None]
        inside = ((a * w + x[:, along] * size[along]) * (c * w + y[:, along] * size[along])).sum(axis=1)
        k, x, y = k[:, ~along], x[:, ~along], y[:, ~along]
        beside = (a * y * k + c * x * k + x * y * gram.n * mu[~along]).sum(axis=1)
        return inside + beside + self.alpha * other.alpha * rest

    def squared_norm(self, gram: Gram) -> Float[np.ndarray, " Q"]:
        """`|x_q|^2`; rounding below zero is set to zero."""
        return np.maximum(self.dot(self, gram), 0)


def exact_vector(gram: Gram, damping: float) -> GramVector:
    """`(F + lambda I)^-1 v`."""
    return _spectral(gram, 1 / damping, -1 / (damping * gram.n * (damping + gram.spectrum.mu)))


def identity_vector(gram: Gram, damping: float) -> GramVector:
    """`v / lambda`: the gradient itself, at the scale that the inverse has outside the span of the gradients."""
    return GramVector(np.full(len(gram.cross), 1 / damping), np.zeros_like(gram.cross))


def datainf_vector(gram: Gram, damping: float) -> GramVector:
    """`(1/lambda) [v - (1/N) sum_i g_i (g_i . v) / (lambda + |g_i|^2)]`."""
    weights = 1 / (gram.n * damping * (damping + np.diag(gram.train)))
    return GramVector(np.full(len(gram.cross), 1 / damping), -gram.cross * weights)


def lissa_vector(gram: Gram, damping: float, iterations: int) -> GramVector:
    """r / s after `r <- v + r - (F + lambda I) r / s` from r = v, with `s = mu_max + lambda`."""
    scale = convergent_scale(gram, damping)
    alpha, gamma = _series(gram, damping, iterations, scale)
    return _spectral(gram, alpha / scale, gamma / scale)


def lissa_published_vector(gram: Gram, damping: float, iterations: int) -> GramVector:
    """r after `r <- v + r - (F - lambda I) r / 1000` from r = v: the published recursion, wrong sign and all."""
    return _spectral(gram, *_series(gram, -damping, iterations, PUBLISHED_SCALE))


def _series(gram: Gram, damping: float, iterations: int, scale: float) -> tuple[float, np.ndarray]:
    """(alpha, gamma [N]) of the recursion, run literally on `r = alpha v + G^T U diag(gamma) U^T K_v^T`.

    `F r = G^T (alpha K_v^T + K b) / N`, so an iteration is `alpha <- 1 + (1 - lambda/s) alpha` and
    `gamma <- (1 - lambda/s) gamma - (alpha / N + mu gamma) / s`, N numbers for all queries at once.

    Raises:
        WhenceError: the series has diverged beyond what can be squared.
    """
    check_iterations(iterations)
    mu, keep = gram.spectrum.mu, 1 - damping / scale
    alpha, gamma = 1.0, np.zeros(gram.n)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(iterations):
            alpha, gamma = 1 + keep * alpha, keep * gamma - (alpha / gram.n + mu * gamma) / scale
        factors = alpha + gram.n * mu * gamma  # of v on each eigenvector of F
    if not (np.abs(factors) < HUGE).all():
        raise WhenceError(f"block {gram.name}: LiSSA with scale {scale:g} diverged in {iterations} iterations (the "
                          f"largest eigenvalue is {gram.largest:.3g}; it diverges above twice the scale): take fewer "
                          "iterations, or `lissa`, whose scale converges")
    return alpha, gamma


def _spectral(gram: Gram, alpha: float, gamma: np.ndarray) -> GramVector:
    """`alpha v + G^T U diag(gamma) U^T K_v^T`, the form of every function of F."""
    return GramVector(np.full(len(gram.cross), alpha), (gram.rotated_cross() * gamma) @ gram.spectrum.U.T)


@dataclass(frozen=True)
class SolverErrors:
    """How far x is from the exact x* for every query, kept as sums that add up over blocks; float64 [Q] each.

    Attributes:
        apart: |x - x*|^2.
        along: x . (x - x*).
        size: |x|^2.
        exact: |x*|^2.
        dot: x . x*.

    What is undefined, because x or x* is zero (a query without a gradient), is NaN.
    """

    apart: Float[np.ndarray, " Q"]
    along: Float[np.ndarray, " Q"]
    size: Float[np.ndarray, " Q"]
    exact: Float[np.ndarray, " Q"]
    dot: Float[np.ndarray, " Q"]

    @property
    def relative(self) -> Float[np.ndarray, " Q"]:
        """`|x - x*| / |x*|`."""
        return np.sqrt(_ratio(self.apart, self.exact))

    @property
    def cosine(self) -> Float[np.ndarray, " Q"]:
        """`x . x* / (|x| |x*|)`: what a ranking, which has no scale, sees of the error."""
        return np.clip(_ratio(self.dot, np.sqrt(self.size) * np.sqrt(self.exact)), -1, 1)

    @property
    def best_scale(self) -> Float[np.ndarray, " Q"]:
        """`min over c of |c x - x*| / |x*| = sqrt(1 - cosine^2)`; 0 for any multiple of x*.

        `1 - cosine^2` is right to eps. Where x is near x*, `(|x|^2 |x - x*|^2 - (x . (x - x*))^2) / (|x|^2 |x*|^2)`,
        the same number, is right to `eps x relative^2`.
        """
        far = 1 - self.cosine**2
        near = _ratio(self.apart - _ratio(self.along, np.sqrt(self.size)) ** 2, self.exact)
        return np.sqrt(np.clip(np.where(self.apart < self.exact, near, far), 0, 1))


def solver_errors(gram: Gram, vector: GramVector, exact: GramVector) -> SolverErrors:
    """`vector` against `exact`, query by query, for one block."""
    difference = vector - exact
    return SolverErrors(difference.squared_norm(gram), vector.dot(difference, gram), vector.squared_norm(gram),
                        exact.squared_norm(gram), vector.dot(exact, gram))


def over_blocks(errors: Sequence[SolverErrors]) -> SolverErrors:
    """The errors of the block-diagonal solution as one vector: each sum over blocks, before anything is divided."""
    return SolverErrors(*(np.sum([getattr(e, field.name) for e in errors], axis=0) for field in fields(SolverErrors)))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """`above / below`, NaN where below is zero."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


@dataclass(frozen=True)
class SpectrumFacts:
    """The spectrum mu of F over P coordinates, and what a damping lambda leaves of it.

    Attributes:
        largest: |F|, the largest eigenvalue.
        mean: tr F / P.
        ratio: |F| / lambda, what theorems on `(F + lambda I)^-1 ~ I / lambda` need to be small.
        stable_rank: tr F / |F|.
        effective_rank: exp of the entropy of mu / tr F (Roy & Vetterli 2007).
        rank: eigenvalues above 1e-10 of the largest, at most P; a Gram matrix made in float32 has rounding above that.
        effective_dimension: sum mu / (mu + lambda).
        identity_error: `|(F + lambda I)^-1 - I/lambda| / |I/lambda| = |F| / (lambda + |F|)` in the spectral norm,
            with equality; Theorem 1 of Li et al. 2024 says about `|F| / lambda`, which is near it where both are small.

    The ranks of an F that is zero are zero.
    """

    largest: float
    mean: float
    ratio: float
    stable_rank: float
    effective_rank: float
    rank: int
    effective_dimension: float
    identity_error: float


def spectrum_facts(gram: Gram, damping: float) -> SpectrumFacts:
    """`SpectrumFacts` of a Gram's F at lambda = `damping`."""
    mu, largest = gram.spectrum.mu, gram.largest
    trace = float(mu.sum())
    shares = mu[mu > 0] / trace
    rank = min(int(np.count_nonzero(mu > ZERO * largest)), gram.parameters)
    return SpectrumFacts(largest, gram.mean, largest / damping, trace / largest if largest else 0.0,
                         float(np.exp(-(shares * np.log(shares)).sum())) if largest else 0.0, rank,
                         float((mu / (mu + damping)).sum()), largest / (damping + largest))
