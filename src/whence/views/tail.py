"""Power-law tail of influence scores: fit by maximum likelihood, with a test of whether it fits at all.

    density   p(x) = (alpha - 1) / x_min (x / x_min)^(-alpha),   x >= x_min
    survival  P(X >= x) = (x / x_min)^(-(alpha - 1))

**Two conventions.** `alpha` here is the exponent of the DENSITY, as in Clauset, Shalizi & Newman 2009 (SIAM Review
51); the exponent of the SURVIVAL function is `alpha - 1`. Grosse et al. 2023 (arXiv 2308.03296) print a survival
function with exponent alpha in eq. 32 but speak of moments (the m-th is infinite if alpha <= m + 1) as for a density.
Both numbers are in the result.

    alpha = 1 + n / sum_i ln(x_i / x_min)            standard error (alpha - 1) / sqrt(n)

In y = ln(x / x_min) the law is an exponential of rate alpha - 1, and that is how everything is computed.

**Tail.** Given as the top fraction or the top count (x_min is then the smallest of them), or chosen: the x_min at
which the Kolmogorov-Smirnov distance between tail and fit is least, over tails that grow by 10 % a step.

**Does it fit?** p-value of Clauset et al.: the share of samples drawn from the fitted law (below a chosen x_min, from
the data) that, fitted in the same way, lie at least as far from their own fit. p <= 0.1 rejects. A large p is no
proof: short tails reject little. **Interval** of alpha: percentile bootstrap; with a given tail the tail's values are
drawn, with a chosen one all positive values, and x_min is chosen anew. Seeded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from whence.base.errors import WhenceError

REJECT = 0.1
GROWTH = 1.1  # of the tails that are tried
FEWEST = 10  # values in a tail


@dataclass(frozen=True)
class PowerLaw:
    """A fitted tail.

    Attributes:
        alpha: exponent of the density; `survival` is that of the survival function.
        low, high: ends of the bootstrap interval of alpha, at `level`.
        standard_error: of alpha, asymptotic.
        x_min: where the tail begins, in the unit of the scores.
        tail, positive, total: scores in the tail, above 0, and in all.
        ks: Kolmogorov-Smirnov distance between tail and fit.
        p_value: of the fit; at most 0.1 rejects the power law.
        chosen: how the tail was chosen.
    """

    alpha: float
    low: float
    high: float
    standard_error: float
    x_min: float
    tail: int
    positive: int
    total: int
    ks: float
    p_value: float
    chosen: str
    level: float
    resamples: int
    seed: int

    @property
    def survival(self) -> float:
        """Exponent of the survival function, alpha - 1."""
        return self.alpha - 1

    @property
    def rejected(self) -> bool:
        """Whether the power law is rejected at 0.1, the level of Clauset et al."""
        return self.p_value <= REJECT

    def __str__(self) -> str:
        """One line, both exponents named."""
        verdict = "rejected" if self.rejected else "not rejected"
        return (f"power law {verdict} (p = {self.p_value:.2g}): density exponent {self.alpha:.2f} "
                f"[{self.low:.2f}, {self.high:.2f}], survival exponent {self.survival:.2f}, on the top {self.tail} of "
                f"{self.total} scores ({self.positive} positive), x_min {self.x_min:.3g}, {self.chosen}")

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the names of both conventions."""
        return vars(self) | {"alpha_density": self.alpha, "alpha_survival": self.survival, "rejected": self.rejected}


