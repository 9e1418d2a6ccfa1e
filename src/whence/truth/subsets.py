"""Which training rows a retrained model sees: a `Subset` is one member of a bank.

Shapes: N training rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from whence.base.errors import WhenceError


@dataclass(frozen=True, eq=False)
class Subset:
    """The rows that are kept, and the seed they are trained with.

    Attributes:
        name: for people; two subsets of the same rows and seed are one member whatever they are called.
        kept: which rows are trained on.
        seed: of the data order, LoRA's start and dropout; None is the recipe's own.

    Raises:
        WhenceError: no row is kept.
    """

    name: str
    kept: Bool[np.ndarray, " N"]
    seed: int | None = None

    def __post_init__(self) -> None:
        if not self.kept.any():
            raise WhenceError(f"subset {self.name!r}: keeps none of {len(self.kept)} rows; expected at least one")

    @property
    def key(self) -> str:
        """16 hex digits of what decides the member: the kept rows and the seed."""
        digest = hashlib.sha256(f"{len(self.kept)}|{self.seed}|".encode())
        digest.update(np.packbits(self.kept).tobytes())
        return digest.hexdigest()[:16]

    @property
    def left_out(self) -> np.ndarray:
        """Indices of the rows that are not trained on."""
        return np.flatnonzero(~self.kept)


def all_rows(count: int, seeds: Iterable[int | None] = (None,)) -> list[Subset]:
    """Every row, once for each seed: "remove nothing", the control that a truth is measured against."""
    return [Subset("all" if seed is None else f"all, seed {seed}", np.ones(count, dtype=bool), seed) for seed in seeds]


def random_subsets(count: int, members: int, alpha: float = 0.5, seed: int = 0) -> list[Subset]:
    """`members` random subsets of `round(alpha N)` rows; member m follows from `seed` and m alone.

    Raises:
        WhenceError: `alpha` keeps no row, or all of them.
    """
    size = round(alpha * count)
    if not 0 < size < count:
        raise WhenceError(f"alpha={alpha}: keeps {size} of {count} rows; expected at least one and not all")
    return [_keeping(f"random {m}", count, np.random.default_rng([seed, m]).permutation(count)[:size])
            for m in range(members)]


def leave_one_out(count: int, rows: Iterable[int] | None = None) -> list[Subset]:
    """One subset for each of `rows` (default all): everything but it."""
    return [leave_out(count, {f"without row {row}": [row]})[0] for row in (range(count) if rows is None else rows)]


def leave_out(count: int, lists: Mapping[str, Sequence[int] | np.ndarray]) -> list[Subset]:
    """One subset for each named list of rows: everything but these, such as the top k of a method.

    Raises:
        WhenceError: a row that is not there, or a list of all rows.
    """
    found = []
    for name, rows in lists.items():
        kept, out = np.ones(count, dtype=bool), np.asarray(rows, dtype=np.int64)
        if len(out) and (out.min() < 0 or out.max() >= count):
            raise WhenceError(f"subset {name!r}: row {int(out.max())} is not one of {count} (0 to {count - 1})")
        kept[out] = False
        found.append(Subset(name, kept))
    return found


def by_group(groups: Sequence[str | None]) -> list[Subset]:
    """One subset for each group: everything but its rows.

    Raises:
        WhenceError: a row without a group.
    """
    if None in groups:
        raise WhenceError(f"row {list(groups).index(None)} has no group; expected one for every row")
    return leave_out(len(groups), {f"without group {name}": [i for i, g in enumerate(groups) if g == name]
                                   for name in dict.fromkeys(map(str, groups))})


def _keeping(name: str, count: int, rows: np.ndarray) -> Subset:
    kept = np.zeros(count, dtype=bool)
    kept[rows] = True
    return Subset(name, kept)
