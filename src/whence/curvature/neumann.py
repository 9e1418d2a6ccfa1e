"""LiSSA on exact Gauss-Newton products: (G + Lambda)^-1 v by a truncated Neumann series.

    r_0 = v        r <- v + r - (G + Lambda) r / s        x = r / s

After T iterations x is off by (1 - (G + Lambda) / s)^(T+1) (G + Lambda)^-1 v, so the component at an eigenvalue mu
shrinks by 1 - mu / s an iteration: it converges for s > mu_max / 2, monotonically for s >= mu_max, and takes about
s / lambda iterations for what is left of the small ones. The damping that is applied is Lambda itself, whatever s.

With `draw`, each iteration uses G of a fresh random mini-batch of examples, as Agarwal, Bullins & Hazan 2017
(arXiv 1602.03943) and Koh & Liang 2017 (arXiv 1703.04730) do: unbiased products, and an x that keeps moving about
the solution by something like sqrt(mu / s) of itself; the residual that is reported is against G of all examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from whence.base.errors import WhenceError
from whence.base.progress import track
from whence.curvature.blockwise import Blockwise, Product, damped, dots, per_block, random_like, residuals

Draw = Callable[[np.random.Generator], Product]

DRAWS = 3  # mini-batches whose largest eigenvalues set the scale


@dataclass(frozen=True)
class Neumann:
    """What the series gave.

    Attributes:
        x: one tensor [K, P_b] a block.
        residual: |(G + Lambda) x - v| / |v| of each vector, float64 [K], with G over all examples.
        iterations: T.
        damping: lambda of each block.
        scale: s.
        largest: the largest eigenvalue of G + Lambda that was met, from which s was set; nan where s was given.
    """

    x: Blockwise
    residual: np.ndarray
    iterations: int
    damping: tuple[float, ...]
    scale: float
    largest: float


def neumann(product: Product, vectors: Sequence[Tensor], damping: float | Sequence[float], *, iterations: int = 100,
            scale: float | None = None, margin: float = 1.1, draw: Draw | None = None, seed: int = 0) -> Neumann:
    """Solve `(G + Lambda) x = v` for every v in `vectors` (a list of [K, P_b], left as they are).

    Args:
        product: `v -> G v` (`GaussNewton.product`).
        vectors: right-hand sides.
        damping: one lambda, or one for each block.
        iterations: T; one product each.
        scale: s; default `margin` times the largest eigenvalue of G + Lambda, found by power iteration (with
            `draw`: the largest of a few mini-batches).
        margin: power iteration comes from below.
        draw: gives the product of a fresh mini-batch for each iteration (`GaussNewton.mini_batches`); default
            `product`, every time.
        seed: of the mini-batches and of power iteration.

    Raises:
        WhenceError: a setting out of range, or a series that grew instead of converging (the scale is too small).
    """
    lambdas = per_block(damping, len(vectors))
    if iterations < 0 or (scale is not None and not scale > 0):
        raise WhenceError(f"iterations={iterations}, scale={scale}: expected iterations from 0 and a positive scale")
    rng = np.random.default_rng(seed)
    largest = float("nan")
    if scale is None:
        draws = [product] if draw is None else [draw(rng) for _ in range(DRAWS)]
        largest = max(largest_eigenvalue(damped(drawn, lambdas), vectors, seed=seed) for drawn in draws)
        scale = margin * largest
    if not scale > 0:
        raise WhenceError("G + lambda is zero: expected a positive damping, or a model whose outputs move")
    r = [v.clone() for v in vectors]
    for _ in track(range(iterations), "neumann series", iterations):
        step_of = damped(draw(rng) if draw else product, lambdas)
        for kept, step, v in zip(r, step_of(r), vectors, strict=True):
            kept.add_(v).sub_(step, alpha=1 / scale)
    x = [part.div_(scale) for part in r]
    _refuse_growth(x, vectors, lambdas, scale)
    return Neumann(x, residuals(product, lambdas, x, vectors), iterations, tuple(lambdas), scale, largest)


def largest_eigenvalue(product: Product, like: Sequence[Tensor], *, iterations: int = 30, tolerance: float = 1e-2,
                       seed: int = 0) -> float:
    """The largest eigenvalue of a positive semi-definite matrix, from below: Rayleigh quotients of power iteration.

    Stops when two iterations differ by less than `tolerance` of the value, or after `iterations`. `like` gives the
    coordinates (a list of [*, P_b]).
    """
    x = random_like(like, 1, seed)
    values = [0.0]
    for _ in range(iterations):
        norm = float(dots(x, x).sqrt())
        if norm == 0:
            return 0.0
        x = [part / norm for part in x]
        y = product(x)
        values.append(float(dots(x, y)))
        x = y
        if len(values) > 3 and all(abs(b - a) < tolerance * b for a, b in pairwise(values[-3:])):
            break
    return max(values)


def _refuse_growth(x: Blockwise, vectors: Sequence[Tensor], lambdas: Sequence[float], scale: float) -> None:
    """|x| <= |v| / min(lambda) for the true solution and for every convergent partial sum."""
    size, norm = dots(x, x).sqrt(), dots(vectors, vectors).sqrt()
    finite = bool(torch.isfinite(size).all())
    least = min(lambdas)
    if not finite or (least > 0 and bool((size > 2 * norm / least).any())):
        raise WhenceError(f"the Neumann series grew instead of converging at scale={scale:.3g}: give a larger scale "
                          "(at least half the largest eigenvalue of G + lambda, also of each mini-batch)")
