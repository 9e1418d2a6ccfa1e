"""A bank's outcomes and the linear datamodeling score on them: arithmetic and intervals, no model and no torch.

Shapes: M members, Q queries, N rows, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RESAMPLES, LEVEL = 2000, 0.95
Interval = tuple[float, float, float]  # value, low, high


@dataclass(frozen=True)
class Bank:
    """M members, Q queries, N rows: kept bool [M, N]; a and b float64 [M, Q], outcomes under two batch orders.

    Members that were not made under order `b` are NaN there: they count in the score and not in the ceiling.
    """

    kept: np.ndarray
    a: np.ndarray
    b: np.ndarray

    @classmethod
    def read(cls, folder: Path) -> Bank:
        """All members that are there under order `a`, with what is there of `b`."""
        kept, a, b = [], [], []
        for path in sorted((folder / "a").glob("[0-9]*.npz")):
            first, other = np.load(path), folder / "b" / path.name
            second = np.load(other) if other.exists() else {"kept": first["kept"], "queries": first["queries"] * np.nan}
            if not np.array_equal(first["kept"], second["kept"]):
                raise SystemExit(f"{path} and {other} kept different rows; remove them and run bank.py")
            kept.append(first["kept"])
            a.append(first["queries"])
            b.append(second["queries"])
        both = sum(bool(np.isfinite(queries).all()) for queries in b)
        if both < 3:
            raise SystemExit(f"{folder}: {len(a)} members, {both} with both orders; make more with bank.py")
        return cls(np.stack(kept), np.stack(a), np.stack(b))

    @property
    def both(self) -> np.ndarray:
        """bool [M]: members that were made under both orders."""
        return np.isfinite(self.b).all(1)

    def of(self, truth: str) -> tuple[np.ndarray, np.ndarray]:
        """kept [m, N] and float64 [m, Q]: outcomes under `a`, `b` or their `mean`, of the members that have it."""
        members = np.ones(len(self.a), bool) if truth == "a" else self.both
        outcome = {"a": self.a, "b": self.b, "mean": (self.a + self.b) / 2}[truth]
        return self.kept[members], outcome[members]


def predictions(scores: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """float64 [M, Q]: the sum of each query's scores over the rows that each member keeps."""
    if scores.ndim != 2 or scores.shape[1] != kept.shape[1] or not np.isfinite(scores).all():
        raise ValueError(f"scores of shape {scores.shape}, {np.isfinite(scores).sum()} of them finite; expected finite "
                         f"[queries, {kept.shape[1]} rows]")
    return kept.astype(np.float64) @ scores.T.astype(np.float64)


@dataclass(frozen=True)
class Draws:
    """How often each member [R + 1, M] and each query [R + 1, Q] is in a resample; the first is the data themselves."""

    members: np.ndarray
    queries: np.ndarray

    @classmethod
    def make(cls, members: int, queries: int, resamples: int = RESAMPLES, seed: int = 0) -> Draws:
        """Both drawn with replacement, independently of each other."""
        rng = np.random.default_rng(seed)
        return cls(*(np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), size=resamples)])
                     for n in (members, queries)))

    def ranks(self, values: np.ndarray) -> np.ndarray:
        """float64 [R + 1, Q, M] from [M, Q]: ranks of the values in each resample, centred, length 1 (or 0).

        Drawn w_j times each, the members below i and half of those that tie with it make its mean rank:

            rank_i - 1/2 = sum_j w_j (1[x_j < x_i] + 1[x_j = x_i] / 2)        their mean over the resample: M / 2

        and the products of two such vectors, weighted by w through its root, are Spearman's correlation.
        """
        x = values.T[:, :, None]
        below = (x < x.swapaxes(1, 2)) + (x == x.swapaxes(1, 2)) / 2  # [Q, member j, member i]
        ranks = np.stack([self.members @ of_query for of_query in below], axis=1) - len(values) / 2
        ranks *= np.sqrt(self.members)[:, None]
        length = np.sqrt(np.einsum("rqm,rqm->rq", ranks, ranks))[:, :, None]
        return np.divide(ranks, length, out=ranks, where=length > 1e-9)

    @staticmethod
    def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """float64 [R + 1, Q]: rank correlation over the members of each resample, from `ranks`."""
        return np.einsum("rqm,rqm->rq", first, second)

    def mean(self, per_query: np.ndarray) -> np.ndarray:
        """float64 [R + 1] from [R + 1, Q]: mean over the queries of each resample."""
        return (self.queries * per_query).sum(1) / self.queries.sum(1)


def interval(resampled: np.ndarray) -> Interval:
    """The value on the data themselves and the ends of the percentile interval."""
    low, high = np.quantile(resampled[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(resampled[0]), float(low), float(high)


@dataclass(frozen=True)
class Result:
    """Intervals of everything asked: by method, its difference to the reference, and the ceiling."""

    lds: dict[str, Interval]
    difference: dict[str, Interval]
    per_query: dict[str, list[float]]
    reference: str
    agreement: Interval
    ceiling: Interval
    counts: dict[str, int]


def evaluate(scores: Mapping[str, np.ndarray], bank: Bank, reference: str, truth: str = "a",
             resamples: int = RESAMPLES) -> Result:
    """LDS of every method with its interval, paired differences to `reference`, and the ceiling of `truth`.

    On the mean of the two orders the ceiling follows from their agreement r by Spearman-Brown: sqrt(2 r / (1 + r)).
    """
    kept, outcome = bank.of(truth)
    draws = Draws.make(*outcome.shape, resamples=resamples)
    happened = draws.ranks(outcome)
    found, per_query = {}, {}
    for name, values in scores.items():
        told = predictions(values, kept)
        if told.shape != outcome.shape:
            raise ValueError(f"{name}: scores of {told.shape[1]} queries; the bank has {outcome.shape[1]}")
        rho = draws.spearman(draws.ranks(told), happened)
        found[name], per_query[name] = draws.mean(rho), rho[0].tolist()
    both = Draws.make(int(bank.both.sum()), outcome.shape[1], resamples)
    rho = both.spearman(both.ranks(bank.a[bank.both]), both.ranks(bank.b[bank.both]))
    agreement, ceiling = both.mean(rho), both.mean(np.sqrt(rho.clip(0)))
    if truth == "mean":
        ceiling = both.mean(np.sqrt(2 * rho.clip(0) / (1 + rho.clip(0))))
    return Result({name: interval(values) for name, values in found.items()},
                  {name: interval(values - found[reference]) for name, values in found.items()},
                  per_query, reference, interval(agreement), interval(ceiling),
                  {"members": len(kept), "both_orders": int(bank.both.sum()), "queries": outcome.shape[1],
                   "rows": kept.shape[1], "resamples": resamples})


def by_value(lds: Mapping[str, Interval]) -> list[str]:
    """Names, highest LDS first."""
    return sorted(lds, key=lambda name: -lds[name][0])
