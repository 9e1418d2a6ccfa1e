"""The proximal response: against a dense minimiser, and what must not move."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import tiny
from whence.base.errors import WhenceError
from whence.curvature.conjugate_gradient import conjugate_gradient
from whence.curvature.fit import Situation
from whence.curvature.gauss_newton import GaussNewton
from whence.curvature.kronecker import Curvature
from whence.models.blocks import select_blocks
from whence.sweep.sweep import Layout, sweep
from whence.truth.coordinates import Plain, Whitened
from whence.truth.proximal import Nudge, Proximal, Response, tuned_weights

TRAIN, QUERIES = tiny.examples(8), tiny.examples(3, seed=1, prefix="q")
LAYOUT = Layout(batch_size=3)


def block_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights and biases of the linear blocks alone."""
    names = {f"{block.name}.{part}" for block in select_blocks(model) for part in ("weight", "bias")}
    return {name: p for name, p in model.named_parameters() if name in names}


def test_no_copies_move_nothing() -> None:
    problem = Proximal(tiny.lora(), TRAIN, range(8), 0.1)
    for nudge in (Nudge.of("nothing", []), Nudge.of("no copies", [1, 2], 0.0)):
        response = problem.respond(nudge)
        assert response.size == 0 and response.evaluations == 0 and response.left == 0


def test_the_start_of_an_objective_is_stationary_but_for_the_push() -> None:
    """Divergence and proximal term have no gradient at theta_s: what is there is that of the pushed rows' loss."""
    model = tiny.gpt2()
    problem = Proximal(model, TRAIN, range(8), 0.1, layout=LAYOUT)
    from whence.truth.proximal import _Objective

    objective = _Objective(problem, Nudge("one", np.array([2]), np.array([-2.0])))
    value, gradient = objective(torch.zeros(sum(p.numel() for p in problem.weights.values()), dtype=torch.float64))
    for p in model.parameters():
        p.requires_grad_(True)
    expected = torch.autograd.grad(2 / 8 * tiny.log_prob(model, TRAIN, 2), list(problem.weights.values()))
    flat = torch.cat([part.reshape(-1) for part in expected])
    assert value == 0
    torch.testing.assert_close(gradient, flat, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("make", "copies", "left", "atol"), [(tiny.gpt2, 1e-4, 1e-4, 1e-4),
                                                              (tiny.lora, 1e-3, 1e-2, 1e-2)])
def test_a_small_nudge_responds_as_exact_gauss_newton_says(make: object, copies: float, left: float,
                                                           atol: float) -> None:
    """First order: (1/N) v^T (G + lambda)^-1 g, over the same weights and rows. (LLaMA's norms are in float32.)"""
    model = make()  # type: ignore[operator]
    blocks = select_blocks(model)
    lam = 0.05
    problem = Proximal(model, TRAIN, range(8), lam, weights=block_weights(model), layout=LAYOUT)
    response = problem.respond(Nudge.of("a little", [3], copies), steps=250, tolerance=1e-7)
    assert response.left < left and response.lowered > 0
    after = problem.measure(response, QUERIES).values
    before = sweep(model, QUERIES).values

    g_train, g_query = (tiny.gradients(model, data, [b.name for b in blocks]) for data in (TRAIN, QUERIES))
    product = GaussNewton.of_language_model(model, TRAIN, blocks).product
    x = conjugate_gradient(product, g_query, lam, tolerance=1e-10, iterations=500).x
    scores = sum((a @ b.T for a, b in zip(x, g_train, strict=True)), torch.zeros(3, 8)) / len(TRAIN)
    np.testing.assert_allclose((after - before) / copies, scores[:, 3].numpy(), rtol=1e-3, atol=atol)


def test_taking_away_is_the_opposite_of_adding_where_the_nudge_is_small() -> None:
    problem = Proximal(tiny.lora(), TRAIN, range(8), 0.1, layout=LAYOUT)
    before = sweep(problem.model, QUERIES).values
    more, less = (problem.measure(problem.respond(Nudge.of("x", [0, 5], copies), 200, 1e-6), QUERIES).values - before
                  for copies in (1e-3, -1e-3))
    np.testing.assert_allclose(more, -less, rtol=1e-2, atol=1e-8)


