"""Solvers on exact products, as methods: against dense float64 solves with the dense Gauss-Newton matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import tiny
from whence.curvature.damping import Damping
from whence.curvature.exact import ArnoldiSubspace, ConjugateGradients, Exact, NeumannSeries
from whence.curvature.fit import Situation
from whence.curvature.gauss_newton import GaussNewton
from whence.curvature.kronecker import Curvature
from whence.curvature.products import collect_products
from whence.curvature.solver import Kronecker, Solver
from whence.models.blocks import select_blocks

EXACT = Exact(Damping(20.0, "global"), rows=-1)  # large, so that a Neumann series gets there


@pytest.fixture(scope="module")
def here() -> Situation:
    model = tiny.lora()
    return Situation(model, tiny.examples(8), select_blocks(model, ["*layers.0.self_attn.q_proj*"]))


@pytest.fixture(scope="module")
def expected(here: Situation) -> np.ndarray:
    """V (G + Lambda)^-1 g with G built column by column."""
    names = [block.name for block in here.blocks]
    queries = tiny.examples(3, seed=5)
    V, g = (torch.cat(tiny.gradients(here.model, data, names), dim=1) for data in (queries, here.train))
    sizes = [block.parameters for block in here.blocks]
    ekfac = Kronecker(Curvature("ekfac", rows=-1), EXACT.damping)
    lambdas = torch.cat([torch.full((size,), lam, dtype=torch.float64) for size, lam in
                         zip(sizes, ekfac.lambdas(here.fit(ekfac.curvature)), strict=True)])
    product = GaussNewton.of_language_model(here.model, here.train, here.blocks).product
    G = torch.cat(product(list(torch.eye(sum(sizes), dtype=torch.float64).split(sizes, dim=1))), dim=1)
    return (V @ torch.linalg.solve(G + torch.diag(lambdas), g.T)).numpy()


@pytest.mark.parametrize("solver", [
    ConjugateGradients(EXACT, iterations=200, tolerance=1e-10), NeumannSeries(EXACT, iterations=120),
    ArnoldiSubspace(EXACT, iterations=96, rank=96, outside="drop")], ids=lambda solver: type(solver).__name__)
def test_scores_equal_a_dense_solve(solver: Solver, here: Situation, expected: np.ndarray) -> None:
    products = collect_products(here, tiny.examples(3, seed=5), [solver])[solver]
    np.testing.assert_allclose(products.total(), expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    assert products.facts["residual"]["max"] < 1e-6
    assert products.facts["effective_damping"]["min"] > 0


def test_a_solver_that_stops_early_says_so(here: Situation) -> None:
    solver = NeumannSeries(EXACT, iterations=1)
    facts = collect_products(here, tiny.examples(3, seed=5), [solver])[solver].facts
    assert facts["residual"]["median"] > 0.01
