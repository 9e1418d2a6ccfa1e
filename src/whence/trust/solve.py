"""Is the inverse-curvature product right? Judged by exact Gauss-Newton products on rows held out for it.

The scores rest on x for a query's gradient v. What x should do is maximise the linearised gain of the proximal
objective, v^T x - x^T (G + Lambda) x / 2. At its best length along its own direction x gains

    E(x) = (v^T x)^2 / (2 x^T (G + Lambda) x)        at most v^T (G + Lambda)^-1 v / 2

with G the exact Gauss-Newton matrix over all blocks together. Conjugate gradients on the products of one half of a
sample give a rival, and both are judged on the other half, so that neither has seen the rows it is judged by:

    solver error     1 - E(x) / E(rival), from below 0            and E(x) / E(v): is it better than no curvature?
    curvature error  v^T x / x^T (G + Lambda) x                   for x = (C + Lambda)^-1 v: C + Lambda over G + Lambda
    residual         |(G + Lambda) x - v| / |v|                   said, not read: the largest eigenvalues rule it

The curvature matters as much as its inverse: an exact inverse of the wrong matrix (the empirical Fisher, say) has a
large error here.

Shapes: K queries that are looked at, b blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from whence.curvature.blockwise import damped, dots
from whence.curvature.conjugate_gradient import conjugate_gradient
from whence.curvature.damping import Damping
from whence.curvature.exact import damped_inverse
from whence.curvature.fit import Situation
from whence.curvature.gauss_newton import GaussNewton
from whence.curvature.kronecker import Curvature
from whence.curvature.products import solve_queries
from whence.curvature.solver import Identity, Kronecker, Solver
from whence.data.examples import Examples
from whence.measure.measurement import Measurement
from whence.tasks.interval import bootstrap_mean
from whence.trust.dial import Dial, Reading, at_least

ROWS, ITERATIONS = 64, 8
SHARE = (0.7, 0.3)  # of the rival's gain: good from, bad below
SIZE = 3  # curvature is right within this factor


@dataclass(frozen=True)
class Solved:
    """What was found of K queries, each against exact products.

    Attributes:
        share: E(x) / E(rival).
        gain: E(x) / E(v).
        ratio: v^T x / x^T (G + Lambda) x.
        residual: |(G + Lambda) x - v| / |v|.
        rows: that x was judged by.
    """

    share: Float[np.ndarray, " K"]
    gain: Float[np.ndarray, " K"]
    ratio: Float[np.ndarray, " K"]
    residual: Float[np.ndarray, " K"]
    rows: int


def judge(situation: Situation, queries: Examples, solver: Solver, measurement: Measurement, *, rows: int = ROWS,
          iterations: int = ITERATIONS, seed: int = 0) -> Solved:
    """Solve for `queries` with `solver` and with conjugate gradients, and judge both on rows that neither has seen.

    Args:
        rows: in each half, fewer where there are fewer.
        iterations: of conjugate gradients, preconditioned by EK-FAC.
    """
    order, half = np.random.default_rng(seed).permutation(len(situation.train)), max(1, len(situation.train) // 2)
    halves = (order[:half][:rows], order[half:][:rows] if len(order) > 1 else order)
    fitting, judging = (GaussNewton.of_language_model(situation.model, situation.train.select(np.sort(some)),
                                                      situation.blocks, pad_id=situation.pad_id,
                                                      side=situation.layout.side).product for some in halves)
    (plain, solution), _ = solve_queries(situation, queries, [Identity(), solver], measurement)
    v, x = ([part.whole() for part in one.vectors] for one in (plain, solution))
    ekfac = solver if isinstance(solver, Kronecker) else Kronecker(Curvature("ekfac"), Damping())
    lambdas = ekfac.lambdas(situation.fit(ekfac.curvature))
    rival = conjugate_gradient(fitting, v, lambdas, iterations=iterations, tolerance=1e-3,
                               preconditioner=damped_inverse(situation, ekfac)).x
    image, alone, other = (damped(judging, lambdas)(part) for part in (x, v, rival))
    gains = [_ratio(dots(v, part).square(), dots(part, of_part)) for part, of_part in
             ((x, image), (v, alone), (rival, other))]
    missing = [a - b for a, b in zip(image, v, strict=True)]
    return Solved(gains[0] / gains[2], gains[0] / gains[1], _ratio(dots(v, x), dots(x, image)),
                  _ratio(dots(missing, missing), dots(v, v)) ** 0.5, len(halves[1]))


def solver_dial(found: Solved, total: int) -> Dial:
    """Does x gain what conjugate gradients on exact products would? `total` queries, of which some were looked at."""
    error = bootstrap_mean(1 - found.share)
    worse = float(np.mean(found.gain < 0.99))
    reading = at_least(1 - error.value, *SHARE)
    versus = (f"; for {worse:.0%} of them it is worse than the gradient itself" if worse else
              f"; {np.median(found.gain):.2g} x what the gradient itself gains")
    return Dial("solver error", "cheap", "cause", reading,
                f"{error} of the gain that conjugate gradients on exact products reach is missed, over "
                f"{len(found.share)} of {total} queries and {found.rows} rows held out{versus}; relative residual "
                f"{np.median(found.residual):.2g} in the median", f"at most {1 - SHARE[0]:.0%} missed", error.value,
                error.low, error.high, "share of the gain")


def curvature_dial(found: Solved) -> Dial:
    """Is the curvature of the right size where the queries look? It decides how large scores are, not their order."""
    ratio = float(np.median(found.ratio))
    reading = Reading.UNKNOWN if np.isnan(ratio) else Reading.GOOD if 1 / SIZE <= ratio <= SIZE else Reading.POOR
    return Dial("curvature error", "cheap", "note", reading,
                f"the curvature that was used is {ratio:.2g} x the exact Gauss-Newton matrix in the directions of the "
                "queries (median)", f"within a factor of {SIZE}", ratio, unit="ratio")


def no_vectors(method: str) -> Dial:
    """The dial of a method that makes no x."""
    return Dial("solver error", "cheap", "cause", Reading.UNKNOWN,
                f"{method} makes no vectors of the queries, so there is nothing to hold against exact products", "")


def _ratio(a: Tensor, b: Tensor) -> np.ndarray:
    return torch.where(b > 0, a / b, torch.nan).cpu().numpy()
