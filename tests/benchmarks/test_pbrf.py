"""The proximal Bregman response of benchmarks/pbrf, and what is predicted of it, where the answer is known."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from whence.curvature.damping import Damping

FOLDER = Path(__file__).parents[2] / "benchmarks" / "pbrf"
NAMES = ("problems", "response", "predictions", "pbrf")




@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The four modules, found by the names they have for each other."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("WHENCE_PROGRESS", "0")
    import pbrf
    import predictions
    import problems
    import response

    yield SimpleNamespace(problems=problems, response=response, predictions=predictions, pbrf=pbrf)
    for name in NAMES:
        sys.modules.pop(name, None)


def made(code: SimpleNamespace, kind: str, sizes: tuple[int, ...], n: int = 40) -> tuple:
    """A network with random weights, its loss, data, some points and one measurement."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.Tanh()]
    model = nn.Sequential(*layers[:-1]).double().requires_grad_(False)
    loss = code.problems.SquaredError() if kind == "squares" else code.problems.CrossEntropy()

    def rows(count: int) -> object:
        x = torch.randn(count, sizes[0], generator=generator, dtype=torch.float64)
        y = torch.randn(count, sizes[-1], generator=generator, dtype=torch.float64)
        return code.problems.Split(x, y if kind == "squares" else y.argmax(1))

    return model, loss, rows(n), rows(9), rows(1)


def dense(model: nn.Module, loss: object, data: object) -> Tensor:
    """The Gauss-Newton matrix [P, P] from Jacobians and Hessians by autograd, row by row."""
    names, start = zip(*model.named_parameters(), strict=True)
    sizes = [p.numel() for p in start]
    theta = parameters_to_vector(start)

    def output(theta: Tensor, x: Tensor) -> Tensor:
        weights = {name: part.view(p.shape) for name, part, p in zip(names, theta.split(sizes), start, strict=True)}
        return torch.func.functional_call(model, weights, (x[None],))[0]

    total = torch.zeros(len(theta), len(theta), dtype=theta.dtype)
    for x, y in zip(data.x, data.y, strict=True):
        J = torch.func.jacrev(output)(theta, x)
        H = torch.func.hessian(lambda z, y=y: loss.value(z[None], y[None])[0])(output(theta, x))
        total += J.T @ H @ J
    return total / len(data)


def test_objective_without_weight_leaves_the_parameters_in_place(code: SimpleNamespace) -> None:
    for kind in ("squares", "softmax"):
        model, loss, data, points, _ = made(code, kind, (4, 6, 3))
        B = code.predictions.curvature_rows(model, loss, data)
        response = code.response.Objective(model, loss, data, 0.01, B).respond(points, eps=0.0)
        assert (response.delta == 0).all() and (response.steps == 0).all()
        assert response.gradient.max() < 1e-14


def test_rows_make_up_the_gauss_newton_matrix_and_woodbury_inverts_it(code: SimpleNamespace) -> None:
    for kind in ("squares", "softmax"):
        model, loss, data, _, _ = made(code, kind, (4, 6, 3))
        B, G = code.predictions.curvature_rows(model, loss, data), dense(model, loss, data)
        torch.testing.assert_close(B.T @ B / len(data), G)
        v = torch.randn(2, len(G), dtype=G.dtype)
        told = code.response.damped_inverse(B, len(data), 0.01)(v)
        torch.testing.assert_close(told, torch.linalg.solve(G + 0.01 * torch.eye(len(G)), v.T).T)


def test_response_is_a_minimum_of_the_objective_written_out(code: SimpleNamespace) -> None:
    model, loss, data, points, measured = made(code, "softmax", (3, 4, 3), n=15)
    eps, damping = 0.5, 0.05
    B = code.predictions.curvature_rows(model, loss, data)
    objective = code.response.Objective(model, loss, data, damping, B[:20])  # a first matrix that is not the right one
    response = objective.respond(points.at(np.arange(1)), eps, tolerance=1e-7, steps=300)
    assert response.left.max() < 1e-7
    theta = parameters_to_vector(model.parameters())
    p_s = model(data.x).softmax(1)

    def outputs(t: Tensor, x: Tensor) -> Tensor:
        W1, b1, W2, b2 = (part.view(p.shape) for part, p in
                          zip(t.split([12, 4, 12, 3]), model.parameters(), strict=True))
        return (x @ W1.T + b1).tanh() @ W2.T + b2

    def literal(t: Tensor) -> Tensor:
        divergence = (p_s * (p_s.log() - outputs(t, data.x).log_softmax(1))).sum(1).mean()
        own = -outputs(t, points.x[:1]).log_softmax(1)[0, points.y[0]]
        return divergence + eps * own + damping / 2 * (t - theta).square().sum()

    found = theta + response.delta[0]
    assert torch.func.grad(literal)(found).abs().max() < 1e-7
    assert torch.linalg.eigvalsh(torch.func.hessian(literal)(found)).min() > 0  # a minimum
    y = int(measured.y[0])
    change = outputs(found, measured.x).log_softmax(1)[0, y] - model(measured.x).log_softmax(1)[0, y]
    assert objective.change(response, measured)[0] == pytest.approx(float(change))
    assert response.delta.norm() > 0.1  # far enough to be no matter of the first order


