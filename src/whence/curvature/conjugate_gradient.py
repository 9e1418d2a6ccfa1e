"""Conjugate gradients: (G + Lambda) x = v for many v at once, each with steps of its own.

Lambda is diagonal, one lambda_b a block. With a preconditioner M^-1 (EK-FAC's damped inverse, say), for every vector

    r = v,  z = M^-1 r,  p = z
    alpha = <r, z> / <p, (G + Lambda) p>        x += alpha p        r -= alpha (G + Lambda) p
    z = M^-1 r                                  p <- z + (<r, z> / <r, z>_before) p

until |r| <= tolerance |v|. Vectors that are done take no part in later products. The error in the norm of
G + Lambda falls by (sqrt(c) - 1) / (sqrt(c) + 1) an iteration, c the condition number (of M^-1 (G + Lambda)).

Hestenes & Stiefel 1952; Martens 2010 for Gauss-Newton matrices. Cost: one product an iteration and vector, one more
for the residual that is reported, which is computed anew from x and not carried along; four copies of the vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from whence.base.errors import WhenceError
from whence.base.progress import track
from whence.curvature.blockwise import Blockwise, Product, add_, damped, dots, per_block, residuals


@dataclass(frozen=True)
class ConjugateGradient:
    """What conjugate gradients found.

    Attributes:
        x: one tensor [K, P_b] a block.
        residual: |(G + Lambda) x - v| / |v| of each vector, float64 [K], computed anew from x.
        iterations: products spent on each vector, int [K].
        converged: whether that residual is at most the tolerance, bool [K].
        damping: lambda of each block.
    """

    x: Blockwise
    residual: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray
    damping: tuple[float, ...]


def conjugate_gradient(product: Product, vectors: Sequence[Tensor], damping: float | Sequence[float], *,
                       tolerance: float = 1e-4, iterations: int = 100,
                       preconditioner: Product | None = None) -> ConjugateGradient:
    """Solve `(G + Lambda) x = v` for every v in `vectors` (a list of [K, P_b], left as they are).

    Args:
        product: `v -> G v`, symmetric and positive semi-definite (`GaussNewton.product`).
        vectors: right-hand sides.
        damping: one lambda, or one for each block.
        tolerance: of the relative residual, at which a vector is done. Rounding sets a floor, for products in
            float32 about 1e-6 times the condition number's root.
        iterations: at most so many products.
        preconditioner: `r -> M^-1 r`, symmetric and positive definite; must not change its argument.

    Raises:
        WhenceError: no or negative damping, tolerance or number of iterations out of range; a direction p with
            <p, (G + Lambda) p> <= 0 (product or preconditioner are not what they should be).
    """
    lambdas = per_block(damping, len(vectors))
    if not tolerance > 0 or iterations < 1:
        raise WhenceError(f"tolerance={tolerance}, iterations={iterations}: expected a positive tolerance and at "
                          "least one iteration")
    apply, precondition = damped(product, lambdas), preconditioner or (lambda r: r)
    x = [torch.zeros_like(v) for v in vectors]
    spent = torch.zeros(len(x[0]), dtype=torch.long, device=x[0].device)
    goal = tolerance * dots(vectors, vectors).sqrt()
    active = torch.nonzero(goal > 0).flatten()  # a zero vector is solved by zero
    r = [v[active] for v in vectors]
    z = precondition(r)
    p, rz = [part.clone() for part in z], dots(r, z)
    for _ in track(range(iterations), "conjugate gradients", iterations):
        if len(active) == 0:
            break
        Gp = apply(p)
        curved = dots(p, Gp)
        _refuse_indefinite(curved, rz)
        alpha = rz / curved
        for whole, part in zip(x, p, strict=True):
            whole.index_add_(0, active, alpha.to(part.dtype)[:, None] * part)
        add_(r, -alpha, Gp)
        spent[active] += 1
        going = dots(r, r).sqrt() > goal[active]
        if not bool(going.all()):
            active, rz = active[going], rz[going]
            r, p = [part[going] for part in r], [part[going] for part in p]
            if len(active) == 0:
                break
        z = precondition(r)
        before, rz = rz, dots(r, z)
        beta = rz / before
        p = [b.addcmul(beta.to(b.dtype)[:, None], a) for a, b in zip(p, z, strict=True)]
    residual = residuals(product, lambdas, x, vectors)
    return ConjugateGradient(x, residual, spent.cpu().numpy(), residual <= tolerance, tuple(lambdas))


def _refuse_indefinite(curved: Tensor, rz: Tensor) -> None:
    if not bool(((curved > 0) & (rz > 0)).all()):
        raise WhenceError(f"conjugate gradients met <p, (G + lambda) p> = {float(curved.min()):.3g} and <r, M^-1 r> = "
                          f"{float(rz.min()):.3g}: both must be positive; expected a positive damping, and a product "
                          "and a preconditioner that are positive definite")