def fit_tail(scores: Float64[np.ndarray, " N"], *, fraction: float | None = None, count: int | None = None,
             fewest: int = 50, resamples: int = 1000, level: float = 0.95, seed: int = 0) -> PowerLaw:
    """Fit the upper tail of one query's scores; negative scores and zeros are counted and left out.

    Args:
        fraction: the tail is this part of all scores (0.0001 in the paper); or
        count: it is this many; neither: it is chosen by Kolmogorov-Smirnov.
        fewest: a tail that is chosen holds at least so many.

    Cost: `resamples` sorts of the tail; of all positive scores, and some 11 passes over them, where it is chosen.

    Raises:
        WhenceError: both or a wrong one of `fraction` and `count`, fewer than 10 positive scores in the tail, all of
            them equal, or a score that is not finite.
    """
    if not np.isfinite(scores).all():
        raise WhenceError("a score is not finite; leave such rows out and say how many")
    if fewest < FEWEST or resamples < 100 or not 0 < level < 1:
        raise WhenceError(f"fewest={fewest}, resamples={resamples}, level={level}: expected at least {FEWEST}, at "
                          "least 100, and a number between 0 and 1")
    logs = -np.sort(-np.log(scores[scores > 0]))  # falling
    rng = np.random.default_rng(seed)
    wanted = _wanted(len(scores), fraction, count)
    if (wanted or fewest) > len(logs):
        raise WhenceError(f"{len(logs)} of {len(scores)} scores are positive; the tail needs "
                          f"{'at least ' if wanted is None else ''}{wanted or fewest}")

    def fit(falling: np.ndarray) -> tuple[int, float, float]:
        return _choose(falling, fewest) if wanted is None else _fit(falling, len(falling))

    pool = logs if wanted is None else logs[: _fit(logs, wanted)[0]]
    size, rate, ks = fit(pool)
    if not np.isfinite(rate):
        raise WhenceError(f"the {size} scores of the tail are all {np.exp(logs[0]):.4g}; no exponent fits them")
    further = sum(fit(_synthetic(pool, size, rate, rng))[2] >= ks for _ in range(resamples))
    rates = [fit(_falling(rng.choice(pool, len(pool))))[1] for _ in range(resamples)]
    given = f"the top fraction {fraction:g}" if fraction is not None else f"the top {count}"
    chosen = "chosen by Kolmogorov-Smirnov" if wanted is None else f"{given}, as given"
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    return PowerLaw(1 + rate, 1 + float(low), 1 + float(high), rate / size**0.5, float(np.exp(logs[size - 1])), size,
                    len(logs), len(scores), ks, (1 + further) / (1 + resamples), chosen, level, resamples, seed)


def _wanted(total: int, fraction: float | None, count: int | None) -> int | None:
    """Size of the tail that was asked for; None: to be chosen."""
    if fraction is not None and count is not None:
        raise WhenceError("fraction and count are both given; give one, or none to have the tail chosen")
    if fraction is not None:
        if not 0 < fraction <= 1:
            raise WhenceError(f"fraction={fraction}: expected a number above 0, up to 1")
        count = round(fraction * total)
    if count is not None and count < FEWEST:
        raise WhenceError(f"a tail of {count} of {total} scores: expected at least {FEWEST}, take a larger part")
    return count


def _falling(values: np.ndarray) -> np.ndarray:
    return -np.sort(-values)


def _fit(logs: np.ndarray, size: int) -> tuple[int, float, float]:
    """(values in the tail, rate = alpha - 1, KS distance) of the top `size` of falling logarithms, ties included."""
    size = int(np.searchsorted(-logs, -logs[size - 1], side="right"))
    y = logs[:size] - logs[size - 1]
    total = float(y.sum())
    if total <= 0:
        return size, np.inf, np.inf
    rate = size / total
    above = np.exp(-rate * y)  # fitted survival, rising along the falling values
    ranks = np.arange(size + 1) / size
    return size, rate, float(max(np.abs(above - ranks[:-1]).max(), np.abs(above - ranks[1:]).max()))


def _choose(logs: np.ndarray, fewest: int) -> tuple[int, float, float]:
    """`_fit` at the size with the least KS distance; at every tenth more than the one before."""
    steps = int(np.ceil(np.log(len(logs) / fewest) / np.log(GROWTH))) + 1
    sizes = np.unique(np.minimum(len(logs), np.ceil(fewest * GROWTH ** np.arange(steps)).astype(int)))
    return min((_fit(logs, int(size)) for size in sizes), key=lambda fitted: fitted[2])


def _synthetic(logs: np.ndarray, size: int, rate: float, rng: np.random.Generator) -> np.ndarray:
    """As many values as there are: from the fitted law above x_min, below it from the data with replacement."""
    body, start = logs[size:], logs[size - 1]
    above = int(rng.binomial(len(logs), size / len(logs)))  # all, where there is no body
    return _falling(np.concatenate([start + rng.exponential(1 / rate, size=above), rng.choice(body, len(logs) - above)
                                    if len(body) else body]))
