"""Vectors as (alpha, b), their errors and the facts of the spectrum: against vectors and matrices formed whole."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from whence.base.errors import WhenceError
from whence.curvature.datainf import datainf_product
from whence.curvature.gram import Gram
from whence.curvature.gram_vectors import (
    GramVector,
    SolverErrors,
    datainf_vector,
    exact_vector,
    identity_vector,
    lissa_published_vector,
    lissa_vector,
    over_blocks,
    solver_errors,
    spectrum_facts,
)
from whence.curvature.lissa import convergent_scale, corrected_filter, published_filter

N, Q = 12, 5
SIZES = [30, 7]  # more and fewer coordinates than rows
FACTORS = [1e-3, 0.1, 1.0, 100.0]
ITERATIONS = 9


def _made(columns: int, seed: int = 0, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray, Gram]:
    rng = np.random.default_rng(seed)
    G = rng.normal(size=(N, columns)) * rng.lognormal(sigma=1.0, size=(N, 1)) * scale
    V = rng.normal(size=(Q, columns))
    return G, V, Gram(f"block {seed}", columns, G @ G.T, V @ G.T, (V**2).sum(axis=1))


def _loop(G: np.ndarray, V: np.ndarray, damping: float, scale: float) -> np.ndarray:
    """LiSSA on whole vectors, [Q, P]; `damping` with the sign it has in the recursion."""
    fisher, r = G.T @ G / N, V.copy()
    for _ in range(ITERATIONS):
        r = V + r - (r @ fisher + damping * r) / scale
    return r


def _dense(name: str, G: np.ndarray, V: np.ndarray, damping: float) -> np.ndarray:
    """x [Q, P] the way each solver is written down."""
    fisher, one = G.T @ G / N, np.eye(G.shape[1])
    if name == "exact":
        return np.linalg.solve(fisher + damping * one, V.T).T
    if name == "identity":
        return V / damping
    if name == "datainf":
        return V @ np.mean([np.linalg.inv(np.outer(g, g) + damping * one) for g in G], axis=0)
    if name == "lissa":
        scale = float(np.linalg.eigvalsh(fisher)[-1]) + damping
        return _loop(G, V, damping, scale) / scale
    return _loop(G, V, -damping, 1e3)


SOLVERS: dict[str, Callable[[Gram, float], GramVector]] = {
    "exact": exact_vector, "identity": identity_vector, "datainf": datainf_vector,
    "lissa": lambda gram, damping: lissa_vector(gram, damping, ITERATIONS),
    "lissa-published": lambda gram, damping: lissa_published_vector(gram, damping, ITERATIONS)}


def _close(ours: np.ndarray, expected: np.ndarray, error: float = 1e-9) -> None:
    np.testing.assert_allclose(ours, expected, atol=error * np.abs(expected).max(), rtol=error)


@pytest.mark.parametrize("columns", SIZES)
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_is_the_vector_written_down(name: str, factor: float, columns: int) -> None:
    G, V, gram = _made(columns)
    damping = gram.damping(factor)
    ours, x = SOLVERS[name](gram, damping), _dense(name, G, V, damping)
    _close(ours.alpha[:, None] * V + ours.b @ G, x)
    _close(ours.scores(gram), x @ G.T)
    _close(ours.squared_norm(gram), (x**2).sum(axis=1))
    other, y = SOLVERS["datainf"](gram, damping), _dense("datainf", G, V, damping)
    _close(ours.dot(other, gram), (x * y).sum(axis=1))
    _close(ours.dot(other, gram), other.dot(ours, gram))


@pytest.mark.parametrize("columns", SIZES)
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("name", SOLVERS)
def test_errors_are_those_of_the_vectors(name: str, factor: float, columns: int) -> None:
    G, V, gram = _made(columns)
    damping = gram.damping(factor)
    errors = solver_errors(gram, SOLVERS[name](gram, damping), exact_vector(gram, damping))
    x, truth = _dense(name, G, V, damping), _dense("exact", G, V, damping)
    size = np.linalg.norm(truth, axis=1)
    cosine = (x * truth).sum(axis=1) / size / np.linalg.norm(x, axis=1)
    best = (x * truth).sum(axis=1) / (x**2).sum(axis=1)  # the scale that least squares finds
    np.testing.assert_allclose(errors.relative, np.linalg.norm(x - truth, axis=1) / size, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(errors.cosine, cosine, rtol=1e-10)
    expected = np.linalg.norm(best[:, None] * x - truth, axis=1) / size
    np.testing.assert_allclose(errors.best_scale, expected, rtol=1e-6, atol=1e-7)
    if name == "exact":
        assert (errors.relative == 0).all() and (errors.best_scale == 0).all()
    else:
        assert (errors.best_scale <= errors.relative + 1e-12).all()
        assert (errors.relative > 1e-4).all() or (name, factor) == ("lissa", 100.0)  # which has converged


@pytest.mark.parametrize("columns", SIZES)
def test_the_formulas_of_the_text_hold(columns: int) -> None:
    """Woodbury with a solve; `alpha^2 |v|^2 + 2 alpha b . K_v + b K b^T`; products as the closed forms give them."""
    _, _, gram = _made(columns)
    damping = gram.damping(1.0)
    exact = exact_vector(gram, damping)
    _close(exact.b @ gram.train, -np.linalg.solve(N * damping * np.eye(N) + gram.train, gram.cross.T).T @ gram.train
           / damping)
    for name, make in SOLVERS.items():
        x = make(gram, damping)
        literal = (x.alpha**2 * gram.query_norms + 2 * x.alpha * (x.b * gram.cross).sum(axis=1)
                   + ((x.b @ gram.train) * x.b).sum(axis=1))
        np.testing.assert_allclose(x.squared_norm(gram), literal, rtol=1e-9, err_msg=name)
    scale = convergent_scale(gram, damping)
    _close(exact.scores(gram), gram.apply(lambda mu: 1 / (mu + damping)))
    _close(datainf_vector(gram, damping).scores(gram), datainf_product(gram, damping))
    for t in (0, 1, 30, 3000):
        _close(lissa_vector(gram, damping, t).scores(gram),
               gram.apply(lambda mu, t=t: corrected_filter(mu, damping, t, scale)))
    published = gram.apply(lambda mu: published_filter(mu, damping, 3))
    _close(lissa_published_vector(gram, damping, 3).scores(gram), published)


def test_differences_are_componentwise() -> None:
    G, V, gram = _made(30)
    x, y = exact_vector(gram, 0.5), datainf_vector(gram, 0.5)
    expected = _dense("exact", G, V, 0.5) - _dense("datainf", G, V, 0.5)
    difference = x - y
    assert (difference.alpha == 0).all()
    _close(difference.b @ G, expected)
    np.testing.assert_allclose(difference.squared_norm(gram), (expected**2).sum(axis=1), rtol=1e-9)


@pytest.mark.parametrize("factor", [1e-8, 1e-5])
def test_norms_do_not_cancel_where_eigenvalues_are_far_above_the_damping(factor: float) -> None:
    """Fewer coordinates than rows: v lies wholly in the span, where the textbook form loses every digit."""
    G, V, gram = _made(7)
    damping = gram.damping(factor)
    x, truth = exact_vector(gram, damping), _dense("exact", G, V, damping)
    np.testing.assert_allclose(x.squared_norm(gram), (truth**2).sum(axis=1), rtol=1e-6)
    literal = (x.alpha**2 * gram.query_norms + 2 * x.alpha * (x.b * gram.cross).sum(axis=1)
               + ((x.b @ gram.train) * x.b).sum(axis=1))
    if factor == 1e-8:
        assert np.abs(literal / (truth**2).sum(axis=1) - 1).max() > 1e-2


def test_eigenvalues_too_small_for_a_coordinate_count_too() -> None:
    """Six directions of size 1, six of 1e-5, at a damping near the smaller ones: x lies in these and beside them."""
    rng = np.random.default_rng(3)
    left, right = (np.linalg.qr(rng.normal(size=(size, size)))[0] for size in (N, 30))
    singular = np.repeat([1.0, 1e-5], 6) * rng.uniform(1, 2, size=N)
    G, V = (left * singular) @ right[:N], rng.normal(size=(Q, 30))
    gram, damping = Gram("weak", 30, G @ G.T, V @ G.T, (V**2).sum(axis=1)), 1e-10 / N
    w = V @ right.T  # coordinates of v on the eigenvectors of F, whose eigenvalues are known
    mu = np.append(singular**2 / N, np.zeros(30 - N))
    truth, datainf = w / (mu + damping), w - (V @ G.T / (damping + (G**2).sum(axis=1)) / N) @ G @ right.T
    datainf /= damping
    x, y = exact_vector(gram, damping), datainf_vector(gram, damping)
    np.testing.assert_allclose(x.squared_norm(gram), (truth**2).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(x.dot(y, gram), (truth * datainf).sum(axis=1), rtol=1e-5)
    half = GramVector(y.alpha / 2, y.b / 2 + x.b)  # another alpha than that of x
    np.testing.assert_allclose(x.dot(half, gram), (truth * (datainf / 2 + truth - w / damping)).sum(axis=1), rtol=1e-5)
    errors = solver_errors(gram, identity_vector(gram, damping), x)
    expected = np.linalg.norm(w / damping - truth, axis=1) / np.linalg.norm(truth, axis=1)
    np.testing.assert_allclose(errors.relative, expected, rtol=1e-5)
    assert expected.min() > 0.1


@pytest.mark.parametrize("factor", [1e-3, 0.1])
def test_rows_that_occur_twice_in_gram_matrices_made_in_float32(factor: float) -> None:
    """Eigenvalues that are rounding alone do not spoil an error: right to 1e-6, from products right to 1e-7."""
    rng = np.random.default_rng(4)
    G, V = (rng.normal(size=(rows, 30)).astype(np.float32) for rows in (N, Q))
    G[6:] = G[:6] * 2
    gram = Gram("float32", 30, *(a.astype(float) for a in (G @ G.T, V @ G.T, (V**2).sum(axis=1))))
    _check_datainf(G.astype(float), V.astype(float), gram, gram.damping(factor), error=1e-6)


def test_eigenvalues_beyond_the_number_of_coordinates_are_rounding() -> None:
    """Seven coordinates, and a K whose rounding is above the smallest eigenvalue that would be a coordinate."""
    G, V, gram = _made(7)
    noise = np.random.default_rng(5).normal(size=(N, N)) * 3e-6 * gram.largest * N
    noisy = Gram("noisy", 7, gram.train + noise + noise.T, gram.cross, gram.query_norms)
    assert np.count_nonzero(noisy.spectrum.mu > 1e-7 * noisy.largest) > 7
    assert spectrum_facts(noisy, 1.0).rank == 7
    _check_datainf(G, V, noisy, gram.damping(0.1), error=1e-3)


def _check_datainf(G: np.ndarray, V: np.ndarray, gram: Gram, damping: float, error: float) -> None:
    errors = solver_errors(gram, datainf_vector(gram, damping), exact_vector(gram, damping))
    x, truth = _dense("datainf", G, V, damping), _dense("exact", G, V, damping)
    expected = np.linalg.norm(x - truth, axis=1) / np.linalg.norm(truth, axis=1)
    np.testing.assert_allclose(errors.relative, expected, rtol=error)


def test_best_scale_is_right_for_multiples_and_for_tiny_errors() -> None:
    G, V, gram = _made(30)
    truth = exact_vector(gram, 0.5)
    for scale in (1e-9, -1.0, 4.0, 1e40):
        errors = solver_errors(gram, GramVector(truth.alpha * scale, truth.b * scale), truth)
        np.testing.assert_allclose(errors.cosine, np.sign(scale), rtol=1e-12)
        np.testing.assert_allclose(errors.relative, abs(scale - 1), rtol=1e-12)
        assert errors.best_scale.max() < 1e-7
    nudge = np.random.default_rng(1).normal(size=(Q, N))
    near = GramVector(truth.alpha, truth.b + 1e-11 * nudge)
    x_star, moved = _dense("exact", G, V, 0.5), 1e-11 * nudge @ G
    across = moved - ((moved * x_star).sum(axis=1) / (x_star**2).sum(axis=1))[:, None] * x_star
    expected = np.linalg.norm(across, axis=1) / np.linalg.norm(x_star, axis=1)
    assert expected.max() < 1e-9  # where sqrt(1 - cosine^2) is rounding alone
    np.testing.assert_allclose(solver_errors(gram, near, truth).best_scale, expected, rtol=1e-3)


@pytest.mark.parametrize("name", SOLVERS)
def test_blocks_add_up_before_they_are_divided(name: str) -> None:
    made = [_made(30, 0), _made(7, 1, scale=3.0), _made(20, 2, scale=0.1)]
    lambdas = [gram.damping(0.1) for _, _, gram in made]
    errors = [solver_errors(gram, SOLVERS[name](gram, lam), exact_vector(gram, lam))
              for (_, _, gram), lam in zip(made, lambdas, strict=True)]
    x, truth = (np.hstack([_dense(solver, G, V, lam) for (G, V, _), lam in zip(made, lambdas, strict=True)])
                for solver in (name, "exact"))
    size = np.linalg.norm(truth, axis=1)
    whole = over_blocks(errors)
    np.testing.assert_allclose(whole.relative, np.linalg.norm(x - truth, axis=1) / size, rtol=1e-8, atol=1e-10)
    cosine = (x * truth).sum(axis=1) / size / np.linalg.norm(x, axis=1)
    np.testing.assert_allclose(whole.cosine, cosine, rtol=1e-9)
    np.testing.assert_allclose(whole.best_scale, np.sqrt(np.maximum(1 - cosine**2, 0)), rtol=1e-6, atol=1e-7)
    alone = over_blocks(errors[:1])
    np.testing.assert_array_equal(alone.relative, errors[0].relative)


def test_a_query_without_a_gradient_has_no_error_and_adds_nothing() -> None:
    _, _, gram = _made(30)
    cross, norms = gram.cross.copy(), gram.query_norms.copy()
    cross[2], norms[2] = 0, 0
    silent = gram.with_queries(cross, norms)
    errors = [solver_errors(g, datainf_vector(g, 0.5), exact_vector(g, 0.5)) for g in (gram, silent)]
    for values in (errors[1].relative, errors[1].cosine, errors[1].best_scale):
        assert np.flatnonzero(np.isnan(values)).tolist() == [2]
    np.testing.assert_allclose(over_blocks(errors).relative[2], errors[0].relative[2], rtol=1e-12)


def test_a_block_of_zeros_is_solved_exactly_by_everything() -> None:
    _, V, gram = _made(30)
    zero = Gram("zero", 30, gram.train * 0, gram.cross * 0, gram.query_norms)
    for make in (identity_vector, datainf_vector):
        errors = solver_errors(zero, make(zero, 0.5), exact_vector(zero, 0.5))
        assert isinstance(errors, SolverErrors) and (errors.relative == 0).all() and (errors.cosine > 1 - 1e-12).all()
    np.testing.assert_allclose(exact_vector(zero, 0.5).squared_norm(zero), 4 * (V**2).sum(axis=1))
    facts = spectrum_facts(zero, 0.5)
    assert (facts.largest, facts.rank, facts.stable_rank, facts.effective_rank, facts.identity_error) == (0, 0, 0, 0, 0)


def test_the_corrected_series_converges_and_the_published_one_is_the_gradient() -> None:
    _, _, gram = _made(30)
    damping = gram.damping(1.0)
    exact = exact_vector(gram, damping)
    relative = [solver_errors(gram, lissa_vector(gram, damping, t), exact).relative.max() for t in (0, 10, 100, 10_000)]
    assert relative[0] > relative[1] > relative[2] > relative[3] and relative[3] < 1e-10
    small = _made(30, scale=0.03)[2]
    published, v = lissa_published_vector(small, small.damping(0.1), 3), identity_vector(small, 0.25)
    assert solver_errors(small, published, v).relative.max() < 1e-3  # 4 v


def test_a_diverged_series_is_refused_by_name() -> None:
    _, _, gram = _made(30, scale=1e3)
    assert gram.largest > 2e3
    with pytest.raises(WhenceError, match="block 0: LiSSA with scale 1000 diverged in 400 iterations"):
        lissa_published_vector(gram, 1.0, 400)
    with pytest.raises(WhenceError, match="iterations=-1"):
        lissa_vector(gram, 1.0, -1)


@pytest.mark.parametrize("columns", SIZES)
@pytest.mark.parametrize("factor", FACTORS)
def test_facts_of_the_spectrum_are_those_of_the_matrix(factor: float, columns: int) -> None:
    G, _, gram = _made(columns)
    damping, fisher, one = gram.damping(factor), G.T @ G / N, np.eye(columns)
    facts, norm = spectrum_facts(gram, damping), np.linalg.norm(fisher, 2)
    inverse = np.linalg.inv(fisher + damping * one)
    assert facts.largest == pytest.approx(norm, rel=1e-10)
    assert facts.mean == pytest.approx(np.trace(fisher) / columns, rel=1e-10)
    assert facts.ratio == pytest.approx(norm / damping, rel=1e-10)
    assert facts.stable_rank == pytest.approx((np.linalg.norm(G, "fro") / np.linalg.norm(G, 2)) ** 2, rel=1e-10)
    shares = np.linalg.svd(G)[1] ** 2 / (G**2).sum()
    assert facts.effective_rank == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-10)
    assert facts.rank == np.linalg.matrix_rank(G) == min(N, columns)
    assert facts.effective_dimension == pytest.approx(np.trace(fisher @ inverse), rel=1e-8)
    assert facts.identity_error == pytest.approx(np.linalg.norm(inverse - one / damping, 2) * damping, rel=1e-8)


def test_effective_ranks_of_known_spectra() -> None:
    flat = Gram("flat", 50, np.diag([3.0] * 4 + [0.0] * 6), np.zeros((1, 10)), np.ones(1))
    facts = spectrum_facts(flat, 0.3)  # F has four eigenvalues of 0.3
    assert facts.rank == 4 and facts.stable_rank == pytest.approx(4) and facts.effective_rank == pytest.approx(4)
    assert facts.effective_dimension == pytest.approx(2) and facts.identity_error == pytest.approx(0.5)
    assert facts.mean == pytest.approx(4 * 0.3 / 50)
    steep = Gram("steep", 50, np.diag([1.0, 1e-9, 1e-11]), np.zeros((1, 3)), np.ones(1))
    assert spectrum_facts(steep, 0.3).rank == 2
