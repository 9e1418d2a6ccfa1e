"""Brittleness: how few rows must go before an answer changes, and does a method find them?

For a query and a method the k rows it puts first are left out and the model is trained again. Beside it k random rows,
several draws of them, and k rows of a lexical method: what removing anything, or anything that looks alike, does.

    change[q] = outcome of the query without the rows - outcome with all of them, same seed        (minus: it got worse)
    flipped[q] = the greedy answer was the response, and no longer is

Ilyas et al. 2022 (arXiv 2202.00622), section 4.1 (data support); Park et al. 2023 (arXiv 2303.14186), section 5.
Members are those of a bank: methods that agree on the rows share one.

Shapes: Q queries, N rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from whence.base.errors import WhenceError
from whence.data.examples import Examples
from whence.measure.measurement import Measurement
from whence.tasks.interval import Estimate, bootstrap_mean
from whence.truth.bank import Bank
from whence.truth.subsets import Subset, all_rows, leave_out

RANDOM = "random rows"


@dataclass(frozen=True)
class Removed:
    """What leaving out the first k rows of a method did, means over queries with 95 % intervals.

    Attributes:
        change: of the measurement, in its unit; below 0 where it got worse.
        flipped: share of the queries answered before that no longer are; NaN where none was.
        against_random: change less that of random rows, paired by query: below 0 where the method finds rows that
            matter more than any.
        per_query: change of each query.
    """

    change: Estimate
    flipped: Estimate
    against_random: Estimate
    per_query: Float[np.ndarray, " Q"]


@dataclass(frozen=True)
class Brittleness:
    """Of every method and number of rows.

    Attributes:
        removed: by (method, k); the method `random rows` is the control.
        members: retrained models it took.
        unit: of the changes.
    """

    removed: Mapping[tuple[str, int], Removed]
    members: int
    unit: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"unit": self.unit, "members": self.members, "removed": [
            {"method": method, "k": k, **{name: getattr(one, name).to_json() for name in
                                          ("change", "flipped", "against_random")}}
            for (method, k), one in self.removed.items()]}


def brittleness(bank: Bank, scores: Mapping[str, Float[np.ndarray, "Q N"]], queries: Examples, ks: Sequence[int], *,
                measurement: Measurement | None = None, draws: int = 3, seed: int = 0,
                **options: Any) -> Brittleness:
    """Leave out the first k rows of every method for every query, and as many random ones, and train again.

    Args:
        ks: numbers of rows.
        draws: of random rows a query and k; their mean is the control.
        options: those of `Bank.outcomes` (workers, threads, device).

    Raises:
        WhenceError: no scores, scores of another shape, a method called `random rows`, or a k that leaves nothing.
    """
    count, shape = len(bank.train), (len(queries), len(bank.train))
    if not scores or RANDOM in scores:
        raise WhenceError(f"methods {list(scores)}: expected one at least, and none called {RANDOM!r}")
    for name, values in scores.items():
        if values.shape != shape:
            raise WhenceError(f"{name}: scores of shape {list(values.shape)}; expected {list(shape)}")
    if bad := [k for k in ks if not 0 < k < count]:
        raise WhenceError(f"k={bad[0]}: expected 1 to {count - 1} of {count} rows")
    rng = np.random.default_rng(seed)
    wanted: dict[tuple[str, int], list[list[Subset]]] = {}
    for k in ks:
        wanted[RANDOM, k] = [[_without(count, rng.permutation(count)[:k]) for _ in range(draws)] for _ in queries.ids]
        for name, values in scores.items():
            order = np.argsort(-values, axis=1, kind="stable")
            wanted[name, k] = [[_without(count, order[q, :k])] for q in range(len(queries))]
    members = {subset.key: subset for lists in wanted.values() for of_query in lists for subset in of_query}
    control = bank.outcomes(all_rows(count), queries, measurement, **options)
    made = bank.outcomes(list(members.values()), queries, measurement, **options)
    place = {key: m for m, key in enumerate(members)}
    answered = control.matches[0]

    def changes(lists: list[list[Subset]]) -> tuple[np.ndarray, np.ndarray]:
        at = [[place[subset.key] for subset in of_query] for of_query in lists]
        change = np.array([np.mean(made.values[rows, q]) - control.values[0, q] for q, rows in enumerate(at)])
        flipped = np.array([np.mean(~made.matches[rows, q]) if answered[q] else np.nan for q, rows in enumerate(at)])
        return change, flipped

    found = {key: changes(lists) for key, lists in wanted.items()}
    return Brittleness({(name, k): Removed(bootstrap_mean(change), bootstrap_mean(flipped),
                                           bootstrap_mean(change - found[RANDOM, k][0]), change)
                        for (name, k), (change, flipped) in found.items()}, len(members) + 1, made.unit)


def _without(count: int, rows: np.ndarray) -> Subset:
    return leave_out(count, {f"without {len(rows)} rows": rows})[0]
