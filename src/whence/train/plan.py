"""Which rows each step sees and at what learning rate: known before the first step, from the recipe alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from whence.train.recipe import Recipe


@dataclass(frozen=True)
class Step:
    """One optimizer step.

    Attributes:
        step: its number, from 1; "checkpoint 40" is the state after step 40.
        epoch: the pass over the data it belongs to, from 0.
        rows: the indices of its examples, in order.
        learning_rate: AdamW's rate at this step.
    """

    step: int
    epoch: int
    rows: np.ndarray
    learning_rate: float


def plan_steps(n: int, recipe: Recipe) -> list[Step]:
    """Every step of a run over `n` examples.

    The order of epoch e is `numpy.random.default_rng([seed, e]).permutation(n)`, cut into batches.

    >>> [step.rows.tolist() for step in plan_steps(3, Recipe(epochs=2, batch_size=2))]
    [[2, 0], [1], [2, 0], [1]]
    """
    per_epoch = math.ceil(n / recipe.batch_size)
    total = recipe.max_steps or (recipe.epochs or 0) * per_epoch
    steps: list[Step] = []
    for epoch in range(math.ceil(total / per_epoch)):
        order = np.random.default_rng([recipe.seed, epoch]).permutation(n)
        for start in range(0, n, recipe.batch_size):
            if len(steps) < total:
                rows = order[start : start + recipe.batch_size]
                steps.append(Step(len(steps) + 1, epoch, rows, learning_rate(len(steps), total, recipe)))
    return steps


def learning_rate(done: int, total: int, recipe: Recipe) -> float:
    """The rate of the step after `done` of `total` steps.

    Over the first W = ceil(warmup_ratio * total) steps it rises from 0 by learning_rate / W a step; from
    there, with x = (done - W) / (total - W), it is learning_rate times `1 - x` (linear),
    `(1 + cos(pi x)) / 2` (cosine) or 1 (constant). These are the schedules of the Hugging Face Trainer.
    """
    warmup = math.ceil(recipe.warmup_ratio * total)
    if done < warmup:
        return recipe.learning_rate * done / warmup
    x = (done - warmup) / max(1, total - warmup)
    factor = {"linear": 1 - x, "cosine": (1 + math.cos(math.pi * x)) / 2, "constant": 1.0}[recipe.schedule]
    return recipe.learning_rate * factor


def kept_steps(total: int, recipe: Recipe) -> tuple[int, ...]:
    """The steps whose checkpoints are kept: `recipe.checkpoints` of them, evenly spaced, the last one always.

    >>> kept_steps(10, Recipe(checkpoints=4))
    (3, 5, 8, 10)
    """
    count = recipe.checkpoints
    return tuple(sorted({math.ceil(k * total / count) for k in range(1, count + 1)}))


def stream_seed(seed: int, number: int) -> int:
    """A 64-bit seed for torch: number 0 for LoRA's start, k for the dropout of step k.

    Each step has its own, so that any step can be replayed without those before it.
    """
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0])
