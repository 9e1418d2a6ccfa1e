"""Measurements against their formulas, written out position by position; finite where they must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from whence.measure.measurement import LogOdds, LogProb, Measurement, greedy_matches

MEASUREMENTS = [LogProb(), LogOdds()]


def positions(seed: int, n: int, vocabulary: int, size: int, scale: float = 2.0
              ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(n, vocabulary, generator=draw, dtype=torch.float64)
    return (logits, torch.randint(vocabulary, (n,), generator=draw), torch.randint(size, (n,), generator=draw))


def naive(measurement: Measurement, logits: np.ndarray, targets: np.ndarray, owners: np.ndarray,
          size: int) -> np.ndarray:
    values = np.zeros(size)
    for row, target, owner in zip(logits, targets, owners, strict=True):
        p = np.exp(row)[target] / np.exp(row).sum()
        values[owner] += np.log(p) if isinstance(measurement, LogProb) else np.log(p / (1 - p))
    return values


@pytest.mark.parametrize("measurement", MEASUREMENTS)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 12), vocabulary=st.integers(2, 9), size=st.integers(1, 5))
def test_values_are_the_formulas(measurement: Measurement, seed: int, n: int, vocabulary: int, size: int) -> None:
    logits, targets, owners = positions(seed, n, vocabulary, size)
    ours = measurement(logits, targets, owners, size)
    assert isinstance(measurement, Measurement) and ours.dtype == torch.float64
    np.testing.assert_allclose(ours, naive(measurement, logits.numpy(), targets.numpy(), owners.numpy(), size),
                               rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("measurement", MEASUREMENTS)
def test_gradients_are_those_of_the_formulas(measurement: Measurement) -> None:
    logits, targets, owners = positions(3, 7, 5, 3)
    logits.requires_grad_()
    measurement(logits, targets, owners, 3).sum().backward()
    p = logits.detach().softmax(dim=1)
    one_hot = torch.nn.functional.one_hot(targets, 5)
    expected = one_hot - p  # d log p_y / d z; the log-odds' is this over 1 - p_y
    if isinstance(measurement, LogOdds):
        expected = expected / (1 - p.gather(1, targets[:, None]))
    torch.testing.assert_close(logits.grad, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_narrow_logits_are_measured_in_float32(dtype: torch.dtype) -> None:
    logits, targets, owners = positions(1, 200, 50, 1, scale=1.0)
    narrow = logits.to(dtype)
    for measurement in MEASUREMENTS:
        value = measurement(narrow, targets, owners, 1)
        assert value.dtype == torch.float32
        np.testing.assert_allclose(value, measurement(narrow.double(), targets, owners, 1), rtol=1e-5)


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_extreme_logits_stay_finite(size: float) -> None:
    """Certain, and certainly wrong: the naive p / (1 - p) is 1 / 0 and 0 here."""
    logits = torch.tensor([[size, 0.0, -size], [size, 0.0, -size]], requires_grad=True)
    targets, owners = torch.tensor([0, 2]), torch.tensor([0, 1])
    for measurement, expected in ((LogProb(), [0.0, -2 * size]), (LogOdds(), [size, -2 * size])):
        values = measurement(logits, targets, owners, 2)
        np.testing.assert_allclose(values.detach(), expected, rtol=1e-6)
        (gradient,) = torch.autograd.grad(values.sum(), logits)
        assert torch.isfinite(gradient).all()
    assert gradient[0].tolist() == [1, -1, 0]  # the log-odds keep their gradient where the model is certain


def test_a_token_ruled_out_is_minus_infinity_and_the_only_one_left_has_infinite_odds() -> None:
    logits = torch.tensor([[0.0, -torch.inf]])
    owners = torch.tensor([0])
    assert LogProb()(logits, torch.tensor([1]), owners, 1).item() == -np.inf  # which the sweep refuses, by name
    assert LogProb()(logits, torch.tensor([0]), owners, 1).item() == 0
    assert LogOdds()(logits, torch.tensor([0]), owners, 1).item() == np.inf


def test_an_example_without_positions_measures_zero() -> None:
    logits, targets, _ = positions(0, 3, 4, 1)
    for measurement in MEASUREMENTS:
        assert measurement(logits, targets, torch.tensor([2, 2, 2]), 4)[[0, 1, 3]].tolist() == [0, 0, 0]


@given(seed=st.integers(0, 10**6))
def test_greedy_matches_counts_the_tokens_that_are_not_the_greatest(seed: int) -> None:
    logits, targets, owners = positions(seed, 9, 3, 4)
    expected = [sum(int(row.argmax()) != int(y) for row, y, owner in zip(logits, targets, owners, strict=True)
                    if owner == example) for example in range(4)]
    assert greedy_matches(logits, targets, owners, 4).tolist() == expected
