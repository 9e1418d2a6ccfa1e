"""`Ranking`: the order in which scores put the training rows, and which of them are tied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from whence.base.errors import WhenceError


@dataclass(frozen=True)
class Ranking:
    """For every query the training rows from the highest score to the lowest; equal scores in row order.

    Attributes:
        order: order[q, p] = the training row at place p (0 = top).
        tie_first: the first place of the run of equal scores that place p lies in.
        tie_last: the last place of that run.
    """

    order: Int[np.ndarray, "queries train"]
    tie_first: Int[np.ndarray, "queries train"]
    tie_last: Int[np.ndarray, "queries train"]

    @classmethod
    def of(cls, values: Float[np.ndarray, "queries train"]) -> Ranking:
        """Rank scores (positive = proponent). They must be finite; `Scores` guarantees that.

        Raises:
            WhenceError: no queries or no training rows.
        """
        if 0 in values.shape:
            raise WhenceError(f"scores are [{values.shape[0]} queries, {values.shape[1]} training rows]: "
                              f"there is nothing to rank")
        order = np.argsort(-values, axis=1, kind="stable")
        ranked = np.take_along_axis(values, order, axis=1)
        place = np.broadcast_to(np.arange(values.shape[1]), values.shape)
        differs = ranked[:, 1:] != ranked[:, :-1]
        edge = np.ones((len(values), 1), dtype=bool)
        first = np.maximum.accumulate(np.where(np.hstack([edge, differs]), place, 0), axis=1)
        last = np.where(np.hstack([differs, edge]), place, values.shape[1])
        last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
        return cls(order, first, last)

    def sort(self, columns: Shaped[np.ndarray, "queries train"]) -> Shaped[np.ndarray, "queries train"]:
        """Entries [q, training row] brought into the order of the ranking: [q, place]."""
        return np.take_along_axis(columns, self.order, axis=1)

    def ranks(self) -> Float[np.ndarray, "queries train"]:
        """Entry [q, j]: the rank of training row j, 1 = lowest score; equal scores share their mean rank."""
        ranks = np.empty(self.order.shape)
        mean = self.order.shape[1] - (self.tie_first + self.tie_last) / 2
        np.put_along_axis(ranks, self.order, mean, axis=1)
        return ranks

    def tied_top(self) -> int:
        """How many queries have more than one training row with the highest score."""
        return int((self.tie_last[:, 0] > 0).sum())
