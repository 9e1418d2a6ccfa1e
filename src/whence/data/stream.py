"""Rows of a corpus one after the other, never all of them at once.

    .jsonl / .json [.gz]   line by line (a .json that is one array cannot be streamed)
    .parquet               a few rows at a time; pyarrow holds one row group
    an iterable of dicts   a generator, a `datasets.Dataset`, a list

A row is judged by itself: whether it can be used does not depend on the rows it is read together with.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from whence.base.errors import WhenceError
from whence.data.examples import Examples
from whence.data.rows import FIELDS, Rows, met

BATCH = 256  # rows of a Parquet file that are Python objects at once
KINDS = ".jsonl or .json with one object a line (each also .gz), .parquet, or an iterable of dicts"
Encode = Callable[[Rows], Examples]


@dataclass(frozen=True)
class RawRow:
    """A row as it was met: the bytes of a line, or an object; `number` counts from 0, `line` from 1."""

    number: int
    content: object
    line: int | None = None

    def digest(self, before: bytes) -> bytes:
        """Hash of this row and of all before it, 16 bytes."""
        content = self.content if isinstance(self.content, bytes) else json.dumps(
            self.content, sort_keys=True, default=str).encode()
        return hashlib.blake2b(before + content, digest_size=16).digest()


@dataclass(frozen=True)
class Part:
    """Some rows of a corpus, encoded.

    Attributes:
        examples: those that can be used; their ids are the numbers of the rows, as strings.
        names: their own ids, or else their numbers; nothing makes sure that a whole corpus has no id twice.
        numbers: where they stand in the corpus.
        bad: for each row that cannot be used, an error that names it.
    """

    examples: Examples
    names: tuple[str, ...]
    numbers: tuple[int, ...]
    bad: tuple[str, ...]


def stream_rows(source: object) -> tuple[str, Iterator[RawRow]]:
    """`(name, rows)` of a corpus; nothing is read yet but the head of a Parquet file.

    Raises:
        WhenceError: no such file, or a kind that cannot be streamed; while iterating, a broken file.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.is_file():
            raise WhenceError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}; expected {KINDS}")
        if path.suffix.lower() == ".parquet":
            return str(path), _parquet(path)
        if path.name.lower().removesuffix(".gz").endswith((".jsonl", ".json")):
            return str(path), _lines(path)
        raise WhenceError(f"{path}: unknown kind of file; expected {KINDS}")
    if isinstance(source, Mapping | bytes) or not isinstance(source, Iterable):
        raise WhenceError(f"cannot stream rows from {type(source).__name__}; expected a path ({KINDS})")
    return "the rows given", (RawRow(number, record) for number, record in enumerate(source))


def encode_part(raw: Sequence[RawRow], source: str, columns: Mapping[str, str], encode: Encode) -> Part:
    """Encode some rows; those that cannot be used are told apart.

    Where rows fail together, halves of them are tried, down to single ones.

    Args:
        columns: our field -> their column. Rows may lack the columns of `id` and `group`.
        encode: from rows to examples, raising `WhenceError` for what cannot be used.
    """
    good: list[tuple[RawRow, Mapping[str, Any]]] = []
    bad: list[tuple[int, str]] = []
    for row in raw:
        try:
            good.append((row, _record(row, source)))
        except WhenceError as error:
            bad.append((row.number, str(error)))
    found: list[tuple[Examples, tuple[str, ...]]] = []

    def attempt(part: Sequence[tuple[RawRow, Mapping[str, Any]]]) -> None:
        try:
            found.append(_encode(part, source, columns, encode))
        except WhenceError as error:
            if len(part) == 1:
                number, text = part[0][0].number, str(error)
                where = Rows(source, {}, _line_numbers(part), numbers=[number]).where(0)
                bad.append((number, text if text.startswith(source) else f"{where}: {text}"))
            else:
                attempt(part[: len(part) // 2])
                attempt(part[len(part) // 2 :])

    if good:
        attempt(good)
    examples = [each for each, _ in found]
    joined = Examples(**{field.name: tuple(chain.from_iterable(getattr(each, field.name) for each in examples))
                         for field in fields(Examples)})
    names = tuple(chain.from_iterable(names for _, names in found))
    return Part(joined, names, tuple(int(number) for number in joined.ids), tuple(text for _, text in sorted(bad)))


def _encode(part: Sequence[tuple[RawRow, Mapping[str, Any]]], source: str, columns: Mapping[str, str],
            encode: Encode) -> tuple[Examples, tuple[str, ...]]:
    """The examples, named by number, and their own ids."""
    records = [record for _, record in part]
    numbers = [row.number for row, _ in part]
    known = dict.fromkeys(name for record in records for name in record)
    rows = Rows(source, {name: [record.get(name) for record in records] for name in known}, _line_numbers(part),
                numbers=numbers)
    rows = rows.rename({ours: theirs for ours, theirs in columns.items()
                        if theirs in known or ours not in ("id", "group")})
    given = rows.columns.get("id", [None] * len(part))
    named = replace(rows, columns={"id": [number if cell is None else cell
                                          for number, cell in zip(numbers, given, strict=True)]})
    return encode(replace(rows, columns={k: v for k, v in rows.columns.items() if k != "id"})), named.ids()


def _line_numbers(part: Sequence[tuple[RawRow, Mapping[str, Any]]]) -> list[int] | None:
    return None if part[0][0].line is None else [cast(int, row.line) for row, _ in part]


def _record(row: RawRow, source: str) -> Mapping[str, Any]:
    where = Rows(source, {}, None if row.line is None else [row.line], numbers=[row.number]).where(0)
    value = row.content
    if isinstance(value, bytes):
        try:
            value = json.loads(value.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise WhenceError(f"{where}: not UTF-8 ({error.reason} at byte {error.start})") from None
        except json.JSONDecodeError as error:
            raise WhenceError(f"{where}: not valid JSON ({error.msg} at character {error.pos + 1}); expected one JSON "
                              "object a line") from None
    if not isinstance(value, Mapping) or not value:
        raise WhenceError(f"{where}: {met(value)}; expected an object such as " '{"text": "..."}')
    return value


def _lines(path: Path) -> Iterator[RawRow]:
    number = 0
    with path.open("rb") as plain, ExitStack() as stack:
        file: Any = stack.enter_context(gzip.open(plain)) if path.suffix.lower() == ".gz" else plain
        try:
            for line, content in enumerate(file, start=1):
                content = (content.removeprefix(b"\xef\xbb\xbf") if line == 1 else content).strip()
                if line == 1 and content[:1] == b"[" and ".jsonl" not in path.name.lower():
                    raise WhenceError(f"{path}: a JSON array, which cannot be streamed; write one object a line")
                if content:
                    yield RawRow(number, content, line)
                    number += 1
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise WhenceError(f"{path}: not a whole gzip file, after row {number - 1} ({error})") from None


def _parquet(path: Path) -> Iterator[RawRow]:
    number = 0
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=BATCH):
                for record in batch.to_pylist():
                    yield RawRow(number, record)
                    number += 1
    except (OSError, pa.ArrowException) as error:
        raise WhenceError(f"{path}: not a Parquet file, or broken after row {number - 1} ({error})") from None


def check_columns(columns: Mapping[str, str]) -> None:
    """Refuse a mapping to a field that is not ours, before anything is read."""
    Rows("the columns named", {theirs: [] for theirs in columns.values()}).rename(
        {ours: theirs for ours, theirs in columns.items() if ours not in FIELDS})
