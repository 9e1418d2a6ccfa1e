"""The Neumann series against dense solves, and against its own closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.curvature import dense
from whence.base.errors import WhenceError
from whence.curvature.blockwise import Product
from whence.curvature.gauss_newton import GaussNewton
from whence.curvature.neumann import largest_eigenvalue, neumann
from whence.models.blocks import list_blocks

SIZES = [12, 18]
ROOTS = list(torch.randn(24, 10, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 2)
G = dense.matrix(ROOTS)
PRODUCT = dense.product_of(G, SIZES)


def draw(rng: np.random.Generator) -> Product:
    """A mini-batch of 8 of the 24 examples."""
    return dense.product_of(dense.matrix([ROOTS[i] for i in rng.choice(24, size=8, replace=False)]), SIZES)


@pytest.mark.parametrize("damping", [0.05, [0.05, 0.3]])
def test_converges_to_the_dense_solve(damping: float | list[float]) -> None:
    v = dense.vectors(SIZES, 3)
    found = neumann(PRODUCT, v, damping, iterations=250)
    expected = dense.solve(G, v, damping)
    torch.testing.assert_close(torch.cat(found.x, dim=1), expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))
    assert found.residual.max() < 1e-6 and found.iterations == 250
    lambdas = [damping] * 2 if isinstance(damping, float) else damping
    added = torch.cat([torch.full((size,), lam, dtype=G.dtype) for size, lam in zip(SIZES, lambdas, strict=True)])
    largest = float(torch.linalg.eigvalsh(G + torch.diag(added))[-1])
    assert 0.9 * largest < found.largest <= largest * (1 + 1e-9) and found.scale == pytest.approx(1.1 * found.largest)
    assert found.damping == tuple(lambdas)


def test_a_truncated_series_is_its_closed_form() -> None:
    v, scale = dense.vectors(SIZES, 2), 20.0
    kept = [part.clone() for part in v]
    found = neumann(PRODUCT, v, 0.1, iterations=7, scale=scale)
    assert all(torch.equal(a, b) for a, b in zip(v, kept, strict=True))
    mu, U = torch.linalg.eigh(G)
    left = (1 - (mu + 0.1) / scale) ** 8
    whole = torch.cat(v, dim=1)
    torch.testing.assert_close(torch.cat(found.x, dim=1), whole @ (U * (1 - left) / (mu + 0.1)) @ U.T)
    np.testing.assert_allclose(found.residual, (whole @ (U * left)).norm(dim=1) / whole.norm(dim=1), rtol=1e-8)
    assert np.isnan(found.largest)


def test_on_a_networks_own_products_and_mini_batches() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
        x = 2 * torch.randn(12, 3, dtype=torch.float64)
    blocks = list_blocks(model)
    curvature = GaussNewton(model, blocks, lambda rows: model(x[rows]), np.arange(12))
    v = dense.vectors([block.parameters for block in blocks], 2)
    whole = dense.matrix(dense.square_roots(model, blocks, [(x[i : i + 1], slice(None)) for i in range(12)]))
    found = neumann(curvature.product, v, 1.0, iterations=40)
    torch.testing.assert_close(torch.cat(found.x, dim=1), dense.solve(whole, v, 1.0), rtol=1e-6, atol=1e-6)
    rough = neumann(curvature.product, v, 1.0, iterations=20, draw=curvature.mini_batches(6))
    assert 1e-3 < rough.residual.max() < 0.5 and rough.scale > 1


def test_mini_batches_are_seeded_and_unbiased() -> None:
    v = dense.vectors(SIZES, 2)
    expected = dense.solve(G, v, 0.5)

    def run(seed: int) -> torch.Tensor:
        return torch.cat(neumann(PRODUCT, v, 0.5, iterations=120, draw=draw, scale=12.0, seed=seed).x, dim=1)

    def error(x: torch.Tensor) -> float:
        return float((x - expected).norm() / expected.norm())

    runs = [run(seed) for seed in range(6)]
    assert torch.equal(runs[0], run(0)) and not torch.equal(runs[0], runs[1])
    typical = float(np.mean([error(x) for x in runs]))
    assert 1e-3 < typical < 0.3 < error(torch.cat(v, dim=1) / 0.5)
    assert error(torch.stack(runs).mean(dim=0)) < 0.6 * typical  # noise averages out


def test_the_scale_of_mini_batches_is_theirs() -> None:
    v = dense.vectors(SIZES, 1)
    found = neumann(PRODUCT, v, 0.2, iterations=5, draw=draw)
    assert found.largest > float(torch.linalg.eigvalsh(G)[-1]) + 0.2  # a mini-batch reaches further than the mean


def test_largest_eigenvalue_comes_from_below() -> None:
    wide = dense.spd(60, largest=7.0)
    like = dense.vectors([20, 40], 1)
    found = largest_eigenvalue(dense.product_of(wide, [20, 40]), like, iterations=200, tolerance=1e-6)
    assert 7.0 * (1 - 1e-3) < found <= 7.0 + 1e-9
    assert largest_eigenvalue(lambda x: [torch.zeros_like(part) for part in x], like) == 0


def test_mistakes_are_named() -> None:
    v = dense.vectors(SIZES, 2)
    with pytest.raises(WhenceError, match=r"grew instead of converging at scale=0\.1"):
        neumann(PRODUCT, v, 0.05, iterations=40, scale=0.1)
    with pytest.raises(WhenceError, match=r"scale=0\.0: expected iterations from 0"):
        neumann(PRODUCT, v, 0.05, scale=0.0)
    with pytest.raises(WhenceError, match="is zero"):
        neumann(lambda x: [torch.zeros_like(part) for part in x], v, 0.0)
