"""Conjugate gradients against dense solves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import tiny
from tests.curvature import dense
from whence.base.errors import WhenceError
from whence.curvature.blockwise import Blockwise
from whence.curvature.conjugate_gradient import conjugate_gradient
from whence.curvature.gauss_newton import GaussNewton
from whence.models.blocks import select_blocks

SIZES = [40, 25, 35]
G = dense.spd(100)
PRODUCT = dense.product_of(G, SIZES)


def relative_error(x: Blockwise, expected: Tensor) -> float:
    return float(((torch.cat(x, dim=1) - expected).norm(dim=1) / expected.norm(dim=1)).max())


@pytest.mark.parametrize("damping", [1e-2, [1e-2, 0.5, 3.0]])
def test_equals_the_dense_solve(damping: float | list[float]) -> None:
    v = dense.vectors(SIZES, 4)
    kept = [part.clone() for part in v]
    found = conjugate_gradient(PRODUCT, v, damping, tolerance=1e-11, iterations=400)
    assert relative_error(found.x, dense.solve(G, v, damping)) < 1e-8
    assert found.converged.all() and (found.residual <= 1e-11).all()
    assert found.damping == ((damping,) * 3 if isinstance(damping, float) else tuple(damping))
    assert all(torch.equal(a, b) for a, b in zip(v, kept, strict=True))


def test_on_a_language_models_own_products() -> None:
    model, data = dense.exact(tiny.lora()), tiny.examples(2, longest=6)
    blocks = select_blocks(model)
    v = dense.vectors([block.parameters for block in blocks], 3)
    whole = dense.matrix(dense.language_model(model, blocks, data))
    damping = 0.01 * float(torch.linalg.eigvalsh(whole)[-1])
    found = conjugate_gradient(GaussNewton.of_language_model(model, data, blocks).product, v, damping, tolerance=1e-10)
    assert found.converged.all() and relative_error(found.x, dense.solve(whole, v, damping)) < 1e-8


def test_each_vector_has_its_own_steps_and_stops_by_itself() -> None:
    values, U = torch.linalg.eigh(G)
    hard = dense.vectors(SIZES, 1)
    easy = list((U[:, -1] * 5)[None].split(SIZES, dim=1))  # an eigenvector: one step
    nothing = [torch.zeros_like(part) for part in easy]
    together = [torch.cat(parts) for parts in zip(hard, easy, nothing, hard, strict=True)]
    products: list[int] = []

    def counted(x: Blockwise) -> Blockwise:
        products.append(len(x[0]))
        return PRODUCT(x)

    found = conjugate_gradient(counted, together, 0.1, tolerance=1e-8, iterations=200)
    alone = conjugate_gradient(PRODUCT, hard, 0.1, tolerance=1e-8, iterations=200)
    assert found.iterations.tolist() == [alone.iterations[0], 1, 0, alone.iterations[0]]
    assert products[:2] == [3, 2] and products[-1] == 4  # the last is the residual's
    torch.testing.assert_close(torch.cat(found.x, dim=1)[[0, 3]], torch.cat(alone.x, dim=1).expand(2, -1))
    assert found.residual[2] == 0 and not torch.cat(found.x, dim=1)[2].any()
    torch.testing.assert_close(torch.cat(found.x, dim=1)[1], 5 * U[:, -1] / (values[-1] + 0.1))


def test_a_preconditioner_saves_iterations_and_a_perfect_one_nearly_all() -> None:
    v = dense.vectors(SIZES, 3)
    blocks = torch.zeros_like(G)
    start = 0
    for size in SIZES:  # the block-diagonal part, as EK-FAC would be if it were exact
        blocks[start : start + size, start : start + size] = G[start : start + size, start : start + size]
        start += size
    strong = 0.05 * G + 0.95 * blocks  # little between the blocks
    product = dense.product_of(strong, SIZES)

    def inverse(matrix: Tensor) -> dense.Product:
        return lambda r: list(dense.solve(matrix, r, 1e-3).split(SIZES, dim=1))

    plain, better, perfect = (conjugate_gradient(product, v, 1e-3, tolerance=1e-8, iterations=500, preconditioner=p)
                              for p in (None, inverse(blocks), inverse(strong)))
    for found in (plain, better, perfect):
        assert found.converged.all() and relative_error(found.x, dense.solve(strong, v, 1e-3)) < 1e-5
    assert (better.iterations < plain.iterations / 2).all()
    assert perfect.iterations.max() <= 2
    same = conjugate_gradient(product, v, 1e-3, tolerance=1e-8, iterations=500, preconditioner=lambda r: r)
    np.testing.assert_array_equal(same.iterations, plain.iterations)


def test_the_residual_is_that_of_the_solution_it_gives() -> None:
    v = dense.vectors(SIZES, 2)
    found = conjugate_gradient(PRODUCT, v, 1e-3, tolerance=1e-12, iterations=5)
    whole = torch.cat(v, dim=1)
    missing = torch.cat(found.x, dim=1) @ (G + 1e-3 * torch.eye(100, dtype=torch.float64)) - whole
    np.testing.assert_allclose(found.residual, missing.norm(dim=1) / whole.norm(dim=1), rtol=1e-10)
    assert not found.converged.any() and found.iterations.tolist() == [5, 5]
    low = [part.float() for part in v]
    rough = conjugate_gradient(PRODUCT, low, 1e-2, tolerance=1e-9, iterations=400)  # beyond float32: it says so
    assert not rough.converged.any() and 1e-8 < rough.residual.max() < 1e-2 and rough.x[0].dtype == torch.float32


def test_mistakes_are_named() -> None:
    v = dense.vectors(SIZES, 2)
    with pytest.raises(WhenceError, match="2 dampings for 3 blocks"):
        conjugate_gradient(PRODUCT, v, [1.0, 2.0])
    with pytest.raises(WhenceError, match=r"damping=-1.0"):
        conjugate_gradient(PRODUCT, v, -1.0)
    with pytest.raises(WhenceError, match=r"tolerance=0\.0"):
        conjugate_gradient(PRODUCT, v, 1.0, tolerance=0.0)
    with pytest.raises(WhenceError, match="positive definite"):
        conjugate_gradient(dense.product_of(-G, SIZES), v, 0.0)
    with pytest.raises(WhenceError, match="positive definite"):
        conjugate_gradient(PRODUCT, v, 1.0, preconditioner=lambda r: [-part for part in r])