def test_small_weights_give_what_the_dense_solve_and_conjugate_gradients_predict(code: SimpleNamespace) -> None:
    for kind in ("squares", "softmax"):
        model, loss, data, points, measured = made(code, kind, (4, 6, 3))
        scores, facts = code.predictions.predict(model, loss, data, points, measured, Damping(0.5, "global"), 0)
        G = dense(model, loss, data)
        assert facts["lambda"] == pytest.approx(0.5 * float(G.trace()) / len(G))
        v, g = (torch.cat(code.predictions.gradients(model, loss, rows), dim=1) for rows in (measured, points))
        told = (g @ torch.linalg.solve(G + facts["lambda"] * torch.eye(len(G)), v[0])).numpy() / len(data)
        assert scores["CG"] == pytest.approx(told, rel=1e-3, abs=1e-4 * np.abs(told).max())
        objective = code.response.Objective(model, loss, data, facts["lambda"],
                                            code.predictions.curvature_rows(model, loss, data))
        errors = []
        for weight in (1e-3, 1e-4):
            response = objective.respond(points, weight / len(data), tolerance=1e-9)
            errors.append(np.abs(objective.change(response, measured) / weight - told).max() / np.abs(told).max())
        assert errors[1] < 1e-3 and errors[1] < 0.15 * errors[0]  # an error of first order in eps


def test_one_linear_layer_with_squared_error_is_exact_for_kronecker_curvatures(code: SimpleNamespace) -> None:
    """G = E[a a^T] x I: no approximation is left in K-FAC, EK-FAC or block by block."""
    model, loss, data, points, measured = made(code, "squares", (5, 3))
    scores, facts = code.predictions.predict(model, loss, data, points, measured, Damping(0.1, "global"), 0)
    objective = code.response.Objective(model, loss, data, facts["lambda"],
                                        code.predictions.curvature_rows(model, loss, data))
    change = objective.change(objective.respond(points, 1e-5 / len(data), tolerance=1e-10), measured) / 1e-5
    for name in ("CG", "exact blocks", "K-FAC, all labels", "EK-FAC, all labels"):
        assert scores[name] == pytest.approx(change, rel=1e-3, abs=1e-4 * np.abs(change).max()), name
    for name in ("gradient dot", "diagonal"):
        assert np.abs(scores[name] - change).max() > 0.05 * np.abs(change).max()


def test_sampled_labels_come_near_all_labels(code: SimpleNamespace) -> None:
    """Many rows: one drawn label a row is nearly enough."""
    model, loss, data, points, measured = made(code, "softmax", (3, 3), n=800)
    scores, _ = code.predictions.predict(model, loss, data, points, measured, Damping(0.1, "global"), seed=1)
    for name in ("K-FAC", "EK-FAC"):
        error = np.abs(scores[name] - scores[f"{name}, all labels"]).max()
        assert 0 < error < 0.2 * np.abs(scores[f"{name}, all labels"]).max()


def test_repeats_are_counted_and_tabled(code: SimpleNamespace, tmp_path: Path) -> None:
    problem = code.problems.regression(seed=0, width=6)
    assert [len(part) for part in (problem.train, problem.validation, problem.test)] == [309, 89, 44]
    code.problems.RATES, code.problems.DECAYS = (0.03,), (1e-3,)
    object.__setattr__(problem, "epochs", 3)
    one = code.pbrf.repeat(problem, code.problems.train(problem, 0), 10.0, 12, 0)
    assert one["pearson"]["CG"] > 0.99 and one["minimised"]["at_tolerance"] == 12
    found = {("regression", 10.0): [one, one]}
    text = code.pbrf.table(found)
    assert "| minimised to 1e-4 of the gradient, n / total | 24 / 24 |" in text
    code.pbrf.plot(found, tmp_path / "pbrf.png")
    assert (tmp_path / "pbrf.png").stat().st_size > 5000
