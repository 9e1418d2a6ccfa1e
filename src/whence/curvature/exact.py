"""Solvers on exact Gauss-Newton products over all blocks at once, each of which reports how far it got.

EK-FAC lends them two things: the damping, lambda_b = damping x the mean eigenvalue of block b as EK-FAC measured it
(so that the same number means the same damping as for `ekfac`), and, for conjugate gradients, a preconditioner.
Curvature between blocks, which the Kronecker curvatures take to be zero, is in the products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from whence.base.errors import WhenceError
from whence.curvature.arnoldi import arnoldi
from whence.curvature.blockwise import Blockwise, Product
from whence.curvature.conjugate_gradient import conjugate_gradient
from whence.curvature.damping import Damping
from whence.curvature.fit import Situation, sample_rows
from whence.curvature.gauss_newton import GaussNewton
from whence.curvature.kronecker import Curvature
from whence.curvature.neumann import neumann
from whence.curvature.solver import Kronecker, Solution, spread
from whence.sweep.basis import flattened, homogeneous
from whence.sweep.vectors import Full


@dataclass(frozen=True)
class Exact:
    """What the three solvers share: whose products, and which damping.

    Attributes:
        damping: rule and factor, applied to the eigenvalues of EK-FAC.
        rows: training rows that G is the mean over, drawn without replacement (-1: all; 0: EK-FAC's default sample).
            A product costs about 1.4 epochs of these rows for each query.
        seed: of the rows, and of what is random in the solver.
    """

    damping: Damping = field(default_factory=Damping)
    rows: int = 0
    seed: int = 0

    def prepare(self, situation: Situation) -> tuple[GaussNewton, list[float], Kronecker, dict[str, Any]]:
        """Products, lambda of every block, the EK-FAC they come from, and the facts so far."""
        ekfac = Kronecker(Curvature("ekfac", rows=self.rows, seed=self.seed), self.damping)
        fitted = situation.fit(ekfac.curvature)
        chosen = sample_rows(situation.train, situation.blocks, ekfac.curvature)
        product = GaussNewton.of_language_model(situation.model, situation.train.select(chosen), situation.blocks,
                                                pad_id=situation.pad_id, side=situation.layout.side)
        lambdas = ekfac.lambdas(fitted)
        return product, lambdas, ekfac, {
            "curvature": "gauss-newton", "damping_rule": self.damping.rule, "effective_damping": spread(lambdas),
            "fit": {"rows": len(chosen), "n": len(situation.train), "seed": self.seed}}


@dataclass(frozen=True)
class ConjugateGradients:
    """`conjugate_gradient` with EK-FAC's damped inverse as preconditioner."""

    exact: Exact
    iterations: int = 20
    tolerance: float = 1e-2

    def solve(self, gradients: Sequence[Float[Tensor, "Q _"]], situation: Situation) -> Solution:
        """x, with the true relative residual of each query."""
        product, lambdas, ekfac, facts = self.exact.prepare(situation)
        found = conjugate_gradient(product.product, gradients, lambdas, tolerance=self.tolerance,
                                   iterations=self.iterations, preconditioner=damped_inverse(situation, ekfac))
        return _solution(found.x, situation, {**facts, "residual": _quantiles(found.residual),
                                              "iterations": int(found.iterations.max()),
                                              "converged": int(found.converged.sum())})


@dataclass(frozen=True)
class NeumannSeries:
    """`neumann` at a scale at which it converges."""

    exact: Exact
    iterations: int = 50

    def solve(self, gradients: Sequence[Float[Tensor, "Q _"]], situation: Situation) -> Solution:
        """x, with the true relative residual of each query."""
        product, lambdas, _, facts = self.exact.prepare(situation)
        found = neumann(product.product, gradients, lambdas, iterations=self.iterations, seed=self.exact.seed)
        return _solution(found.x, situation, {**facts, "residual": _quantiles(found.residual), "scale": found.scale,
                                              "iterations": found.iterations})


@dataclass(frozen=True)
class ArnoldiSubspace:
    """`arnoldi`: one Krylov space for all queries."""

    exact: Exact
    iterations: int = 100
    rank: int = 50
    outside: str = "drop"

    def __post_init__(self) -> None:
        if self.outside not in ("drop", "damp"):
            raise WhenceError(f"outside={self.outside}: expected drop or damp")

    def solve(self, gradients: Sequence[Float[Tensor, "Q _"]], situation: Situation) -> Solution:
        """x, with the true relative residual of each query and the share of it that the subspace holds."""
        product, lambdas, _, facts = self.exact.prepare(situation)
        space = arnoldi(product.product, gradients, iterations=self.iterations, rank=self.rank, seed=self.exact.seed)
        found = space.solve(gradients, lambdas, "drop" if self.outside == "drop" else "damp")
        return _solution(found.x, situation, {**facts, "residual": _quantiles(found.residual),
                                              "captured": _quantiles(found.captured), "iterations": found.iterations,
                                              "largest_eigenvalue": float(found.eigenvalues[0])})


def damped_inverse(situation: Situation, kronecker: Kronecker) -> Product:
    """`r -> (C + Lambda)^-1 r` of a Kronecker curvature, which leaves r as it was: a preconditioner."""
    fitted = situation.fit(kronecker.curvature)
    lambdas = kronecker.lambdas(fitted)

    def apply(r: Blockwise) -> Blockwise:
        return [flattened(curved.solve(homogeneous(part, block.outputs, block.inputs, block.bias), lam), block.bias)
                for block, curved, lam, part in zip(situation.blocks, fitted.blocks, lambdas, r, strict=True)]

    return apply


def _solution(x: Sequence[Tensor], situation: Situation, facts: dict[str, Any]) -> Solution:
    vectors = tuple(Full(part, block.outputs, block.inputs) for part, block in zip(x, situation.blocks, strict=True))
    return Solution(vectors, facts)


def _quantiles(values: np.ndarray) -> dict[str, float]:
    return {"min": float(values.min()), "median": float(np.median(values)), "max": float(values.max())}
