from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_scheduler

from whence.train import plan
from whence.train.plan import kept_steps, plan_steps, stream_seed
from whence.train.recipe import Recipe


def test_doctests() -> None:
    results = doctest.testmod(plan)
    assert results.attempted == 2 and results.failed == 0


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4), st.integers(0, 5))
def test_every_epoch_sees_every_row_once(n: int, batch_size: int, epochs: int, seed: int) -> None:
    steps = plan_steps(n, Recipe(epochs=epochs, batch_size=batch_size, seed=seed))
    for epoch in range(epochs):
        rows = np.concatenate([s.rows for s in steps if s.epoch == epoch])
        assert sorted(rows) == list(range(n))
        assert (rows == np.random.default_rng([seed, epoch]).permutation(n)).all()
    assert [s.step for s in steps] == list(range(1, len(steps) + 1))
    assert steps[-1].epoch == epochs - 1


def test_max_steps_stops_in_the_middle_of_an_epoch() -> None:
    steps = plan_steps(10, Recipe(epochs=None, max_steps=7, batch_size=3))
    assert [s.epoch for s in steps] == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(("schedule", "theirs"), [("linear", "linear"), ("cosine", "cosine"),
                                                  ("constant", "constant_with_warmup")])
@pytest.mark.parametrize("warmup_ratio", [0.0, 0.13])
def test_learning_rates_are_those_of_transformers(schedule: str, theirs: str, warmup_ratio: float) -> None:
    recipe = Recipe(epochs=None, max_steps=20, batch_size=1, schedule=schedule, warmup_ratio=warmup_ratio,
                    learning_rate=0.3)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    warmup = 3 if warmup_ratio else 0  # 20 x 0.13, rounded up
    scheduler = get_scheduler(theirs, optimizer, num_warmup_steps=warmup, num_training_steps=20)
    expected = []
    for _ in range(20):
        expected.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert [s.learning_rate for s in plan_steps(5, recipe)] == pytest.approx(expected, rel=1e-12)


@given(st.integers(1, 500), st.integers(1, 20))
def test_kept_steps_are_even_and_end_with_the_last(total: int, count: int) -> None:
    kept = kept_steps(total, Recipe(checkpoints=count))
    assert kept[-1] == total and kept[0] >= 1
    assert len(kept) == min(count, total)
    gaps = np.diff([0, *kept])
    assert gaps.max() - gaps.min() <= 1


def test_streams_of_neighbouring_seeds_and_steps_differ() -> None:
    assert len({stream_seed(seed, number) for seed in range(20) for number in range(20)}) == 400
