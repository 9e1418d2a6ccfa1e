"""The response functions and their gaps: closed forms on convex problems, signs and sizes elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import tiny
from whence.base.errors import WhenceError
from whence.truth.gaps import GAPS, NAMES, five_gaps
from whence.truth.output_loss import CrossEntropy, OutputLoss, SquaredError
from whence.truth.responses import Problem, Responses, flat_weights

N, FEATURES, DECAY, DAMPING = 30, 4, 0.05, 0.02
REMOVED = [[3], [7, 11], [20]]


def linear_problem(loss: OutputLoss, outputs: int) -> tuple[Problem, Tensor, Tensor]:
    """A linear map without bias on random rows: the problem, its inputs and labels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, FEATURES, generator=generator, dtype=torch.float64)
    if isinstance(loss, SquaredError):
        y = x @ torch.randn(FEATURES, outputs, generator=generator, dtype=torch.float64)
        y = y + 0.3 * torch.randn(N, outputs, generator=generator, dtype=torch.float64)
    else:
        y = torch.randint(outputs, (N,), generator=generator)
    model = nn.Linear(FEATURES, outputs, bias=False).double()
    return Problem.of_network(model, x, y, loss, DECAY), x, y


def fit(problem: Problem, start: Tensor, removed: Sequence[int] = (), share: float = 1.0) -> Tensor:
    """The minimum of J without some rows, from any start."""
    return Responses(problem, start, 1.0, tolerance=1e-10, share=share).warm(removed).theta


def ridge(x: Tensor, y: Tensor, weights: Tensor, more: float = 0.0, towards: Tensor | None = None) -> Tensor:
    """argmin sum_i w_i |theta x_i - y_i|^2 / 2 + decay/2 |theta|^2 + more/2 |theta - towards|^2, closed form."""
    left = (weights[:, None] * x).T @ x + (DECAY + more) * torch.eye(FEATURES, dtype=x.dtype)
    right = (weights[:, None] * x).T @ y + (0 if towards is None else more * towards.view(-1, FEATURES).T)
    return torch.linalg.solve(left, right).T.reshape(-1)


