"""Arnoldi: G on a Krylov space of few dimensions, and (G + Lambda)^-1 v there.

From a random start, k products G q with full re-orthogonalisation give an orthonormal basis Q [k, P] and the
projection T = Q G Q^T [k, k]; its eigenvectors turn Q into the Ritz vectors W [r, P] of the r largest Ritz values mu
(Schioppa, Zablotskaia, Vilar & Sokolov 2022, arXiv 2112.03052, algorithm 1; for a symmetric G this is Lanczos). Where
the Krylov space is exhausted early the basis goes on from a new random vector, so that k = P gives all of G.

Two inverses, with Lambda diagonal, one lambda_b a block:

    drop    x = W^T (diag(mu) + W Lambda W^T)^-1 W v          what is outside the subspace is lost: the paper's
    damp    x = (W^T diag(mu) W + Lambda)^-1 v                outside, G is taken to be zero: v / lambda

The paper's is a solution on the subspace and no solution of (G + Lambda) x = v: with k far below the rank of G most of
a gradient is outside (`captured` says how much), and its residual cannot be below sqrt(1 - captured). `damp` treats
every direction that was not found as if it had no curvature at all.

Cost: k products with one vector each, k^2 P for the basis. Memory: k P numbers, while it is built 2 k P.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from whence.base.errors import WhenceError
from whence.base.progress import track
from whence.curvature.blockwise import Blockwise, Product, dots, per_block, random_like, residuals

Outside = Literal["drop", "damp"]


@dataclass(frozen=True)
class Arnoldi:
    """What the subspace gave.

    Attributes:
        x: one tensor [K, P_b] a block.
        residual: |(G + Lambda) x - v| / |v| of each vector, float64 [K].
        captured: |W v|^2 / |v|^2 of each vector, float64 [K]: how much of it the subspace holds.
        eigenvalues: mu, largest first, float64 [r].
        iterations: products spent on the subspace.
        damping: lambda of each block.
        outside: "drop" or "damp".
    """

    x: Blockwise
    residual: np.ndarray
    captured: np.ndarray
    eigenvalues: np.ndarray
    iterations: int
    damping: tuple[float, ...]
    outside: str


@dataclass(frozen=True)
class Subspace:
    """The r leading Ritz pairs of G: made once, solved with as often as wanted.

    Attributes:
        product: `v -> G v`.
        eigenvalues: mu, largest first, float64 [r].
        vectors: W, orthonormal rows over all blocks, one tensor [r, P_b] a block.
        errors: |G w - mu w| of each pair, float64 [r]: an eigenvalue of G is at most that far from mu.
        iterations: k.
    """

    product: Product
    eigenvalues: np.ndarray
    vectors: Blockwise
    errors: np.ndarray
    iterations: int

    def solve(self, vectors: Sequence[Tensor], damping: float | Sequence[float],
              outside: Outside = "drop") -> Arnoldi:
        """x for every v in `vectors` (a list of [K, P_b], left as they are); one product, for the residual.

        Raises:
            WhenceError: no damping where one is needed.
        """
        lambdas = per_block(damping, len(vectors))
        if outside == "damp" and min(lambdas) == 0:
            raise WhenceError("outside='damp' with a damping of zero: expected a positive one (v / lambda outside)")
        inside = self._coordinates(vectors)
        mu = torch.from_numpy(self.eigenvalues).to(inside.device)
        x = self._drop(inside, mu, lambdas) if outside == "drop" else self._damp(vectors, mu, lambdas)
        norm = dots(vectors, vectors)
        captured = inside.square().sum(dim=1) / torch.where(norm > 0, norm, torch.ones_like(norm))
        return Arnoldi(x, residuals(self.product, lambdas, x, vectors), captured.cpu().numpy(), self.eigenvalues,
                       self.iterations, tuple(lambdas), outside)

    def _coordinates(self, vectors: Sequence[Tensor], scales: Sequence[float] | None = None) -> Float[Tensor, "K r"]:
        """`(scale_b v) W^T`, float64."""
        parts = [(v @ w.T).double() for v, w in zip(vectors, self.vectors, strict=True)]
        return torch.stack([p * s for p, s in zip(parts, scales or [1.0] * len(parts), strict=True)]).sum(dim=0)

    def _expand(self, coordinates: Float[Tensor, "K r"]) -> Blockwise:
        return [coordinates.to(w.dtype) @ w for w in self.vectors]

    def _drop(self, inside: Tensor, mu: Tensor, lambdas: Sequence[float]) -> Blockwise:
        matrix = torch.diag(mu) + self._coordinates(self.vectors, lambdas)
        if float(torch.linalg.eigvalsh(matrix)[0]) <= 0:
            raise WhenceError("G + lambda is singular on the subspace: expected a positive damping, or a smaller rank")
        return self._expand(torch.linalg.solve(matrix, inside.T).T)

    def _damp(self, vectors: Sequence[Tensor], mu: Tensor, lambdas: Sequence[float]) -> Blockwise:
        """Woodbury: `D v - D W^T (I + M W D W^T)^-1 M W D v` with D = Lambda^-1 and M = diag(mu)."""
        inverse = [1 / lam for lam in lambdas]
        cross = self._coordinates(self.vectors, inverse)  # W D W^T
        matrix = torch.eye(len(mu), dtype=mu.dtype, device=mu.device) + mu[:, None] * cross
        inner = torch.linalg.solve(matrix, (self._coordinates(vectors, inverse) * mu).T).T
        return [(v - part) * d for v, part, d in zip(vectors, self._expand(inner), inverse, strict=True)]


def arnoldi(product: Product, like: Sequence[Tensor], *, iterations: int = 100, rank: int | None = None,
            seed: int = 0) -> Subspace:
    """The leading eigenpairs of G from `iterations` products.

    Args:
        product: `v -> G v`, symmetric.
        like: gives the coordinates (a list of [*, P_b]), data type and device; the query gradients, say.
        iterations: k, at most the number of coordinates.
        rank: r, how many pairs are kept; default all k. The paper keeps half or fewer: the smallest Ritz values of a
            Krylov space have not converged.
        seed: of the random start.

    Raises:
        WhenceError: a number out of range.
    """
    sizes = [v.shape[1] for v in like]
    rank = iterations if rank is None else rank
    if not 1 <= rank <= iterations <= sum(sizes):
        raise WhenceError(f"iterations={iterations}, rank={rank}: expected 1 <= rank <= iterations <= {sum(sizes)}, "
                          "the number of coordinates")
    flat = torch.cat(random_like(like, 1, seed), dim=1)[0]
    basis = torch.empty(iterations, len(flat), dtype=flat.dtype, device=flat.device)
    images = torch.empty_like(basis)
    basis[0] = flat / flat.norm()
    largest = 0.0
    for k in track(range(iterations), "arnoldi", iterations):
        images[k] = torch.cat(product(list(basis[k : k + 1].split(sizes, dim=1))), dim=1)[0]
        if k + 1 < iterations:
            largest = max(largest, float(images[k].norm()))
            basis[k + 1] = _next(images[k], basis[: k + 1], largest, like, seed + k + 1)
    T = (basis @ images.T).double()
    mu, U = torch.linalg.eigh((T + T.T) / 2)
    mu, U = mu.flip(0)[:rank], U.flip(1)[:, :rank]
    W = U.T.to(basis.dtype) @ basis
    errors = (U.T.to(basis.dtype) @ images - mu.to(basis.dtype)[:, None] * W).norm(dim=1)
    return Subspace(product, mu.cpu().numpy(), list(W.split(sizes, dim=1)), errors.double().cpu().numpy(), iterations)


def _next(image: Tensor, basis: Tensor, largest: float, like: Sequence[Tensor], seed: int) -> Tensor:
    """What of `image` is orthogonal to the basis, as a unit vector; a random one where nothing but rounding is left."""
    new = _orthogonal(image, basis)
    norm = float(new.norm())
    if norm <= 100 * torch.finfo(image.dtype).eps * largest:
        new = _orthogonal(torch.cat(random_like(like, 1, seed), dim=1)[0], basis)
        norm = float(new.norm())
    new = _orthogonal(new / norm, basis)
    return new / new.norm()


def _orthogonal(vector: Tensor, basis: Tensor) -> Tensor:
    """Gram-Schmidt, twice: once leaves rounding as large as what it took away."""
    for _ in range(2):
        vector = vector - (basis @ vector) @ basis
    return vector
