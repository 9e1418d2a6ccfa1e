"""Leave rows out and look: the change of each query against what the scores foretold.

    foretold[m, q] = - sum over the rows j that member m leaves out of score[q, j]
    happened[m, q] = outcome[m, q] - outcome of the member that leaves nothing out

Correlated over members: one row at a time that is leave-one-out, k rows chosen by a score leave-k-out. The control is
trained with the same seed, so that leaving nothing out is a change of exactly zero, and another seed's control says
how much of a change is noise.

Shapes: M members, Q queries, N rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from whence.base.errors import WhenceError
from whence.tasks.interval import RESAMPLES, Estimate
from whence.truth.lds import predictions
from whence.truth.resample import Draws, estimate


@dataclass(frozen=True)
class LeaveOut:
    """How far foretold and real changes agree, means over queries with 95 % intervals over members and queries.

    Attributes:
        pearson, spearman: correlation over members.
        slope: of happened on foretold through zero, median over queries: 1 where sizes agree too.
        change: root mean square of what happened, in the measurement's unit.
        noise: the same of controls with other seeds; NaN without them.
    """

    pearson: Estimate
    spearman: Estimate
    slope: float
    change: float
    noise: float

    @property
    def above_noise(self) -> bool:
        """Whether leaving rows out does more than another seed."""
        return bool(np.isnan(self.noise) or self.change > self.noise)


def leave_out_agreement(scores: Float[np.ndarray, "Q _"], kept: Bool[np.ndarray, "M N"],
                        outcomes: Float[np.ndarray, "M Q"], control: Float[np.ndarray, " Q"], *,
                        reseeded: Float[np.ndarray, "S Q"] | None = None, resamples: int = RESAMPLES,
                        seed: int = 0) -> LeaveOut:
    """Agreement of one method's scores with what leaving rows out did.

    Args:
        scores: of one method, in the measurement's unit for a step of weight 1/N.
        kept, outcomes: of the members.
        control: outcome of the member that keeps every row.
        reseeded: outcomes of such members with other seeds.

    Raises:
        WhenceError: fewer than 3 members, or sizes that do not fit.
    """
    if len(kept) < 3:
        raise WhenceError(f"{len(kept)} members: expected at least 3 for a correlation")
    happened = outcomes - control
    foretold = -predictions(scores, ~kept)
    if foretold.shape != happened.shape:
        raise WhenceError(f"scores of {foretold.shape[1]} queries; the bank has {happened.shape[1]}")
    draws, count = Draws.make(len(happened), happened.shape[1], resamples, seed), happened.shape[1]
    pearson = draws.correlation(draws.centred(foretold), draws.centred(happened))
    spearman = draws.correlation(draws.ranks(foretold), draws.ranks(happened))
    square = (foretold**2).sum(axis=0)
    slopes = np.divide((foretold * happened).sum(axis=0), square, out=np.full(count, np.nan), where=square > 0)
    noise = float("nan") if reseeded is None else float(np.sqrt(((reseeded - control) ** 2).mean()))
    return LeaveOut(estimate(draws.mean(pearson), count), estimate(draws.mean(spearman), count),
                    float(np.nanmedian(slopes)) if np.isfinite(slopes).any() else float("nan"),
                    float(np.sqrt((happened**2).mean())), noise)
