"""How stiff a fine-tune was: the damping that its length amounts to.

A fine-tune ends after some steps, so it follows a gradient only so far. AdamW moves a weight along a gradient g that
stays by about `lr g / sqrt(v)` a step, `sqrt(v)` the root mean square of the batches' gradients; over all steps by

    sum_t lr_t g / sqrt(v)                  a proximal term lambda/2 |theta - theta_s|^2 lets it go g' / lambda

for the gradient g' of the mean row's loss, `g' = tokens g` where training averages over tokens. Equal at

    lambda = tokens sqrt(v) / sum_t lr_t,   v = mean_t |g_t|^2 / P

with g_t the logged batch gradients of P weights. That a training which is stopped early acts like a quadratic penalty
of one over its length is old (Bishop 1995; Ali, Kolter & Tibshirani 2019, arXiv 1810.10082); one number for all
weights of Adam is a rough reading of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def stiffness(log: Sequence[Mapping[str, Any]], weights: int, tokens: float) -> float:
    """lambda, in nats per row and square unit of weight; NaN where nothing was learned or logged.

    Args:
        log: steps, with `lr` and `grad_norm`.
        weights: P, how many were trained.
        tokens: counted tokens of the mean row where the loss is a mean over tokens; 1 where it is one over rows.
    """
    length = sum(line["lr"] for line in log)
    if not length:
        return float("nan")
    return float(tokens * np.sqrt(np.mean([line["grad_norm"] ** 2 for line in log]) / weights) / length)