def test_ridge_leave_one_out_is_the_closed_form_and_all_gaps_but_damping_are_zero() -> None:
    problem, x, y = linear_problem(SquaredError(), 2)
    trained = fit(problem, torch.zeros(2 * FEATURES, dtype=torch.float64))
    torch.testing.assert_close(trained, ridge(x, y, problem.without([])), rtol=1e-7, atol=1e-9)
    responses = Responses(problem, trained, DAMPING, tolerance=1e-10)
    for rows in REMOVED:
        weights = problem.without(rows)
        closed = ridge(x, y, weights)
        torch.testing.assert_close(responses.warm(rows).theta, closed, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(responses.proximal(rows).theta, ridge(x, y, weights, DAMPING, trained), rtol=1e-6,
                                   atol=1e-8)
    cold = torch.full_like(trained, 3.0)
    for share in (1.0, 1e-3):  # all of a row, and so little of it that only the first order is left
        responses = Responses(problem, trained, DAMPING, tolerance=1e-12, share=share)
        found = five_gaps(responses, REMOVED, lambda rows, share=share: fit(problem, cold, rows, share),
                          problem.forward, lambda theta: problem.losses(theta).numpy(), responses.exact_inverse)
        size = found.total_output
        assert (found.output["proximity"] > 1e-3 * size).all()
        assert (found.output["linearisation"] < (1 if share == 1 else 0.02) * size).all()
        for gap in ("warm-start", "non-convergence", "solver"):
            assert (found.output[gap] < (1e-4 if share == 1 else 0.03) * size).all(), (gap, share)
    assert (found.total_output <= sum(found.output[gap] for gap in GAPS) + 1e-12).all()


def test_gaps_of_a_removed_row_vanish_with_its_weight() -> None:
    """Squared error: r3's rows are all held in place, so r3 and r4 differ by the removed rows' own curvature alone."""
    problem, x, y = linear_problem(SquaredError(), 1)
    trained = fit(problem, torch.zeros(FEATURES, dtype=torch.float64))
    responses = Responses(problem, trained, DAMPING, tolerance=1e-10)
    eps, rows = 1 / N, [3]
    G = x.T @ x / N + (DAMPING + DECAY) * torch.eye(FEATURES, dtype=x.dtype)
    g = x[3] * (x[3] @ trained - y[3, 0])
    torch.testing.assert_close(responses.linear(rows), trained + eps * torch.linalg.solve(G, g), rtol=1e-7, atol=1e-9)
    curved = G - eps * torch.outer(x[3], x[3])
    torch.testing.assert_close(responses.bregman(rows).theta, trained + eps * torch.linalg.solve(curved, g), rtol=1e-6,
                               atol=1e-9)


def test_logistic_regression_warm_and_cold_agree() -> None:
    problem, _, _ = linear_problem(CrossEntropy(), 3)
    trained = fit(problem, torch.zeros(3 * FEATURES, dtype=torch.float64))
    share = 1e-2
    responses = Responses(problem, trained, DAMPING, tolerance=1e-11, share=share)
    found = five_gaps(responses, REMOVED, lambda rows: fit(problem, torch.ones_like(trained), rows, share),
                      problem.forward, lambda theta: -problem.losses(theta).detach().numpy(), responses.exact_inverse)
    size = found.total_output
    assert (found.output["warm-start"] < 1e-3 * size).all() and (found.output["solver"] < 1e-5 * size).all()
    assert (found.output["non-convergence"] < 1e-2 * size).all()
    assert (found.output["linearisation"] < 0.03 * size).all()
    assert found.correlations()["PBRF"] > 0.99 and found.left.max() < 1e-6


def test_an_unconverged_training_shows_in_the_gap_of_that_name() -> None:
    problem, _, _ = linear_problem(CrossEntropy(), 3)
    half = 0.5 * fit(problem, torch.zeros(3 * FEATURES, dtype=torch.float64))
    responses = Responses(problem, half, DAMPING, tolerance=1e-9)
    found = five_gaps(responses, REMOVED, lambda rows: fit(problem, half, rows), problem.forward,
                      lambda theta: problem.losses(theta).detach().numpy(), responses.exact_inverse)
    assert (found.output["non-convergence"] > 3 * found.output["linearisation"]).all()
    assert responses.bregman([]).theta.equal(half)  # nothing taken out: the trained weights are the minimum
    assert set(found.changes) == set(NAMES)


def test_a_language_model_has_responses_too() -> None:
    """Its Gauss-Newton products against whence's own, and the PBRF's first order against the linear one."""
    from whence.curvature.gauss_newton import GaussNewton
    from whence.models.blocks import select_blocks

    model, train = tiny.gpt2(), tiny.examples(6)
    blocks = select_blocks(model)
    model.requires_grad_(False)
    for block in blocks:
        block.module.requires_grad_(True)
    problem = Problem.of_language_model(model, train)
    theta = flat_weights(model)
    responses = Responses(problem, theta, 0.1, tolerance=1e-7, iterations=300)
    v = torch.randn(len(theta), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    image = responses.gauss_newton(v)
    parts = [(p, p.numel()) for p in model.parameters() if p.requires_grad]
    pieces = dict(zip([id(p) for p, _ in parts], v.split([size for _, size in parts]), strict=True))

    def of_block(values: dict[int, Tensor]) -> list[Tensor]:
        return [torch.cat([values[id(b.module.weight)].view(b.inputs, b.outputs).T.reshape(-1),
                           values[id(b.module.bias)]])[None] for b in blocks]

    expected = GaussNewton.of_language_model(model, train, blocks).product(of_block(pieces))
    found = of_block(dict(zip([id(p) for p, _ in parts], image.split([size for _, size in parts]), strict=True)))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(-problem.losses(theta).detach().numpy(),
                               [float(tiny.log_prob(model, train, i).detach()) for i in range(6)], rtol=1e-9)


def test_what_cannot_be_taken_out() -> None:
    problem, _, _ = linear_problem(SquaredError(), 1)
    theta = torch.zeros(FEATURES, dtype=torch.float64)
    with pytest.raises(WhenceError, match="row 30 is not one of 30"):
        problem.without([30])
    with pytest.raises(WhenceError, match="all 30 rows"):
        problem.without(range(30))
    with pytest.raises(WhenceError, match="above 0"):
        Responses(problem, theta, 0.0)
    with pytest.raises(WhenceError, match="none of them empty"):
        five_gaps(Responses(problem, theta, 1.0), [[]], lambda rows: theta, problem.forward,
                  lambda theta: np.zeros(1), lambda v: v)
