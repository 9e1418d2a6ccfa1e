"""Arnoldi against dense eigendecompositions and solves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import tiny
from tests.curvature import dense
from whence.base.errors import WhenceError
from whence.curvature.arnoldi import arnoldi
from whence.curvature.gauss_newton import GaussNewton
from whence.models.blocks import select_blocks

SIZES = [30, 20, 10]
G = dense.spd(60)
PRODUCT = dense.product_of(G, SIZES)


@pytest.mark.parametrize("damping", [1e-2, [1e-2, 0.3, 2.0]])
@pytest.mark.parametrize("outside", ["drop", "damp"])
def test_with_every_dimension_it_is_the_dense_solve(damping: float | list[float], outside: str) -> None:
    v = dense.vectors(SIZES, 3)
    space = arnoldi(PRODUCT, v, iterations=60)
    found = space.solve(v, damping, outside=outside)  # type: ignore[arg-type]
    torch.testing.assert_close(torch.cat(found.x, dim=1), dense.solve(G, v, damping), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(found.captured, 1, rtol=1e-10)
    assert found.residual.max() < 1e-8 and space.errors.max() < 1e-9
    np.testing.assert_allclose(space.eigenvalues, torch.linalg.eigvalsh(G).flip(0), rtol=1e-8, atol=1e-12)
    assert len(found.damping) == 3 and found.iterations == 60 and found.outside == outside


def test_goes_on_where_the_krylov_space_ends() -> None:
    low = dense.spd(60, rank=7)  # 8 distinct eigenvalues: every Krylov space ends after 8 steps
    v = dense.vectors(SIZES, 2)
    space = arnoldi(dense.product_of(low, SIZES), v, iterations=60)
    W = torch.cat(space.vectors, dim=1)
    torch.testing.assert_close(W @ W.T, torch.eye(60, dtype=torch.float64), rtol=0, atol=1e-10)
    torch.testing.assert_close(torch.cat(space.solve(v, 0.1).x, dim=1), dense.solve(low, v, 0.1))
    zero = arnoldi(lambda x: [torch.zeros_like(part) for part in x], v, iterations=3)
    assert not zero.eigenvalues.any()


def test_leading_pairs_of_a_short_run() -> None:
    v = dense.vectors(SIZES, 2)
    space = arnoldi(PRODUCT, v, iterations=25, rank=5)
    values, U = torch.linalg.eigh(G)
    np.testing.assert_allclose(space.eigenvalues, values.flip(0)[:5], rtol=1e-4)
    W = torch.cat(space.vectors, dim=1)
    assert float((W @ U.flip(1)[:, :5]).diagonal().abs().min()) > 0.99
    true_errors = (W @ G - torch.from_numpy(space.eigenvalues)[:, None] * W).norm(dim=1)
    np.testing.assert_allclose(space.errors, true_errors, rtol=1e-6, atol=1e-12)


def test_what_is_outside_the_subspace() -> None:
    v, damping = dense.vectors(SIZES, 3), [0.05, 0.2, 1.0]
    space = arnoldi(PRODUCT, v, iterations=20, rank=6)
    W, whole = torch.cat(space.vectors, dim=1), torch.cat(v, dim=1)
    Lambda = torch.diag(torch.cat([torch.full((s,), lam, dtype=torch.float64) for s, lam in zip(SIZES, damping,
                                                                                               strict=True)]))
    mu = torch.diag(torch.from_numpy(space.eigenvalues))
    drop, damp = space.solve(v, damping), space.solve(v, damping, outside="damp")
    expected = torch.linalg.solve(mu + W @ Lambda @ W.T, W @ whole.T).T @ W
    torch.testing.assert_close(torch.cat(drop.x, dim=1), expected)
    torch.testing.assert_close(torch.cat(damp.x, dim=1), torch.linalg.solve(W.T @ mu @ W + Lambda, whole.T).T)
    captured = (whole @ W.T).square().sum(dim=1) / whole.square().sum(dim=1)
    np.testing.assert_allclose(drop.captured, captured, rtol=1e-10)
    assert drop.captured.max() < 0.5
    for found in (drop, damp):
        missing = torch.cat(found.x, dim=1) @ (G + Lambda) - whole
        np.testing.assert_allclose(found.residual, missing.norm(dim=1) / whole.norm(dim=1), rtol=1e-8)
    inside = (torch.ones(2, 6, dtype=torch.float64) @ W).split(SIZES, dim=1)
    np.testing.assert_allclose(space.solve(list(inside), 1.0).captured, 1, rtol=1e-10)
    scalar = space.solve(v, 0.1)
    paper = (whole @ W.T) / torch.from_numpy(space.eigenvalues + 0.1) @ W
    torch.testing.assert_close(torch.cat(scalar.x, dim=1), paper)
    assert (scalar.residual >= np.sqrt(1 - scalar.captured) * 0.99).all()


def test_on_a_language_models_own_products_seeded_and_in_float32() -> None:
    model, data = tiny.lora().float(), tiny.examples(2, longest=6)
    blocks = select_blocks(model, ["*layers.1.self_attn.q_proj*"])
    sizes = [block.parameters for block in blocks]
    curvature = GaussNewton.of_language_model(model, data, blocks)
    v = dense.vectors(sizes, 2, dtype=torch.float32)
    space = arnoldi(curvature.product, v, iterations=20, rank=3)
    again, other = (arnoldi(curvature.product, v, iterations=20, rank=3, seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(space.eigenvalues, again.eigenvalues)
    assert not np.array_equal(space.eigenvalues, other.eigenvalues)
    wide = tiny.lora()
    whole = dense.matrix(dense.language_model(wide, select_blocks(wide, ["*layers.1.self_attn.q_proj*"]), data))
    np.testing.assert_allclose(space.eigenvalues, torch.linalg.eigvalsh(whole).flip(0)[:3], rtol=1e-3)
    assert space.solve(v, 1.0).x[0].dtype == torch.float32


def test_mistakes_are_named() -> None:
    v = dense.vectors(SIZES, 2)
    with pytest.raises(WhenceError, match=r"iterations=61, rank=61: expected 1 <= rank <= iterations <= 60"):
        arnoldi(PRODUCT, v, iterations=61)
    space = arnoldi(dense.product_of(dense.spd(60, rank=4), SIZES), v, iterations=20)
    with pytest.raises(WhenceError, match="outside='damp' with a damping of zero"):
        space.solve(v, 0.0, outside="damp")
    with pytest.raises(WhenceError, match="2 dampings for 3 blocks"):
        space.solve(v, [1.0, 2.0])
    negative = arnoldi(dense.product_of(-G, SIZES), v, iterations=20)
    with pytest.raises(WhenceError, match="singular on the subspace"):
        negative.solve(v, 0.1)
