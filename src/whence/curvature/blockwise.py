"""K vectors over the coordinates of all blocks: a list with one tensor [K, P_b] a block, and their algebra.

The layout of a block's P_b coordinates is that of `Captured.gradients`: weights row-major over [out, in], then the
bias. Dot products are taken in float64, whatever the vectors are kept in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from whence.base.errors import WhenceError

Blockwise = list[Tensor]  # [K, P_b] each
Product = Callable[[Blockwise], Blockwise]  # a linear map of each of the K vectors

COLUMNS = 1 << 16  # columns that are made float64 at once


def dots(x: Sequence[Tensor], y: Sequence[Tensor]) -> Float[Tensor, " K"]:
    """float64 `<x_k, y_k>` over all blocks."""
    total = torch.zeros(len(x[0]), dtype=torch.float64, device=x[0].device)
    for a, b in zip(x, y, strict=True):
        for start in range(0, a.shape[1], COLUMNS):
            at = slice(start, start + COLUMNS)
            total += torch.linalg.vecdot(a[:, at].double(), b[:, at].double())
    return total


def add_(x: Blockwise, scale: Float[Tensor, " K"], y: Sequence[Tensor]) -> None:
    """`x_k <- x_k + scale_k y_k` in place."""
    for a, b in zip(x, y, strict=True):
        a.addcmul_(scale.to(a.dtype)[:, None], b)


def damped(product: Product, damping: Sequence[float]) -> Product:
    """`x -> product(x) + lambda_b x`, lambda by block."""
    def apply(x: Blockwise) -> Blockwise:
        return [y.add(v, alpha=lam) for y, v, lam in zip(product(x), x, damping, strict=True)]

    return apply


def per_block(damping: float | Sequence[float], blocks: int) -> list[float]:
    """One lambda a block.

    Raises:
        WhenceError: a lambda that is negative or not finite, or not as many as blocks.
    """
    values = [float(damping)] * blocks if isinstance(damping, int | float) else [float(value) for value in damping]
    if len(values) != blocks:
        raise WhenceError(f"{len(values)} dampings for {blocks} blocks: expected one number, or one for each block")
    if bad := [value for value in values if not (np.isfinite(value) and value >= 0)]:
        raise WhenceError(f"damping={bad[0]}: expected a finite number that is not negative")
    return values


def residuals(product: Product, damping: Sequence[float], x: Blockwise, v: Sequence[Tensor]) -> np.ndarray:
    """`|(G + lambda) x - v| / |v|` for every vector, float64 [K], with one product; 0 where v is zero."""
    missing = [y.sub_(b) for y, b in zip(damped(product, damping)(x), v, strict=True)]
    size, norm = dots(missing, missing).sqrt(), dots(v, v).sqrt()
    return torch.where(norm > 0, size / norm, size).cpu().numpy()


def random_like(vectors: Sequence[Tensor], count: int, seed: int) -> Blockwise:
    """`count` standard normal vectors over the same coordinates, the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, v.shape[1], generator=generator, dtype=v.dtype).to(v.device) for v in vectors]
