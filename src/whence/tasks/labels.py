"""Labels of training rows and queries: reading, checking, and what they make relevant."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Int

from whence.base.errors import WhenceError
from whence.scores.lines import read_text

SHOWN = 12  # labels named in a message before it says how many more there are


def read_labels(path: str | Path, field: str) -> list[str]:
    """The label of every row, in row order, from JSONL (`.jsonl`, `.jsonl.gz`) or Parquet.

    In Parquet `field` is the column's name; `group` also finds the column `groups` that a run's
    `train.parquet` has. Whole numbers and booleans become their JSON text (`1`, `true`).

    Raises:
        WhenceError: missing or unreadable file; a line that is not a JSON object; a row without the field,
            or whose label is empty or not text, whole number or boolean (file, line and row are named).
    """
    path = Path(path)
    labels = _parquet_labels(path, field) if path.suffix == ".parquet" else _jsonl_labels(path, field)
    if not labels:
        raise WhenceError(f"{path}: no rows; expected one label for each row")
    return labels


def _jsonl_labels(path: Path, field: str) -> list[str]:
    labels = []
    for row, line in enumerate(read_text(path).rstrip().split("\n")):
        where = f"{path}, line {row + 1} (row {row})"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            if not line.strip():
                if row == 0:
                    return []
                raise WhenceError(f"{where}: empty line; labels are matched by row, so remove it") from None
            raise WhenceError(f"{where}: not valid JSON ({error.msg}); expected one object a line") from None
        if not isinstance(record, dict):
            raise WhenceError(f"{where}: a JSON {type(record).__name__}; expected an object with {field!r}")
        if field not in record:
            raise WhenceError(f"{where}: no field {field!r}; available: {_listed(sorted(record))}")
        labels.append(_label(record[field], f"{where}, field {field!r}"))
    return labels


def _parquet_labels(path: Path, field: str) -> list[str]:
    try:
        names = pq.read_schema(path).names
        column = "groups" if field == "group" and field not in names else field
        if column not in names:
            raise WhenceError(f"{path}: no column {field!r}; available: {_listed(names)}")
        values = pq.read_table(path, columns=[column]).column(0).to_pylist()
    except FileNotFoundError:
        raise WhenceError(f"{path}: no such file") from None
    except (OSError, pa.ArrowInvalid) as error:
        raise WhenceError(f"{path}: not a Parquet file ({error})") from None
    return [_label(value, f"{path}, row {row}, column {column!r}") for row, value in enumerate(values)]


def _label(value: object, where: str) -> str:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int):
        return json.dumps(value)
    raise WhenceError(f"{where}: label {value!r}; expected text, a whole number or a boolean")


def check_known(train_labels: Sequence[str], query_labels: Sequence[str],
                train_from: str = "the training labels", query_from: str = "the query labels") -> None:
    """Refuse query labels that no training row has: no ranking could be right for such a query.

    Raises:
        WhenceError: names the first such label, its row, how many queries are affected, and the known labels.
    """
    known = set(train_labels)
    unknown = [row for row, label in enumerate(query_labels) if label not in known]
    if unknown:
        raise WhenceError(f"{query_from}: query row {unknown[0]} has label {query_labels[unknown[0]]!r}, "
                          f"which no row of {train_from} has ({len(unknown)} of {len(query_labels)} queries "
                          f"are affected); known labels: {_listed(sorted(known))}. Correct the label, or "
                          "leave those queries out of scores and labels")


def label_codes(train_labels: Sequence[str], query_labels: Sequence[str]
                ) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " queries"]]:
    """Both lists of labels as whole numbers, the same number for the same label."""
    code = {label: i for i, label in enumerate(dict.fromkeys([*train_labels, *query_labels]))}
    return (np.array([code[label] for label in train_labels], dtype=np.int64),
            np.array([code[label] for label in query_labels], dtype=np.int64))


def relevance(train_labels: Sequence[str], query_labels: Sequence[str]) -> Bool[np.ndarray, "queries train"]:
    """Entry [q, j]: training row j has query q's label.

    >>> relevance(["a", "b", "a"], ["b", "a"]).astype(int)
    array([[0, 1, 0],
           [1, 0, 1]])
    """
    train, query = label_codes(train_labels, query_labels)
    return query[:, None] == train[None, :]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(n) for n in names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"
