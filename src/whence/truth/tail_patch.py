"""Tail-patch: train a little more on a query's first rows, from the weights as they are, and measure the query again.

    change[q] = f_q(theta_s after one step on the rows) - f_q(theta_s)

A step is one of the recipe's own optimizer, fresh, on all of the rows in one batch, at a learning rate that is given.
Chang et al. 2024 (arXiv 2410.17413), section 5. Cheap, and near what a gradient step does: it favours gradient dot over
methods that foretell where training ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from torch import nn

from whence.base.errors import WhenceError
from whence.base.progress import track
from whence.data.examples import Examples
from whence.measure.measurement import LogProb, Measurement
from whence.sweep.sweep import Layout, sweep
from whence.tasks.interval import Estimate, bootstrap_mean
from whence.train.plan import Step
from whence.train.recipe import Recipe
from whence.train.training import Training
from whence.truth.proximal import kept, tuned_weights

RANDOM = "random rows"


@dataclass(frozen=True)
class Patched:
    """What a step on the first k rows of a method did: means over queries with 95 % intervals.

    Attributes:
        change: of the measurement, by method; `random rows` is the control.
        against_random: less that of random rows, paired by query.
        per_query: by method.
    """

    change: dict[str, Estimate]
    against_random: dict[str, Estimate]
    per_query: dict[str, Float[np.ndarray, " Q"]]


def tail_patch(model: nn.Module, train: Examples, queries: Examples, scores: Mapping[str, Float[np.ndarray, "Q N"]],
               recipe: Recipe, *, k: int = 1, learning_rate: float | None = None,
               measurement: Measurement | None = None, pad_id: int = 0, layout: Layout | None = None,
               seed: int = 0) -> Patched:
    """One step on the first k rows of every query and method, and on k random rows; the model is left as it was.

    Args:
        recipe: whose optimizer, reduction and clipping are used; dropout is off.
        learning_rate: of the step; default the recipe's.

    Raises:
        WhenceError: scores of another shape, or a k that is not 1 to N.
    """
    shape, measurement = (len(queries), len(train)), measurement or LogProb()
    if not 0 < k <= len(train):
        raise WhenceError(f"k={k}: expected 1 to {len(train)}")
    for name, values in scores.items():
        if values.shape != shape:
            raise WhenceError(f"{name}: scores of shape {list(values.shape)}; expected {list(shape)}")
    rng = np.random.default_rng(seed)
    rows = {name: np.argsort(-values, axis=1, kind="stable")[:, :k] for name, values in scores.items()}
    rows[RANDOM] = np.stack([rng.permutation(len(train))[:k] for _ in range(len(queries))])
    weights, recipe = tuned_weights(model), replace(recipe, checkpoints=1)
    rate = recipe.learning_rate if learning_rate is None else learning_rate

    def measured(q: int) -> float:
        return float(sweep(model, queries.select([q]), measurement=measurement, pad_id=pad_id, layout=layout,
                           what="query after a step").values[0])

    found = {name: np.zeros(len(queries)) for name in rows}
    for q in track(range(len(queries)), "tail-patch", len(queries)):
        before = measured(q)
        for name, first in rows.items():
            with kept(model, weights):
                training = Training(model, train, recipe, pad_id)  # type: ignore[arg-type]
                training.advance(Step(1, 1, np.sort(first[q]), rate))
                found[name][q] = measured(q) - before
    return Patched({name: bootstrap_mean(x) for name, x in found.items()},
                   {name: bootstrap_mean(x - found[RANDOM]) for name, x in found.items()}, found)
