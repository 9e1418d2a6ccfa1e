"""Read rows from a file, a saved folder or an object; nothing is interpreted yet but names of columns.

    .jsonl / .json [.gz]   one JSON object a line (or, in .json, one array of objects)
    .parquet
    FOLDER, FOLDER:SPLIT   what `datasets.save_to_disk` wrote
    a datasets.Dataset, a datasets.DatasetDict with `split`, a list of dicts
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from whence.base.errors import WhenceError
from whence.data.rows import Rows, did_you_mean

KINDS = ".jsonl, .json (each also .gz), .parquet, or a folder written by datasets.save_to_disk"


def read_rows(source: object, columns: Mapping[str, str] | None = None, split: str | None = None) -> Rows:
    """Read every row of `source`, its columns renamed by `columns` (our field -> their column).

    Args:
        source: a path, `FOLDER:SPLIT`, a `datasets.Dataset` or `DatasetDict`, or a list of dicts.
        columns: see `whence.data.rows.parse_columns`; columns not named keep their own name.
        split: which split of a `DatasetDict`.

    Raises:
        WhenceError: no such file, split or column, unknown kind of file, broken file or line, no rows.
    """
    if isinstance(source, str | Path):
        rows = _read_path(str(source), split)
    elif isinstance(source, list | tuple):
        _no_splits("the list given", split)
        rows = _from_records(source, "the list given", None)
    else:
        rows = _from_dataset(source, "the dataset given", split)
    if len(rows) == 0:
        raise WhenceError(f"{rows.source}: no rows")
    return rows.rename(columns or {})


def _read_path(source: str, split: str | None) -> Rows:
    path = Path(source)
    head, colon, tail = source.rpartition(":")
    if colon and not path.exists() and Path(head).exists():
        if split not in (None, tail):
            raise WhenceError(f"{source}: names the split {tail!r}, but split {split!r} is asked for too")
        path, split = Path(head), tail
    if not path.exists():
        raise WhenceError(f"{source}: no such file or folder")
    if path.is_dir():
        return _read_folder(path, split)
    _no_splits(str(path), split)
    suffixes = path.name.lower().removesuffix(".gz")
    if suffixes.endswith((".jsonl", ".json")):
        return _read_json(path)
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path)
    raise WhenceError(f"{path}: unknown kind of file; expected {KINDS}")


def _no_splits(name: str, split: str | None) -> None:
    if split is not None:
        raise WhenceError(f"{name}: split {split!r} is asked for, but it has no splits; leave that out")


def _read_json(path: Path) -> Rows:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise WhenceError(f"{path}: not a whole gzip file ({error})") from None
    content = content.removeprefix(b"\xef\xbb\xbf")  # some editors begin UTF-8 with a byte-order mark
    if content.lstrip()[:1] == b"[" and ".jsonl" not in path.name.lower():
        return _from_records(_parse(content, str(path)), str(path), None)
    records: list[Any] = []
    lines: list[int] = []
    for number, line in enumerate(content.split(b"\n"), start=1):  # JSON strings may hold U+2028 and the like
        if line.strip():
            records.append(_parse(line, f"{path}, row {len(records)} (line {number})"))
            lines.append(number)
    return _from_records(records, str(path), lines)


def _parse(text: bytes, where: str) -> Any:
    try:
        return json.loads(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise WhenceError(f"{where}: not UTF-8 ({error.reason} at byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise WhenceError(f"{where}: not valid JSON ({error.msg} at character {error.pos + 1}); "
                          f"expected one JSON object a line") from None


def _from_records(records: Sequence[Any], source: str, lines: list[int] | None) -> Rows:
    blank = Rows(source, {}, lines)
    for row, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise WhenceError(f"{blank.where(row)}: met {type(record).__name__} {record!r:.60}; expected an "
                              f'object such as {{"prompt": "...", "completion": "..."}}')
    names = dict.fromkeys(name for record in records for name in record)
    if records and not names:
        raise WhenceError(f"{source}: the rows have no columns")
    return Rows(source, {name: [record.get(name) for record in records] for name in names}, lines)


def _read_parquet(path: Path) -> Rows:
    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise WhenceError(f"{path}: not a Parquet file ({error})") from None
    return Rows(str(path), table.to_pydict())


def _read_folder(path: Path, split: str | None) -> Rows:
    from datasets import load_from_disk

    try:
        loaded = load_from_disk(str(path))
    except (OSError, ValueError) as error:  # Arrow's and JSON's errors are ValueErrors
        raise WhenceError(f"{path}: not a folder written by datasets.save_to_disk ({error})") from None
    return _from_dataset(loaded, str(path), split)


def _from_dataset(dataset: object, name: str, split: str | None) -> Rows:
    from datasets import Dataset, DatasetDict

    if isinstance(dataset, DatasetDict):
        splits = ", ".join(dataset)
        if split is None:
            raise WhenceError(f"{name}: has the splits {splits}; say which with FOLDER:SPLIT or split=")
        if split not in dataset:
            raise WhenceError(f"{name}: no split {split!r}{did_you_mean(split, dataset)}; "
                              f"the splits are {splits}")
        dataset, name, split = dataset[split], f"{name}:{split}", None
    if not isinstance(dataset, Dataset):
        raise WhenceError(f"cannot read rows from {type(dataset).__name__}; expected a path ({KINDS}), "
                          f"a datasets.Dataset or a list of dicts")
    _no_splits(name, split)
    return Rows(name, dataset.to_dict())
