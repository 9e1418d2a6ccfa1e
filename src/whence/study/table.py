"""The tidy table of a study: one number a row, with everything that tells which number it is.

    experiment, task, model, tune, training, seed    what the study's file calls them
    cell                                             key of the cell that found it
    scoring, method, step, damping, query            of the number, where they apply (query -1: of all together)
    metric, value

Tables and plots are made from it alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from whence.base.errors import WhenceError
from whence.base.files import atomic_file

LABELS = ("experiment", "task", "model", "tune", "training", "seed")
OF_ROW: dict[str, tuple[pa.DataType, Any]] = {
    "scoring": (pa.string(), ""), "method": (pa.string(), ""), "step": (pa.int64(), -1),
    "damping": (pa.float64(), float("nan")), "query": (pa.int64(), -1), "metric": (pa.string(), None),
    "value": (pa.float64(), None)}


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store what one cell found.

    Raises:
        WhenceError: a row without metric or value, or with a column that is none.
    """
    for row in rows:
        if unknown := set(row) - set(OF_ROW):
            raise WhenceError(f"{path}: a row with {sorted(unknown)[0]!r}; expected {', '.join(OF_ROW)}")
        if "metric" not in row or "value" not in row:
            raise WhenceError(f"{path}: the row {dict(row)} lacks metric or value")
    columns = {name: pa.array([row.get(name, default) for row in rows], kind)
               for name, (kind, default) in OF_ROW.items()}
    with atomic_file(path) as part:
        pq.write_table(pa.table(columns), part)


def tidy(found: Iterable[tuple[Mapping[str, Any], str, Path]]) -> pd.DataFrame:
    """One table of many cells: (labels, key, path of its rows) each."""
    parts = []
    for labels, key, path in found:
        rows = pq.read_table(path).to_pandas()
        for place, name in enumerate((*LABELS, "cell")):
            rows.insert(place, name, key if name == "cell" else labels[name])
        parts.append(rows)
    if not parts:
        return pd.DataFrame({name: [] for name in (*LABELS, "cell", *OF_ROW)})
    table = pd.concat(parts, ignore_index=True)
    words = [*(name for name in LABELS if name != "seed"), "cell", "scoring", "method", "metric"]
    return table.astype(dict.fromkeys(words, "category"))


def write_tidy(table: pd.DataFrame, path: str | Path) -> None:
    """Store the table, atomically."""
    with atomic_file(path) as part:
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), part)


def read_tidy(path: str | Path) -> pd.DataFrame:
    """Read it again.

    Raises:
        WhenceError: no such file, or not a table of a study.
    """
    try:
        table = pq.read_table(path).to_pandas()
    except FileNotFoundError:
        raise WhenceError(f"{path}: no such file; `whence study` writes it") from None
    except (OSError, pa.ArrowException) as error:
        raise WhenceError(f"{path}: not a Parquet file ({error})") from None
    if missing := [name for name in (*LABELS, "cell", *OF_ROW) if name not in table.columns]:
        raise WhenceError(f"{path}: has no column {missing[0]!r}; expected the table that `whence study` writes")
    return table
