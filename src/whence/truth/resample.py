"""Bootstrap over the members and the queries of a bank together, and rank correlations in each resample.

Shapes: M members, Q queries, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from whence.tasks.interval import LEVEL, RESAMPLES, Estimate

NUMBERS = 40_000_000  # of one array of ranks


@dataclass(frozen=True)
class Draws:
    """How often each member and each query is in a resample; the first resample is the data themselves."""

    members: Float[np.ndarray, "R M"]
    queries: Float[np.ndarray, "R Q"]

    @classmethod
    def make(cls, members: int, queries: int, resamples: int = RESAMPLES, seed: int = 0) -> Draws:
        """Both drawn with replacement, independently of each other."""
        rng = np.random.default_rng(seed)
        return cls(*(np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), size=resamples)])
                     for n in (members, queries)))

    def ranks(self, values: Float[np.ndarray, "M Q"]) -> Float[np.ndarray, "R Q M"]:
        """Ranks of the values in each resample, centred, of length 1 (or 0 where all tie).

        Drawn w_j times each, the members below i and half of those that tie with it make its mean rank:

            rank_i - 1/2 = sum_j w_j (1[x_j < x_i] + 1[x_j = x_i] / 2)        their mean over the resample: M / 2

        and the products of two such vectors, weighted by w through its root, are Spearman's correlation.
        """
        x = values.T[:, :, None]
        below = (x < x.swapaxes(1, 2)) + (x == x.swapaxes(1, 2)) / 2  # [Q, member j, member i]
        ranks = np.stack([self.members @ of_query for of_query in below], axis=1) - len(values) / 2
        return self._unit(ranks)

    def centred(self, values: Float[np.ndarray, "M Q"]) -> Float[np.ndarray, "R Q M"]:
        """The values less their mean in each resample, of length 1: products of two such are Pearson's correlation."""
        means = self.members @ values / self.members.sum(axis=1, keepdims=True)
        return self._unit(values.T[None] - means[:, :, None])

    def _unit(self, vectors: np.ndarray) -> np.ndarray:
        vectors *= np.sqrt(self.members)[:, None]
        length = np.sqrt(np.einsum("rqm,rqm->rq", vectors, vectors))[:, :, None]
        return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 1e-9 * np.abs(vectors).max())

    @staticmethod
    def correlation(first: Float[np.ndarray, "R Q M"], second: Float[np.ndarray, "R Q M"]) -> Float[np.ndarray, "R Q"]:
        """Of each query over the members of each resample."""
        return np.einsum("rqm,rqm->rq", first, second)

    def mean(self, per_query: Float[np.ndarray, "R Q"]) -> Float[np.ndarray, " R"]:
        """Over the queries of each resample."""
        return (self.queries * per_query).sum(axis=1) / self.queries.sum(axis=1)


def affordable(members: int, queries: int, most: int = RESAMPLES) -> int:
    """As many resamples as keep their ranks within some hundred MB; 200 at least."""
    return int(np.clip(NUMBERS // (members * queries), 200, most))


def estimate(resampled: Float[np.ndarray, " R"], count: int) -> Estimate:
    """The value on the data themselves with the percentile interval over resamples.

    Drawing few members twice lowers a rank correlation by about one in a hundred, so an interval reaches a little
    further down than up.
    """
    low, high = np.quantile(resampled[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(resampled[0]), float(low), float(high), count)


def fisher_interval(r: float, count: int) -> tuple[float, float]:
    """95 % interval of a rank correlation over `count` members, by Fisher's z with the variance of Bonett and Wright.

        z = atanh r,  var z = (1 + r^2 / 2) / (count - 3)        Bonett & Wright 2000
    """
    if count < 4:
        return -1.0, 1.0
    half = 1.959964 * np.sqrt((1 + r**2 / 2) / (count - 3))
    z = np.arctanh(np.clip(r, -0.999999, 0.999999))
    return float(np.tanh(z - half)), float(np.tanh(z + half))
