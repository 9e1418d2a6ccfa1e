"""Spectral functions of the empirical Fisher against dense float64 matrices and literal per-example loops."""

from __future__ import annotations

import numpy as np
import pytest

from whence.base.errors import WhenceError
from whence.curvature.datainf import datainf_product
from whence.curvature.gram import Gram, add_up, dampings_of
from whence.curvature.lissa import (
    PUBLISHED_SCALE,
    convergent_scale,
    corrected_filter,
    published_filter,
    relative_residual,
)

N, Q, P = 23, 5, 40


def _gradients(seed: int = 0, rows: int = N, columns: int = P) -> tuple[np.ndarray, np.ndarray, Gram]:
    rng = np.random.default_rng(seed)
    scales = rng.lognormal(sigma=1.5, size=(rows, 1))  # heavy tails, as gradients have
    G, V = rng.normal(size=(rows, columns)) * scales, rng.normal(size=(Q, columns))
    return G, V, Gram("block", columns, G @ G.T, V @ G.T, (V**2).sum(axis=1))


@pytest.mark.parametrize("columns", [12, 40])  # fewer and more parameters than rows
@pytest.mark.parametrize("factor", [1e-2, 0.1, 1.0, 100.0])
def test_exact_solve_matches_dense(columns: int, factor: float) -> None:
    G, V, gram = _gradients(columns=columns)
    fisher = G.T @ G / N
    damping = gram.damping(factor)
    assert damping == pytest.approx(factor * np.mean(np.linalg.eigvalsh(fisher)), rel=1e-10)
    dense = V @ np.linalg.solve(fisher + damping * np.eye(columns), G.T)
    ours = gram.apply(lambda mu: 1 / (mu + damping))
    np.testing.assert_allclose(ours, dense, atol=1e-8 * np.abs(dense).max())


def test_datainf_matches_literal_loop() -> None:
    G, V, gram = _gradients()
    damping = gram.damping(0.1)
    expected = np.zeros((Q, N))
    for q in range(Q):
        product = np.zeros(P)
        for g in G:
            product += (V[q] - (V[q] @ g) / (damping + g @ g) * g) / (N * damping)
        expected[q] = [product @ g for g in G]
    np.testing.assert_allclose(datainf_product(gram, damping), expected, atol=1e-6 * np.abs(expected).max())


def _lissa_loop(G: np.ndarray, v: np.ndarray, damping: float, iterations: int, scale: float) -> np.ndarray:
    r = v.copy()
    for _ in range(iterations):
        product = np.zeros(P)
        for g in G:
            product += ((g @ r) * g + damping * r) / N
        r = v + r - product / scale
    return r


@pytest.mark.parametrize("iterations", [0, 1, 3, 10, 60])
def test_corrected_lissa_matches_literal_loop_and_its_residual_is_true(iterations: int) -> None:
    G, V, gram = _gradients()
    damping = gram.damping(1.0)
    scale = convergent_scale(gram, damping)
    ours = gram.apply(lambda mu: corrected_filter(mu, damping, iterations, scale))
    states = np.array([_lissa_loop(G, v, damping, iterations, scale) / scale for v in V])
    np.testing.assert_allclose(ours, states @ G.T, atol=1e-6 * np.abs(states @ G.T).max())
    left = states @ (G.T @ G / N) + damping * states - V
    truth = np.linalg.norm(left, axis=1) / np.linalg.norm(V, axis=1)
    np.testing.assert_allclose(relative_residual(gram, damping, iterations, scale), truth, rtol=1e-6)


@pytest.mark.parametrize("iterations", [3, 10])
def test_published_lissa_matches_literal_loop(iterations: int) -> None:
    G, V, gram = _gradients()
    damping = gram.damping(0.1)
    ours = gram.apply(lambda mu: published_filter(mu, damping, iterations))
    states = np.array([_lissa_loop(G, v, -damping, iterations, PUBLISHED_SCALE) for v in V])
    np.testing.assert_allclose(ours, states @ G.T, atol=1e-6 * np.abs(ours).max())


def test_published_lissa_is_gradient_matching_where_the_fisher_is_small_and_the_corrected_one_is_not() -> None:
    G, V, gram = _gradients()
    G = G / 30
    gram = Gram("block", P, gram.train / 900, gram.cross / 30, gram.query_norms)
    assert gram.spectrum.mu[-1] < 1  # far below the scale of 1000
    damping, dot = gram.damping(0.1), V @ G.T
    published = gram.apply(lambda mu: published_filter(mu, damping, 3))
    np.testing.assert_allclose(published, 4 * dot, atol=2e-3 * np.abs(4 * dot).max())
    scale = convergent_scale(gram, damping)
    corrected = gram.apply(lambda mu: corrected_filter(mu, damping, 1000, scale))
    ratio = corrected / dot
    assert np.percentile(ratio, 90) > 1.5 * np.percentile(ratio, 10)  # no multiple of the dot product
    exact = gram.apply(lambda mu: 1 / (mu + damping))
    left = [np.abs(gram.apply(lambda mu, t=t: corrected_filter(mu, damping, t, scale)) - exact).max()
            for t in (10, 100, 10_000)]
    assert left[0] > left[1] > left[2] and left[2] < 1e-6 * np.abs(exact).max()


