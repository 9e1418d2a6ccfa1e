"""Hubs: training rows that come first for many queries whatever is asked.

A row with a huge gradient is the top row of most queries; then accuracy is decided by a handful of rows, and
says little about the method. Skewness of the k-occurrence is that of Radovanovic et al. 2010 (JMLR 11).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from whence.tasks.ranking import Ranking


@dataclass(frozen=True)
class Hubs:
    """Facts about who comes first.

    Attributes:
        top1_share: share of the queries whose top row is the most common top row.
        top1_row: that training row (0-based; the lowest where several are as common).
        distinct_top1: different training rows that are the top row of some query.
        tied_top1: queries whose highest score several training rows have (row order then decides).
        column_rms_ratio: largest / median root mean square of a training row's scores; None where the median
        is 0. k: depth of the k-occurrence. k_skewness: third standardised moment over training rows of "in
        the top k of how many queries"; about 0
            without hubs, large with; None where all rows occur equally often.
    """

    top1_share: float
    top1_row: int
    distinct_top1: int
    tied_top1: int
    column_rms_ratio: float | None
    k: int
    k_skewness: float | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def hub_facts(values: Float[np.ndarray, "queries train"], k: int = 10) -> Hubs:
    """Hub facts of scores [Q, N]; k is lowered to N where there are fewer training rows."""
    ranking = Ranking.of(values)
    queries, n_train = values.shape
    first = np.bincount(ranking.order[:, 0], minlength=n_train)
    k = min(k, n_train)
    occurs = np.bincount(ranking.order[:, :k].ravel(), minlength=n_train)
    spread = occurs - occurs.mean()
    variance = float((spread**2).mean())
    rms = np.sqrt((values**2).mean(axis=0))
    median = float(np.median(rms))
    return Hubs(top1_share=float(first.max() / queries), top1_row=int(first.argmax()),
                distinct_top1=int((first > 0).sum()), tied_top1=ranking.tied_top(),
                column_rms_ratio=float(rms.max() / median) if median > 0 else None,
                k=k, k_skewness=float((spread**3).mean() / variance**1.5) if variance > 0 else None)
