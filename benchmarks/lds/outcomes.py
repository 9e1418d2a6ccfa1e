"""A bank's outcomes and the linear datamodeling score on them, under one of two batch orders or their mean.

Shapes: M members, Q queries, N rows, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whence.base.files import atomic_file
from whence.truth.lds import predictions
from whence.truth.resample import Draws

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
        """All members that are there under order `a`, with what is there of `b`; or what `write` left in a file."""
        if folder.is_file():
            with np.load(folder) as kept_together:
                return cls(**{name: kept_together[name] for name in ("kept", "a", "b")})
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

    def write(self, path: Path) -> None:
        """One .npz of all that a score needs."""
        with atomic_file(path) as part, part.open("wb") as file:
            np.savez_compressed(file, **vars(self))

    @property
    def both(self) -> np.ndarray:
        """bool [M]: members that were made under both orders."""
        return np.isfinite(self.b).all(1)

    def of(self, truth: str) -> tuple[np.ndarray, np.ndarray]:
        """kept [m, N] and float64 [m, Q]: outcomes under `a`, `b` or their `mean`, of the members that have it."""
        members = np.ones(len(self.a), bool) if truth == "a" else self.both
        outcome = {"a": self.a, "b": self.b, "mean": (self.a + self.b) / 2}[truth]
        return self.kept[members], outcome[members]


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
        told = predictions(values, kept, name)
        if told.shape != outcome.shape:
            raise ValueError(f"{name}: scores of {told.shape[1]} queries; the bank has {outcome.shape[1]}")
        rho = draws.correlation(draws.ranks(told), happened)
        found[name], per_query[name] = draws.mean(rho), rho[0].tolist()
    both = Draws.make(int(bank.both.sum()), outcome.shape[1], resamples)
    rho = both.correlation(both.ranks(bank.a[bank.both]), both.ranks(bank.b[bank.both]))
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