def test_blocks_add_up_to_the_whole_model() -> None:
    G1, V1, a = _gradients(0)
    G2, V2, b = _gradients(1)
    whole = add_up([a, b])
    G, V = np.hstack([G1, G2]), np.hstack([V1, V2])
    assert whole.parameters == 2 * P
    damping = whole.damping(0.1)
    dense = V @ np.linalg.solve(G.T @ G / N + damping * np.eye(2 * P), G.T)
    np.testing.assert_allclose(whole.apply(lambda mu: 1 / (mu + damping)), dense, atol=1e-8 * np.abs(dense).max())


def test_ridge_regression_fixes_sign_and_scale() -> None:
    """Leave-one-out of ridge regression in closed form, against `score = predicted change on adding weight 1/N`.

    Loss of row i: l_i = (y_i - x_i w)^2 / 2. Objective: (1/N) sum_i l_i + (r/2) |w|^2, whose Hessian is
    H = X^T X / N + r I. The empirical Fisher equals X^T X / N where the residuals are +-1, so rows get such
    targets; then `fisher` with lambda = r is influence with the exact Hessian. To first order leaving row j
    out changes the query's log-likelihood f = -(y - x w)^2 / 2 by -score[q, j].
    """
    rng = np.random.default_rng(3)
    n, p, ridge = 4000, 3, 0.3
    X = rng.normal(size=(n, p))
    signs = rng.choice([-1.0, 1.0], size=n)

    def fit(X: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.linalg.solve(X.T @ X + n * ridge * np.eye(p), X.T @ y)

    # Targets whose fit leaves residuals of exactly +-1: y = X w + signs with X^T signs = N r w.
    w = X.T @ signs / (n * ridge)
    y = X @ w + signs
    np.testing.assert_allclose(fit(X, y), w, rtol=1e-9)
    x_query, y_query = rng.normal(size=(Q, p)), rng.normal(size=Q)
    G = (y - X @ w)[:, None] * X  # gradient of the log-likelihood -l_i
    V = (y_query - x_query @ w)[:, None] * x_query
    gram = Gram("w", p, G @ G.T, V @ G.T, (V**2).sum(axis=1))
    scores = gram.apply(lambda mu: 1 / (mu + ridge)) / n

    def measured(w: np.ndarray) -> np.ndarray:
        return -((y_query - x_query @ w) ** 2) / 2

    chosen = np.argsort(-np.abs(G).sum(axis=1))[:30]
    for j in chosen:
        keep = np.arange(n) != j
        change = measured(fit(X[keep], y[keep])) - measured(w)
        np.testing.assert_allclose(-change, scores[:, j], atol=0.02 * np.abs(scores).max())
        assert np.corrcoef(-change, scores[:, j])[0, 1] > 0.999


def test_residual_of_a_zero_query_is_zero() -> None:
    _, _, gram = _gradients()
    silent = Gram("block", P, gram.train, gram.cross * 0, gram.query_norms * 0)
    damping = silent.damping(0.1)
    assert (relative_residual(silent, damping, 5, convergent_scale(silent, damping)) == 0).all()


@pytest.mark.parametrize("factor", [0.1, 3.0])
def test_damping_rules_are_those_of_dense_eigenvalues(factor: float) -> None:
    made = [_gradients(0, columns=12), _gradients(1, columns=40)]
    grams = [gram for _, _, gram in made]
    spectra = [np.linalg.eigvalsh(G.T @ G / N) for G, _, _ in made]
    assert dampings_of(grams, factor) == dampings_of(grams, factor, "block") == [g.damping(factor) for g in grams]
    assert dampings_of(grams, factor) == pytest.approx([factor * np.mean(mu) for mu in spectra], rel=1e-10)
    overall = factor * np.mean(np.concatenate(spectra))
    assert dampings_of(grams, factor, "global") == pytest.approx([overall, overall], rel=1e-10)
    assert dampings_of(grams, factor, "absolute") == [factor, factor]
    assert not any(gram._spectrum for gram in grams)  # none of these is worth an eigendecomposition
    assert dampings_of(grams, factor, "largest") == pytest.approx([factor * mu[-1] for mu in spectra], rel=1e-10)


def test_a_zero_block_is_refused_only_where_its_damping_would_be_zero() -> None:
    _, _, gram = _gradients()
    zero = Gram("zero", P, gram.train * 0, gram.cross * 0, gram.query_norms)
    for rule in ("block", "largest"):
        with pytest.raises(WhenceError, match="every training gradient of a block is zero"):
            dampings_of([gram, zero], 0.1, rule)
    assert dampings_of([gram, zero], 0.1, "global") == pytest.approx([gram.damping(0.1) / 2] * 2)
    assert dampings_of([gram, zero], 0.1, "absolute") == [0.1, 0.1]


def test_damping_errors() -> None:
    _, _, gram = _gradients()
    with pytest.raises(WhenceError, match="expected a positive number"):
        gram.damping(0.0)
    with pytest.raises(WhenceError, match="rule=widest: expected block, largest, global or absolute"):
        dampings_of([gram], 0.1, "widest")
