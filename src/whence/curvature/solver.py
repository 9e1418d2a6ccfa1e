"""Solvers: from query gradients v to resident vectors x = (C + lambda I)^-1 v, with the facts of how it was done.

A solver is a frozen value: two equal ones are the same computation, and `repr` names it in a store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from whence.base.errors import WhenceError
from whence.curvature.damping import Damping
from whence.curvature.fit import Fitted, Situation
from whence.curvature.kronecker import BlockCurvature, Curvature
from whence.sweep.vectors import Full, LowRank, Vectors


@dataclass(frozen=True)
class Solution:
    """Vectors x, one `Vectors` a block, in the order of the situation's blocks; facts are JSON-able."""

    vectors: tuple[Vectors, ...]
    facts: dict[str, Any]


@runtime_checkable
class Solver(Protocol):
    """Anything that turns query gradients into resident vectors."""

    def solve(self, gradients: Sequence[Float[Tensor, "Q _"]], situation: Situation) -> Solution:
        """x for each v; `gradients[b]` in the layout of `Captured.gradients`, overwritten if that saves memory."""
        ...


@dataclass(frozen=True)
class Kronecker:
    """`(C + lambda_b I)^-1 v` block by block, for a curvature in a Kronecker eigenbasis.

    Attributes:
        curvature: kind, labels, sample.
        damping: rule and factor.
        rank: keep the best approximations of this rank instead of whole vectors; 0 keeps them whole.
    """

    curvature: Curvature
    damping: Damping = field(default_factory=Damping)
    rank: int = 0

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise WhenceError(f"rank={self.rank}: expected 0 (whole vectors) or more")

    def lambdas(self, fitted: Fitted) -> list[float]:
        """lambda of every block."""
        blocks = fitted.blocks
        return self.damping.of([block.mean for block in blocks], [block.largest for block in blocks],
                               [block.eigenvalues.numel() for block in blocks])

    def solve(self, gradients: Sequence[Float[Tensor, "Q _"]], situation: Situation) -> Solution:
        """Two rotations, a division and two rotations back: `2 Q (in' + out) P` multiply-adds a block."""
        return self._solved(gradients, situation, BlockCurvature.solve_each)

    def solve_rotated(self, coordinates: Sequence[Float[Tensor, "Q _"]], situation: Situation) -> Solution:
        """The same from coordinates in the bases of the curvature (`sweep.rotated.RotatedStore`): half of it."""
        return self._solved(coordinates, situation, BlockCurvature.solve_rotated)

    def _solved(self, given: Sequence[Tensor], situation: Situation,
                solve: Callable[[BlockCurvature, Tensor, bool, float], None]) -> Solution:
        fitted = situation.fit(self.curvature)
        lambdas = self.lambdas(fitted)
        vectors: list[Vectors] = []
        for block, curved, lam, V in zip(situation.blocks, fitted.blocks, lambdas, given, strict=True):
            solve(curved, V, block.bias, lam)
            vectors.append(LowRank.of(V, block.outputs, block.inputs, block.bias, self.rank) if self.rank
                           else Full(V, block.outputs, block.inputs))
        fit = {"labels": self.curvature.labels, "rows": fitted.rows, "n": len(situation.train),
               "seed": self.curvature.seed, "parts": self.curvature.parts, "draws": fitted.curvature.draws}
        dimensions = [block.effective_dimension(lam) for block, lam in zip(fitted.blocks, lambdas, strict=True)]
        return Solution(tuple(vectors), {
            "curvature": self.curvature.kind, "fit": fit, "damping_rule": self.damping.rule,
            "effective_damping": spread(lambdas),
            "effective_dimension": sum(dimensions), "rank": self.rank or "full"})


@dataclass(frozen=True)
class Identity:
    """No curvature: x = v."""

    def solve(self, gradients: Sequence[Float[Tensor, "Q _"]], situation: Situation) -> Solution:
        """The gradients as they are."""
        vectors = tuple(Full(V, block.outputs, block.inputs) for block, V in zip(situation.blocks, gradients,
                                                                                strict=True))
        return Solution(vectors, {"curvature": "identity", "effective_damping": spread([1.0])})


def spread(values: Sequence[float]) -> dict[str, float]:
    """Least, median and most over the blocks."""
    return {"min": float(np.min(values)), "median": float(np.median(values)), "max": float(np.max(values))}
