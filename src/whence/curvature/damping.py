"""How much is added to the curvature before it is inverted.

Rules, each a factor c and a function of the eigenvalues of the blocks:

    block      lambda_b = c x mean eigenvalue of block b       (the paper's rule with c = 0.1, the default)
    largest    lambda_b = c x largest eigenvalue of block b
    global     lambda   = c x mean eigenvalue over all coordinates of all blocks
    absolute   lambda   = c

For the empirical Fisher `F = (1/N) sum_i g_i g_i^T` over P parameters the mean eigenvalue is `tr F / P = mean_i
mean(g_i^2)`, so `block` with 0.1 is both the rule of Grosse et al. 2023 and that of Kwon et al. 2024 (DataInf).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from whence.base.errors import WhenceError

DAMPINGS = (0.01, 0.1, 1.0, 10.0, 100.0)
Rule = Literal["block", "largest", "global", "absolute"]
RULES: tuple[Rule, ...] = get_args(Rule)


@dataclass(frozen=True)
class Damping:
    """A rule with its factor.

    Raises:
        WhenceError: an unknown rule, or a factor that is not positive.
    """

    factor: float = 0.1
    rule: str = "block"

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise WhenceError(f"rule={self.rule}: expected {', '.join(RULES[:-1])} or {RULES[-1]}")
        check_factor(self.factor)

    def of(self, means: Sequence[float], largest: Sequence[float], sizes: Sequence[int]) -> list[float]:
        """lambda of every block, from the mean and the largest eigenvalue and the number of coordinates of each.

        Raises:
            WhenceError: a lambda of zero, because every gradient of a block is zero.
        """
        if self.rule == "block":
            found = [self.factor * mean for mean in means]
        elif self.rule == "largest":
            found = [self.factor * value for value in largest]
        elif self.rule == "global":
            found = [self.factor * float(np.average(means, weights=sizes))] * len(means)
        else:
            found = [self.factor] * len(means)
        if min(found) == 0:
            raise zero_block()
        return found


def check_factor(factor: float) -> None:
    """Refuse a damping that would not damp."""
    if not factor > 0:
        raise WhenceError(f"damping={factor}: expected a positive number (0.1 is the usual choice)")


def zero_block() -> WhenceError:
    """What is wrong where a relative damping is zero."""
    return WhenceError("every training gradient of a block is zero, so its relative damping is zero too: leave "
                       "that block out (an adapter that was never trained has such blocks)")