def test_the_model_is_left_as_it_was_and_batches_do_not_matter() -> None:
    model = tiny.lora()
    weights = {name: p.clone() for name, p in model.state_dict().items()}
    wanted = [p.requires_grad for p in model.parameters()]
    found = []
    for layout in (Layout(), Layout(batch_size=2, side="left")):
        problem = Proximal(model, TRAIN, [0, 2, 4, 6], 0.1, layout=layout)
        response = problem.respond(Nudge.of("up", [1, 2]), steps=30)
        found.append(problem.measure(response, QUERIES).values)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    assert all(torch.equal(p, weights[name]) for name, p in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == wanted


def test_float32_follows_float64() -> None:
    changes = []
    for dtype in (torch.float32, torch.float64):
        problem = Proximal(tiny.gpt2(dtype=dtype), TRAIN, range(8), 0.05, layout=LAYOUT)
        response = problem.respond(Nudge.of("up", [1, 2], 0.01), steps=100)
        changes.append(problem.measure(response, QUERIES).values - sweep(problem.model, QUERIES).values)
    np.testing.assert_allclose(changes[0], changes[1], rtol=0.02, atol=1e-4)


@pytest.mark.parametrize(("make", "strong", "weak"), [(tiny.gpt2, 0.2, 0.02), (tiny.lora, 0.02, 1e-3)])
def test_whitened_coordinates_have_the_same_minimum_and_reach_it_sooner(make: object, strong: float,
                                                                        weak: float) -> None:
    """GPT-2 has biases and transposed weights; an adapter has neither. What is far from round is whitening's."""
    model = make()  # type: ignore[operator]
    blocks = select_blocks(model)
    weights = tuned_weights(model) if make is tiny.lora else block_weights(model)
    fitted = Situation(model, TRAIN, blocks).fit(Curvature("ekfac", rows=-1, draws=16))

    def responses(lam: float, steps: int, copies: float) -> list[Response]:
        ways = Plain(lam), Whitened(lam, weights, blocks, fitted.blocks)
        return [Proximal(model, TRAIN, range(8), lam, weights=weights, coordinates=one, layout=LAYOUT).respond(
            Nudge.of("up", [1, 2], copies), steps, 1e-4) for one in ways]

    plain, whitened = responses(strong, 100, 0.01)
    apart = torch.cat([(whitened.delta[name] - p).reshape(-1) for name, p in plain.delta.items()]).norm().item()
    assert apart < 0.02 * plain.size and whitened.lowered == pytest.approx(plain.lowered, rel=1e-3)
    plain, whitened = responses(weak, 4, 0.1)
    assert whitened.lowered > 1.1 * plain.lowered


def test_coordinates_are_pulled_by_their_transpose() -> None:
    model = tiny.gpt2()
    blocks, weights = select_blocks(model), tuned_weights(model)
    fitted = Situation(model, TRAIN, blocks).fit(Curvature("ekfac", rows=-1))
    count = sum(p.numel() for p in weights.values())
    u, g = torch.randn(2, count, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for one in (Plain(0.3), Whitened(0.3, weights, blocks, fitted.blocks)):
        torch.testing.assert_close(one.weights(u) @ g, u @ one.pulled(g))
    # |u|^2 is delta (C + lambda) delta of the blocks, and lambda |delta|^2 of what is in none
    delta, name = Whitened(0.3, weights, blocks, fitted.blocks).weights(u), blocks[0].name
    at = dict(zip(weights, delta.split([p.numel() for p in weights.values()]), strict=True))
    moved = torch.cat([at[f"{name}.weight"].view(blocks[0].inputs, -1).T, at[f"{name}.bias"][:, None]], dim=1)
    of_u = dict(zip(weights, u.split([p.numel() for p in weights.values()]), strict=True))
    size = of_u[f"{name}.weight"].square().sum() + of_u[f"{name}.bias"].square().sum()
    torch.testing.assert_close((moved * (fitted.blocks[0].product(moved[None])[0] + 0.3 * moved)).sum(), size)


def test_only_an_adapter_moves_where_there_is_one() -> None:
    assert all("lora_" in name for name in tuned_weights(tiny.lora()))
    assert len(tuned_weights(tiny.gpt2())) == len(list(tiny.gpt2().parameters()))


def test_far_away_the_objective_is_still_a_number_and_the_same_one() -> None:
    """A line search tries far steps: e^dz overflows in float32 there, and the divergence itself does not."""
    model = tiny.gpt2(dtype=torch.float32)
    problem = Proximal(model, TRAIN, range(8), 0.1, layout=LAYOUT)
    from whence.truth.proximal import _Objective

    count = sum(p.numel() for p in problem.weights.values())
    far = torch.randn(count, generator=torch.Generator().manual_seed(0))
    nudge = Nudge.of("one", [2])
    found = []
    for size in (5.0, 200.0):
        value, gradient = _Objective(problem, nudge)(size * far)
        found.append(value - 0.05 * (size * far).double().square().sum().item())
        assert np.isfinite(value) and bool(gradient.isfinite().all())
    double = tiny.gpt2()
    double.load_state_dict({name: p.double() for name, p in model.state_dict().items()})
    value, _ = _Objective(Proximal(double, TRAIN, range(8), 0.1, layout=LAYOUT), nudge)((5.0 * far).double())
    assert found[0] == pytest.approx(value - 0.05 * (5 * far).double().square().sum().item(), rel=1e-2)


@pytest.mark.parametrize(("rows", "damping", "nudge", "says"), [
    ([], 0.1, None, "no rows"), ([0], 0.0, None, "above 0"),
    ([0], 0.1, Nudge.of("far", [8]), "row 8 is not one of 8"), ([0], 0.1, Nudge.of("twice", [1, 1]), "once")])
def test_what_cannot_be_asked(rows: list[int], damping: float, nudge: Nudge | None, says: str) -> None:
    with pytest.raises(WhenceError, match=says):
        Proximal(tiny.lora(), TRAIN, rows, damping).respond(nudge or Nudge.of("one", [0]))
