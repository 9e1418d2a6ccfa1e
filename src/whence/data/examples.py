"""`Examples`: tokenised training rows or queries, with what a reader and a loss need of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from whence.base.errors import WhenceError
from whence.base.files import atomic_file
from whence.base.hashing import hash_json


@dataclass(frozen=True)
class Examples:
    """N examples, column by column; every column has N entries (`hidden` may have none).

    Attributes:
        ids: a name for each row, unique.
        groups: the label of each row (class, harmful or benign, trigger, ...), or None.
        prompts: the prompt as a person reads it; empty for plain text.
        responses: the response (or the whole plain text) as a person reads it.
        tokens: int64 [length] token ids, without padding.
        is_response: bool [length], True where the token is one whose log-probability counts. Position 0
            is never True: nothing predicts it.
        truncated: whether tokens were cut off at the maximum length.
        hidden: bool [length], True where attention must not look at the token: filling that a study makes part of its
            rows. Empty where no row hides any.
    """

    ids: tuple[str, ...]
    groups: tuple[str | None, ...]
    prompts: tuple[str, ...]
    responses: tuple[str, ...]
    tokens: tuple[np.ndarray, ...]
    is_response: tuple[np.ndarray, ...]
    truncated: tuple[bool, ...]
    hidden: tuple[np.ndarray, ...] = ()

    def __post_init__(self) -> None:
        sizes = {name: len(getattr(self, name)) for name in self.columns}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"columns of different length: {sizes}")
        if len(set(self.ids)) != len(self.ids):
            seen: set[str] = set()
            double = next(i for i in self.ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
            raise WhenceError(f"id {double!r} occurs more than once; ids must be unique (or leave them out)")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def columns(self) -> list[str]:
        """Names of the columns that there are: all, or all but `hidden`."""
        return [field.name for field in fields(self) if field.name != "hidden" or self.hidden]

    def select(self, rows: Sequence[int] | np.ndarray) -> Examples:
        """The examples at `rows`, in that order."""
        return Examples(**{name: tuple(getattr(self, name)[int(r)] for r in rows) for name in self.columns})

    def attended(self, row: int) -> np.ndarray:
        """bool [length] of one row: the tokens that attention looks at."""
        return ~self.hidden[row] if self.hidden else np.ones(len(self.tokens[row]), dtype=bool)

    def over(self, times: int) -> Examples:
        """All examples `times` over, the later ones with ids of their own: `a`, `b`, `a (2)`, `b (2)`, ..."""
        if times == 1:
            return self
        again = {field.name: getattr(self, field.name) * times for field in fields(self)}
        ids = tuple(name if turn == 1 else f"{name} ({turn})" for turn in range(1, times + 1) for name in self.ids)
        return Examples(**{**again, "ids": ids})

    @cached_property
    def lengths(self) -> np.ndarray:
        """int64 [N], tokens in each example."""
        return np.array([len(t) for t in self.tokens], dtype=np.int64)

    @cached_property
    def response_lengths(self) -> np.ndarray:
        """int64 [N], tokens of each example that count in the loss."""
        return np.array([int(m.sum()) for m in self.is_response], dtype=np.int64)

    @cached_property
    def content_hash(self) -> str:
        """Hash of the tokens and masks in row order: what a model sees, and nothing else."""
        return hash_json([[each.astype(int).tolist() for each in row] for row in zip(
            self.tokens, self.is_response, *([self.hidden] if self.hidden else []), strict=True)])

    def summary(self) -> dict[str, int]:
        """Counts to print: examples, tokens, response tokens, truncated examples, longest."""
        return {
            "examples": len(self),
            "tokens": int(self.lengths.sum()),
            "response_tokens": int(self.response_lengths.sum()),
            "truncated": sum(self.truncated),
            "longest": int(self.lengths.max(initial=0)),
        }

    def write_parquet(self, path: str | Path) -> None:
        """Store every column; `read_parquet` gives back an equal object."""
        table = pa.table({name: [_plain(v) for v in getattr(self, name)] for name in self.columns})
        with atomic_file(path) as part:
            pq.write_table(table, part)

    @classmethod
    def read_parquet(cls, path: str | Path) -> Examples:
        """Read what `write_parquet` wrote.

        Raises:
            WhenceError: no such file, not a Parquet file, or one with other columns.
        """
        try:
            columns = pq.read_table(path).to_pydict()
        except FileNotFoundError:
            raise WhenceError(f"{path}: no such file") from None
        except (OSError, pa.ArrowException) as error:
            raise WhenceError(f"{path}: not a Parquet file ({error})") from None
        expected = [field.name for field in fields(cls) if field.name != "hidden" or "hidden" in columns]
        if sorted(columns) != sorted(expected):
            raise WhenceError(f"{path}: has the columns {', '.join(columns)}; expected {', '.join(expected)}, as "
                              "`Examples.write_parquet` writes them (raw rows are read by `load_examples`)")
        columns["tokens"] = [np.array(t, dtype=np.int64) for t in columns["tokens"]]
        for name in {"is_response", "hidden"} & set(columns):
            columns[name] = [np.array(m, dtype=bool) for m in columns[name]]
        return cls(**{name: tuple(values) for name, values in columns.items()})


def _plain(value: object) -> object:
    return value.tolist() if isinstance(value, np.ndarray) else value
