"""The linear datamodeling score: do scores of training rows foretell what retraining on subsets of them does?

    LDS = mean over queries q of Spearman over members m of ( sum_j kept[m, j] score[q, j],  outcome[m, q] )

Ilyas et al. 2022 (arXiv 2202.00622); Park et al. 2023 (arXiv 2303.14186). 1 is perfect, 0 is chance. What two banks
that differ in their seeds alone disagree on no method can foretell: where their outcomes correlate by r, one that knew
the mean outcome over seeds exactly would reach sqrt(r) (attenuation; Spearman 1904), the ceiling.

Shapes: M members, Q queries, N rows, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from whence.base.errors import WhenceError
from whence.tasks.interval import RESAMPLES, Estimate
from whence.truth.resample import Draws, estimate


@dataclass(frozen=True)
class Lds:
    """The score of every method, with 95 % intervals over members and queries drawn anew together.

    Attributes:
        scores: by method.
        differences: to the reference, paired: every method sees the same resamples.
        per_query: correlation of each query, by method.
        reference: the method that differences are taken to.
        agreement: correlation of the outcomes of two banks; None without a second one.
        ceiling: what one would reach who knew the mean outcome; None without a second bank.
        members, queries: how many.
    """

    scores: dict[str, Estimate]
    differences: dict[str, Estimate]
    per_query: dict[str, Float[np.ndarray, " Q"]]
    reference: str
    agreement: Estimate | None
    ceiling: Estimate | None
    members: int
    queries: int


def predictions(scores: Float[np.ndarray, "Q _"], kept: Bool[np.ndarray, "M N"], name: str = "scores",
                ) -> Float[np.ndarray, "M Q"]:
    """The sum of each query's scores over the rows that each member keeps.

    Raises:
        WhenceError: scores of another number of rows, or not finite.
    """
    if scores.ndim != 2 or scores.shape[1] != kept.shape[1]:
        raise WhenceError(f"{name}: of shape {list(scores.shape)}; expected [queries, {kept.shape[1]} rows]")
    if not np.isfinite(scores).all():
        raise WhenceError(f"{name}: {int((~np.isfinite(scores)).sum())} of {scores.size} are not finite")
    return kept.astype(np.float64) @ scores.T.astype(np.float64)


def linear_datamodeling(scores: Mapping[str, np.ndarray], kept: Bool[np.ndarray, "M N"],
                        outcomes: Float[np.ndarray, "M Q"], *, other: Float[np.ndarray, "M Q"] | None = None,
                        reference: str | None = None, resamples: int = RESAMPLES, seed: int = 0) -> Lds:
    """LDS of every method on one bank.

    Args:
        scores: by method, [Q, N] each.
        kept, outcomes: of the members.
        other: outcomes of the same members with another seed; rows of NaN are members that were not made with it.
        reference: a method; default the first.

    Raises:
        WhenceError: fewer than 3 members; scores of other rows or queries; an unknown reference.
    """
    if len(kept) < 3:
        raise WhenceError(f"{len(kept)} members: expected at least 3 for a rank correlation")
    reference = reference or next(iter(scores))
    if reference not in scores:
        raise WhenceError(f"reference {reference!r}: not among {', '.join(scores)}")
    draws = Draws.make(len(outcomes), outcomes.shape[1], resamples, seed)
    happened, found, per_query = draws.ranks(outcomes), {}, {}
    for name, values in scores.items():
        told = predictions(values, kept, name)
        if told.shape != outcomes.shape:
            raise WhenceError(f"{name}: scores of {told.shape[1]} queries; the bank has {outcomes.shape[1]}")
        rho = draws.correlation(draws.ranks(told), happened)
        found[name], per_query[name] = draws.mean(rho), rho[0]
    agreement = ceiling = None
    if other is not None:
        agreement, ceiling = noise_ceiling(outcomes, other, resamples, seed)
    count = outcomes.shape[1]
    return Lds({name: estimate(values, count) for name, values in found.items()},
               {name: estimate(values - found[reference], count) for name, values in found.items()},
               per_query, reference, agreement, ceiling, len(kept), count)


def noise_ceiling(outcomes: Float[np.ndarray, "M Q"], other: Float[np.ndarray, "M Q"], resamples: int = RESAMPLES,
                  seed: int = 0) -> tuple[Estimate, Estimate]:
    """(r, sqrt(r)): how far two banks agree, and what the mean outcome, known exactly, would score on one of them.

    Raises:
        WhenceError: fewer than 3 members in both.
    """
    both = np.isfinite(other).all(axis=1) & np.isfinite(outcomes).all(axis=1)
    if both.sum() < 3:
        raise WhenceError(f"{int(both.sum())} members in both banks: expected at least 3")
    draws = Draws.make(int(both.sum()), outcomes.shape[1], resamples, seed)
    rho = draws.correlation(draws.ranks(outcomes[both]), draws.ranks(other[both]))
    count = outcomes.shape[1]
    return estimate(draws.mean(rho), count), estimate(draws.mean(np.sqrt(rho.clip(0))), count)
