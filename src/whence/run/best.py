"""The best rows so far of a corpus that is scored in parts, in memory and in a file.

Shapes: Q queries, k rows kept for each, R rows of a part. Of equal scores the earlier row is the better one, at both
ends, so what is kept does not depend on how the corpus is cut into parts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float64, Int64

from whence.base.errors import WhenceError
from whence.base.files import atomic_file

LISTED = 100  # rows that could not be used and are listed; all are counted
SIDES = {"top": 1, "bottom": -1}
COLUMNS = ("side", "query", "row", "score", "id", "group", "prompt", "response")
ABOUT = b"whence"  # where the rest stands in the file's metadata


@dataclass(frozen=True)
class Line:
    """What a reader sees of a row."""

    id: str
    group: str | None
    prompt: str
    response: str


@dataclass
class Extreme:
    """The k most extreme scores of each query, best first: `sign` 1 for the highest, -1 for the lowest."""

    k: int
    sign: int
    scores: Float64[np.ndarray, "Q k"]
    rows: Int64[np.ndarray, "Q k"]

    def update(self, scores: Float64[np.ndarray, "Q R"], rows: Int64[np.ndarray, " R"]) -> None:
        """Take in scores of rows that come after all rows before."""
        values = np.concatenate([self.scores, scores], axis=1)
        places = np.concatenate([self.rows, np.broadcast_to(rows, scores.shape)], axis=1)
        order = np.argsort(-self.sign * values, axis=1, kind="stable")[:, : self.k]
        self.scores, self.rows = (np.take_along_axis(array, order, axis=1) for array in (values, places))


@dataclass
class Best:
    """Both ends for every query, the text of the rows in them, and how far the corpus was read.

    Attributes:
        identity: what the scores are made from; a file of another identity is refused.
        read: rows read; digest: hash of them.
        scored, truncated, skipped: of the rows read, how many were scored, cut off at the maximum length (and scored),
            could not be used.
        listed: the first of the messages about rows that could not be used.
        facts: of the solver.
    """

    identity: Mapping[str, Any]
    top: Extreme
    bottom: Extreme
    texts: dict[int, Line] = field(default_factory=dict)
    read: int = 0
    digest: bytes = b""
    scored: int = 0
    truncated: int = 0
    skipped: int = 0
    listed: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def empty(cls, identity: Mapping[str, Any], queries: int, top: int, bottom: int) -> Best:
        """Nothing read yet."""
        high, low = (Extreme(k, sign, np.empty((queries, 0)), np.empty((queries, 0), dtype=np.int64))
                     for k, sign in zip((top, bottom), SIDES.values(), strict=True))
        return cls(dict(identity), high, low)

    def update(self, scores: Float64[np.ndarray, "Q R"], rows: Int64[np.ndarray, " R"], lines: Sequence[Line]) -> None:
        """Take in the scores of a part, and forget the text of rows that are not among the best any more."""
        for end in (self.top, self.bottom):
            end.update(scores, rows)
        kept = np.union1d(self.top.rows, self.bottom.rows).tolist()
        new = dict(zip(rows.tolist(), lines, strict=True))
        self.texts = {row: new[row] if row in new else self.texts[row] for row in kept}
        self.scored += len(rows)

    def write(self, path: Path) -> None:
        """One file, atomically: the rows as a table, everything else in its metadata."""
        about = {name: getattr(self, name) for name in
                 ("identity", "read", "scored", "truncated", "skipped", "listed", "facts")}
        about |= {"digest": self.digest.hex(), "queries": len(self.top.rows)}
        schema = pa.schema([("side", pa.string()), ("query", pa.int64()), ("row", pa.int64()), ("score", pa.float64()),
                            *((name, pa.string()) for name in COLUMNS[4:])], metadata={ABOUT: json.dumps(about)})
        columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        for side in SIDES:
            end: Extreme = getattr(self, side)
            for query, rows in enumerate(end.rows.tolist()):
                lines = [self.texts[row] for row in rows]
                for name, cells in (("side", [side] * len(rows)), ("query", [query] * len(rows)), ("row", rows),
                                    ("score", end.scores[query].tolist()),
                                    *((name, [getattr(line, name) for line in lines]) for name in COLUMNS[4:])):
                    columns[name] += cells
        with atomic_file(path) as part:
            pq.write_table(pa.table(columns, schema=schema), part)

    @classmethod
    def read_file(cls, path: Path, identity: Mapping[str, Any], top: int, bottom: int) -> Best:
        """What `write` wrote.

        Raises:
            WhenceError: another file, or one of another identity (names what differs).
        """
        try:
            table = pq.read_table(path)
            about = json.loads((table.schema.metadata or {})[ABOUT])
        except (OSError, pa.ArrowException, KeyError) as error:
            raise WhenceError(f"{path}: not the state of a search ({error}); choose another folder") from None
        stored, expected = about["identity"], json.loads(json.dumps(identity))
        if differs := [name for name in expected if stored.get(name) != expected[name]]:
            raise WhenceError(f"{path}: holds a search with other {', '.join(differs)}; call it as before to go on "
                              "with it, or choose another folder")
        best = cls.empty(identity, about["queries"], top, bottom)
        side, query, row, score = (np.array(table[name].to_pylist()) for name in COLUMNS[:4])
        for name in SIDES:
            end: Extreme = getattr(best, name)
            mine = [np.flatnonzero((side == name) & (query == q)) for q in range(about["queries"])]
            end.rows = np.array([row[at] for at in mine], dtype=np.int64).reshape(about["queries"], -1)
            end.scores = np.array([score[at] for at in mine], dtype=np.float64).reshape(about["queries"], -1)
        texts = zip(*(table[name].to_pylist() for name in COLUMNS[4:]), strict=True)
        best.texts = {number: Line(*cells) for number, cells in zip(row.tolist(), texts, strict=True)}
        best.read, best.digest = about["read"], bytes.fromhex(about["digest"])
        best.scored, best.truncated, best.skipped = (about[name] for name in ("scored", "truncated", "skipped"))
        best.listed, best.facts = about["listed"], about["facts"]
        return best
