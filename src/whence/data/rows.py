"""`Rows`: a table as it was written, its columns under our names, every row able to say where it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from whence.base.errors import WhenceError

FIELDS = ("text", "prompt", "completion", "messages", "id", "group")


@dataclass(frozen=True)
class Rows:
    """N rows, column by column; every column has N cells, None where a row has none.

    Attributes:
        source: where the rows come from, as an error names it.
        columns: cells by column name: all of theirs, and those that were mapped under our name too.
        lines: the 1-based line of each row, where the source is a file of lines.
        mapped: our field -> their column, as the caller wrote it.
        numbers: the number of each row in the source, where these are only some of its rows.
    """

    source: str
    columns: Mapping[str, list[Any]]
    lines: Sequence[int] | None = None
    mapped: Mapping[str, str] = field(default_factory=dict)
    numbers: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def where(self, row: int, name: str | None = None) -> str:
        """`data.jsonl, row 3 (line 4), column 'response' (completion)`: the beginning of an error."""
        line = f" (line {self.lines[row]})" if self.lines is not None else ""
        where = f"{self.source}, row {self.number(row)}{line}"
        if name is None:
            return where
        theirs = self.mapped.get(name, name)
        return f"{where}, column {theirs!r}" + (f" ({name})" if theirs != name else "")

    def number(self, row: int) -> int:
        """Where a row stands in the source."""
        return row if self.numbers is None else self.numbers[row]

    def rename(self, columns: Mapping[str, str]) -> Rows:
        """The same rows with `columns` (our field -> their column) standing under our names too.

        Raises `WhenceError` for a field that is not ours and for a column that is not there.
        """
        for ours, theirs in columns.items():
            if ours not in FIELDS:
                raise WhenceError(f"column mapping {ours}={theirs}: {ours!r} is not a field"
                                  f"{did_you_mean(ours, FIELDS)}; expected OURS=THEIRS "
                                  f"with OURS one of {', '.join(FIELDS)}")
            if theirs not in self.columns:
                raise WhenceError(f"{self.source}: no column {theirs!r} (wanted for {ours})"
                                  f"{did_you_mean(theirs, self.columns)}; the columns are "
                                  f"{', '.join(self.columns)}. Name the right one: --columns {ours}=COLUMN")
        renamed = {ours: self.columns[theirs] for ours, theirs in columns.items()}
        return Rows(self.source, {**self.columns, **renamed}, self.lines, dict(columns), self.numbers)

    def ids(self) -> tuple[str, ...]:
        """The `id` of each row (a string or whole number), or else its number, as a string."""
        if "id" not in self.columns:
            return tuple(str(self.number(row)) for row in range(len(self)))
        return tuple(self._label("id", row, cell) for row, cell in enumerate(self.columns["id"]))

    def groups(self) -> tuple[str | None, ...]:
        """The `group` of each row as a string (written as a string, whole number or boolean), or None."""
        cells = enumerate(self.columns.get("group", [None] * len(self)))
        return tuple(None if cell is None else self._label("group", row, cell) for row, cell in cells)

    def _label(self, name: str, row: int, cell: object) -> str:
        if not isinstance(cell, str | int):
            raise WhenceError(f"{self.where(row, name)}: {met(cell)}; expected a string or a whole number")
        return str(cell)


def parse_columns(text: str) -> dict[str, str]:
    """Read `prompt=prompts,completion=response` (our field = their column) as written on a command line.

    Whether the fields are ours and the columns there is checked by `Rows.rename`.
    """
    columns: dict[str, str] = {}
    for part in text.split(","):
        ours, equals, theirs = (piece.strip() for piece in part.partition("="))
        if not (ours and equals and theirs):
            raise WhenceError(f"--columns {text!r}: met {part.strip()!r}; expected OURS=THEIRS, "
                              f"such as prompt=question,completion=answer")
        if ours in columns:
            raise WhenceError(f"--columns {text!r}: {ours!r} is given twice "
                              f"({columns[ours]!r} and {theirs!r}); give it once")
        columns[ours] = theirs
    return columns


def met(cell: object) -> str:
    """What stands in a cell, for an error."""
    return f"met {type(cell).__name__} {cell!r:.60}" if cell is not None else "no value (null or left out)"


def near_miss(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, if any is like it."""
    return next(iter(get_close_matches(word, list(known), n=1, cutoff=0.6)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` where a known word is like `word`, else nothing."""
    near = near_miss(word, known)
    return "" if near is None else f" (did you mean {near!r}?)"
