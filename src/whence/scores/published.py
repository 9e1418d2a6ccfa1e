"""`read_scores`: our own folder, a `.npy` matrix, or a CSV as the literature publishes it, as `Scores`.

The published form (the repository of arXiv 2409.19998): rows = queries, columns = training rows, written by
pandas with `index_label=False`, so that the header has one name fewer than the rows have fields, and **most
influential = most negative**. Ours is positive = proponent, so such values are negated on reading.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv

from whence.base.errors import WhenceError
from whence.scores.lines import read_text
from whence.scores.matrix import Scores

MostInfluential = Literal["lowest", "highest"]
WIDEST_ROW = 1 << 28  # bytes of a CSV parsed at once; a row must fit
INDEX_NAMES = frozenset({"", "unnamed: 0", "index", "id", "query", "query_id", "query_index"})


def read_scores(path: str | Path, most_influential: MostInfluential | None = None) -> Scores:
    """Read a score matrix [Q, N] into our convention (rows = queries, positive = proponent).

    | path | what it is | `most_influential` unless told otherwise |
    |---|---|---|
    | a folder with `scores.json` | what `Scores.write` wrote | fixed: it is in our convention |
    | `*.npy` | a matrix [Q, N] | `highest` |
    | `*.csv`, `*.csv.gz` | see the head of this file | `lowest`: the values are negated |

    A CSV's first column must be the index of the queries: either the header lacks a name for it, or its name
    is empty or says so (`index`, `id`, `query`, ...). Whole-number names that are 0..n-1 in another order are
    refused, because labels are matched by position.

    Args:
        path: file or folder.
        most_influential: which end of the numbers is the strongest proponent.

    Raises:
        WhenceError: missing or unreadable file; ragged row; a cell that is not a finite number (file, line
            and column are named); no index column; names out of order; a sign given for our own folder.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / "scores.json").is_file():
            raise WhenceError(f"{path}: a folder without scores.json; expected a folder of scores, a .npy "
                              "or a CSV file")
        if most_influential is not None:
            raise WhenceError(f"{path}: our own scores state their sign (positive = proponent); "
                              f"leave out most-influential={most_influential}")
        return Scores.read(path)
    if path.suffix == ".npy":
        values, default = _read_npy(path), "highest"
    elif path.suffix == ".csv" or path.suffixes[-2:] == [".csv", ".gz"]:
        values, default = _read_csv(path), "lowest"
    elif path.exists():
        raise WhenceError(f"{path}: not a kind of score file we read; expected a folder of scores, .npy, "
                          ".csv or .csv.gz")
    else:
        raise WhenceError(f"{path}: no such file or folder")
    end = most_influential or default
    name = path.name.removesuffix(".gz").removesuffix(".csv").removesuffix(".npy")
    return Scores(-values if end == "lowest" else values, method=name, unit="as in the file",
                  facts={"file": path.name, "most_influential_in_file": end})


def _read_npy(path: Path) -> np.ndarray:
    try:
        values = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise WhenceError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise WhenceError(f"{path}: not a .npy file of numbers ({error})") from None
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise WhenceError(f"{path}: holds {values.dtype} of shape {values.shape}; expected real numbers "
                          "[queries, train]")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        q, j = (int(i) for i in bad[0])
        raise WhenceError(f"{path}: query row {q}, column {j} is {values[q, j]}; {len(bad)} of "
                          f"{values.size} values are not finite numbers; mend or remove them where the "
                          "scores were made")
    return values.astype(np.float64)


def _read_csv(path: Path) -> np.ndarray:
    text = read_text(path)
    rows = csv.reader(io.StringIO(text, newline=""))
    header, first = next(rows, None), next(rows, None)
    if header is None or first is None:
        raise WhenceError(f"{path}: {'empty' if header is None else 'a header and no rows'}; "
                          f"expected a header line and one line for each query")
    columns = _training_names(path, header, len(first))
    # One fast, exact parse for good files; only a bad one is walked through again, to name the cell.
    names = [str(i) for i in range(len(columns) + 1)]
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(text.encode()),
            read_options=pa.csv.ReadOptions(column_names=names, skip_rows=1, block_size=WIDEST_ROW),
            convert_options=pa.csv.ConvertOptions(
                column_types={n: pa.string() if n == "0" else pa.float64() for n in names}, null_values=[]))
    except pa.ArrowInvalid as error:
        _raise_first_fault(path, text, columns)
        raise WhenceError(f"{path}: not a CSV of scores ({error})") from None
    values = np.stack([table.column(n).to_numpy() for n in names[1:]], axis=1)
    if not np.isfinite(values).all():
        _raise_first_fault(path, text, columns)
    _check_order(path, table.column("0").to_pylist(), "rows", "query indices")
    return values


def _training_names(path: Path, header: Sequence[str], fields: int) -> list[str]:
    """The names of the training columns, once it is certain that the first field is the query's index."""
    if fields == len(header) + 1:
        columns = [name.strip() for name in header]
    elif fields == len(header) and header[0].strip().lower() in INDEX_NAMES:
        columns = [name.strip() for name in header[1:]]
    elif fields == len(header):
        raise WhenceError(f"{path}, line 1: the header has as many names as line 2 has fields ({fields}) "
                          f"and its first name is {header[0]!r}, so the first column may be the query's "
                          "index or a score; leave that name out, empty it, or call it 'index'")
    else:
        raise WhenceError(f"{path}, line 2: {fields} fields under a header of {len(header)} names; expected "
                          "one field more (the query's index and one score for each training row)")
    if not columns:
        raise WhenceError(f"{path}, line 1: no training columns")
    _check_order(path, columns, "columns", "training row names")
    return columns


def _check_order(path: Path, names: Sequence[str], what: str, plural: str) -> None:
    """Refuse names that occur twice, and 0..n-1 out of order: position is all that ties scores to labels."""
    if len(set(names)) != len(names):
        seen: set[str] = set()
        at = next(i for i, n in enumerate(names) if n in seen or seen.add(n))  # type: ignore[func-returns-value]
        raise WhenceError(f"{path}: {plural} must be unique, but {names[at]!r} is there again at place {at} "
                          f"of the {what}")
    if all(n.isdecimal() for n in names):
        numbers = [int(n) for n in names]
        if sorted(numbers) == list(range(len(numbers))) and numbers != sorted(numbers):
            at = next(i for i, n in enumerate(numbers) if n != i)
            raise WhenceError(f"{path}: {what} are out of order: place {at} is named {names[at]}; labels "
                              f"are matched by position, so sort the {what} by number first")


def _raise_first_fault(path: Path, text: str, columns: Sequence[str]) -> None:
    """Raise for the first ragged row or the first cell that is not a finite number."""
    reader = csv.reader(io.StringIO(text, newline=""))
    next(reader)
    filled = (row for row in reader if row)
    for query, row in enumerate(filled):
        where = f"{path}, line {reader.line_num} (query row {query})"
        if len(row) != len(columns) + 1:
            raise WhenceError(f"{where}: {len(row)} fields; expected {len(columns) + 1} "
                               f"(the query's index and {len(columns)} scores)")
        for j, cell in enumerate(row[1:]):
            try:
                finite = bool(np.isfinite(float(cell)))
            except ValueError:
                finite = False
            if not finite:
                raise WhenceError(f"{where}, column {columns[j]!r} (field {j + 2}): {cell!r} is not a "
                                   "finite number; mend or remove it where the scores were made")
