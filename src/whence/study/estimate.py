"""Means with intervals out of a study's table: seeds and what is asked under them are both drawn anew.

A row of the matrix is a seed, a column a (task, model, tune, query): each resample draws seeds and columns and takes
the mean of what was drawn (`whence.tasks.interval.bootstrap_seeds`). Differences are paired: cell by cell first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from whence.tasks.interval import Estimate, bootstrap_seeds

COLUMNS = ["task", "model", "tune", "query"]
MEANS = COLUMNS[:-1]
NOTHING = Estimate(float("nan"), float("nan"), float("nan"), 0)


def pick(table: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """The rows whose columns have these values; a list or tuple stands for any of its members."""
    keep = np.ones(len(table), dtype=bool)
    for name, value in wanted.items():
        column = table[name]
        keep &= (column.isin(list(value)) if isinstance(value, list | tuple) else column == value).to_numpy()
    return table[keep]


def matrix(rows: pd.DataFrame, columns: list[str] | None = None) -> pd.DataFrame:
    """[seeds, columns]; several methods or dampings of one query are averaged."""
    return rows.pivot_table(index="seed", columns=columns or COLUMNS, values="value", aggfunc="mean", observed=True)


def estimate(rows: pd.DataFrame) -> Estimate:
    """The mean of `value` with its interval; nothing where there is nothing."""
    if rows.empty:
        return NOTHING
    return bootstrap_seeds(matrix(rows).to_numpy())


def difference(rows: pd.DataFrame, other: pd.DataFrame) -> Estimate:
    """Mean of `rows` minus `other`, paired by (seed, task, model, tune, query), or without the query where the two ask
    other queries."""
    if rows.empty or other.empty:
        return NOTHING
    a, b = matrix(rows), matrix(other)
    names = a.columns.droplevel("query").intersection(b.columns.droplevel("query"))
    ours, theirs = (set(m.columns[m.columns.droplevel("query").isin(names)]) for m in (a, b))
    return difference_of(a, b) if ours == theirs else difference_of(matrix(rows, MEANS), matrix(other, MEANS))


def difference_of(a: pd.DataFrame, b: pd.DataFrame) -> Estimate:
    """The same of two matrices."""
    common = a.columns.intersection(b.columns)
    seeds = a.index.intersection(b.index)
    if not len(common) or not len(seeds):
        return NOTHING
    return bootstrap_seeds((a.loc[seeds, common] - b.loc[seeds, common]).to_numpy())


def above(found: Estimate, floor: float = 0.0) -> bool:
    """Whether the whole interval lies above."""
    return found.n > 0 and found.low > floor


def below(found: Estimate, ceiling: float = 0.0) -> bool:
    """Whether the whole interval lies below."""
    return found.n > 0 and found.high < ceiling


def signed(found: Estimate) -> str:
    """`+.123 [.045, .200]`."""
    if found.n == 0:
        return "-"
    return f"+{found}" if found.value > 0 else str(found)


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def by(rows: pd.DataFrame, name: str) -> Mapping[Any, pd.DataFrame]:
    """The rows of each value of a column that occurs."""
    return dict(iter(rows.groupby(name, observed=True, sort=False)))
