"""Moving weights and back: same bits, whatever happens; the derivative of known functions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests import tiny
from tests.views.dense import MODELS, bits, problem
from whence.base.errors import WhenceError
from whence.models.blocks import Block, list_blocks, select_blocks
from whence.views.shift import directional, shifted


@pytest.mark.parametrize("architecture", MODELS)
def test_weights_move_in_the_layout_of_gradients_and_come_back(architecture: str) -> None:
    model, blocks, _ = problem(architecture)
    before = bits(model)
    data = tiny.examples(4)
    gradients = tiny.gradients(model, data, [block.name for block in blocks])
    direction = [part[0] for part in gradients]  # the gradient of row 0: moving along it raises row 0
    slope = sum(float(part @ part) for part in direction)
    values = {}
    for alpha in (1e-5, -1e-5):
        with shifted(blocks, direction, alpha), torch.no_grad():
            assert bits(model) != before
            values[alpha] = float(tiny.log_prob(model, data, 0))
    assert (values[1e-5] - values[-1e-5]) / 2e-5 == pytest.approx(slope, rel=1e-4)
    assert bits(model) == before


def test_an_exception_leaves_no_trace() -> None:
    model, blocks, x = problem("gpt2")
    before = bits(model)

    def fail() -> np.ndarray:
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        directional(blocks, [part[0] for part in x], fail)
    assert bits(model) == before
    with pytest.raises(RuntimeError), shifted(blocks, [part[0][:2] for part in x], 1.0):
        pass  # a direction too short fails while moving
    assert bits(model) == before


def linear(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, list[Block]]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 3)).to(dtype)
    return model, list_blocks(model)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_the_step_suits_directions_of_any_size(size: float) -> None:
    model, blocks = linear()
    direction = torch.linspace(-size, size, 15, dtype=torch.float64)
    entry = torch.ones(4, dtype=torch.float64)

    def softmax() -> np.ndarray:
        with torch.no_grad():
            return model(entry).log_softmax(dim=0).numpy()

    values, facts = directional(blocks, [direction], softmax, tolerance=0.0)
    moved = direction[:12].view(3, 4) @ entry + direction[12:]
    with torch.no_grad():
        expected = moved - model(entry).softmax(dim=0) @ moved
    np.testing.assert_allclose(values, expected.numpy(), rtol=1e-9)
    assert facts["error"] < 1e-8
    assert facts["linearity"] < 1e-2  # before the terms in alpha^2, ... are taken away


def test_a_tolerance_saves_steps() -> None:
    model, blocks = linear()
    direction = torch.linspace(-1, 1, 15, dtype=torch.float64)

    def softmax() -> np.ndarray:
        with torch.no_grad():
            return model(torch.ones(4, dtype=torch.float64)).log_softmax(dim=0).numpy()

    best, most = directional(blocks, [direction], softmax, tolerance=0.0)
    near, fewer = directional(blocks, [direction], softmax, tolerance=1e-3)
    assert fewer["evaluations"] < most["evaluations"]
    assert most["error"] < fewer["error"] <= 1e-3
    assert np.abs(near - best).max() <= fewer["error"] * np.abs(best).max()  # the estimate bounds the true error


def test_the_check_sees_a_function_that_is_not_linear_at_the_step() -> None:
    model, blocks = linear()
    centre = model[0].weight[0, 0].item()

    def bent() -> np.ndarray:
        return np.array([np.sin(1e9 * (model[0].weight[0, 0].item() - centre))])

    direction = torch.zeros(15, dtype=torch.float64)
    direction[0] = 1.0
    _, facts = directional(blocks, [direction], bent)
    assert facts["error"] > 0.5  # linear over some 1e-9 only


def test_a_direction_of_zeros_is_said() -> None:
    _, blocks = linear()
    values, facts = directional(blocks, [torch.zeros(15, dtype=torch.float64)], lambda: np.ones(2))
    assert values.tolist() == [0.0, 0.0]
    assert facts == {"alpha": 0.0, "linearity": None, "error": None, "evaluations": 1}


def test_half_precision_is_refused() -> None:
    model = tiny.llama(dtype=torch.bfloat16)
    blocks = select_blocks(model)
    with pytest.raises(WhenceError, match="bfloat16 weights, in which a small step is rounded away"):
        directional(blocks, [torch.ones(block.parameters) for block in blocks], lambda: np.ones(1))
