"""Score a corpus of any length against queries, keeping only the best rows of each.

    score[q, j] = (1/N) x_q^T g_j        x_q = (C + lambda I)^-1 v_q, N and C those of the run's own training rows

The vectors of all queries are made once and stay in memory; rows are read, encoded and scored R at a time and
forgotten, but for the k best of each query. Memory beside the model, for any number of rows:

    Q P s                   the vectors: P parameters, numbers of s bytes
    R (B Q s + 8 Q + 24 Q)  the scores of R rows: by B blocks, summed, and sorted with the best so far
    R (9 T + c)             these rows: T tokens and masks, c bytes of text (as it was read, and as it is shown)
    Q k (16 + c)            the best rows so far, k = top + bottom
    one batch of a sweep    see `sweep.sweep.Layout`; for Parquet also one row group of the file

With a folder the best rows so far are written after every R rows, atomically, with how far the corpus was read and a
hash of what was read. A pass that was killed goes on from there when it is called again, and as the rows are cut into
the same parts it ends with the same bits. So does a corpus to which rows were added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from whence.base.errors import WhenceError
from whence.base.files import write_json
from whence.curvature.fit import Situation
from whence.curvature.solver import Solution, Solver
from whence.data.examples import Examples
from whence.data.stream import Encode, Part, RawRow, check_columns, encode_part, stream_rows
from whence.measure.measurement import Measurement
from whence.run.best import LISTED, Best, Line
from whence.run.search import Search
from whence.run.solved import score_examples, solve_at_once, unit_of

SHARD_ROWS = 2048
STATE = "best.parquet"


@dataclass(frozen=True)
class Stream:
    """How a corpus is read and what of it is kept.

    Attributes:
        top, bottom: rows kept for each query at either end.
        shard_rows: R, rows scored together; decides last bits, and memory.
        out: folder for the best rows so far, to go on from; None keeps them in memory.
        columns: our field -> column of the corpus.
        on_bad: what happens to a row that cannot be used: `stop` is an error, `skip` counts and lists it.

    Raises:
        WhenceError: numbers out of range, an unknown `on_bad` or field.
    """

    top: int = 100
    bottom: int = 0
    shard_rows: int = SHARD_ROWS
    out: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    on_bad: str = "stop"

    def __post_init__(self) -> None:
        if self.top < 0 or self.bottom < 0 or self.top + self.bottom == 0:
            raise WhenceError(f"top={self.top}, bottom={self.bottom}: expected at least 1 row to keep")
        if self.shard_rows < 1:
            raise WhenceError(f"shard_rows={self.shard_rows}: expected at least 1")
        if self.on_bad not in ("stop", "skip"):
            raise WhenceError(f"on_bad={self.on_bad}: expected stop or skip")
        if self.out is not None and self.out.exists() and not self.out.is_dir():
            raise WhenceError(f"{self.out}: a file; expected the name of a folder")
        check_columns(self.columns)


def search(source: object, queries: Examples, method: str, solver: Solver, situation: Situation, stream: Stream,
           encode: Encode, identity: Mapping[str, Any], measurement: Measurement, memory: int | None = None,
           say: Callable[[str], object] = lambda line: None) -> Search:
    """Score every row of `source` for every query; see above.

    Args:
        method: name of the solver with its options.
        encode: rows to examples that the model can run on.
        identity: what the scores depend on, beside the corpus and `stream`.
        say: takes a line after every part.

    Raises:
        WhenceError: a row that cannot be used (names it), no row that can, vectors that do not fit in memory, a
            gradient that is not finite, a folder with another search or with one of another corpus.
    """
    name, rows = stream_rows(source)
    identity = {**identity, "method": method, "top": stream.top, "bottom": stream.bottom, "shard_rows":
                stream.shard_rows, "on_bad": stream.on_bad, "columns": dict(stream.columns)}
    path = stream.out / STATE if stream.out else None
    if path and path.exists():
        best = Best.read_file(path, identity, stream.top, stream.bottom)
        _pass_over(best, rows, name, path)
    else:
        best = Best.empty(identity, len(queries), stream.top, stream.bottom)
    solution: Solution | None = None
    while raw := list(islice(rows, stream.shard_rows)):
        part = encode_part(raw, name, stream.columns, encode)
        if part.bad and stream.on_bad == "stop":
            raise WhenceError(f"{part.bad[0]} ({len(part.bad)} of {len(raw)} rows read together cannot be used; "
                              "on_bad='skip', or --skip-bad, leaves such rows out)")
        solution = solution or solve_at_once(situation, queries, solver, measurement, memory)
        best.facts = dict(solution.facts)
        if part.numbers:
            what = f"rows {part.numbers[0]:,} to {part.numbers[-1]:,}"
            _take(best, part, score_examples(situation, solution, part.examples, what, part.names))
        for row in raw:
            best.digest = row.digest(best.digest)
        best.read += len(raw)
        best.skipped += len(part.bad)
        best.truncated += sum(part.examples.truncated)
        best.listed = [*best.listed, *part.bad][:LISTED]
        if path:
            best.write(path)
        say(f"{name}: {best.read:,} rows read, {best.scored:,} scored, {best.truncated:,} truncated, "
            f"{best.skipped:,} skipped")
        del raw, part
    if best.read == 0:
        raise WhenceError(f"{name}: no rows")
    if best.scored == 0:
        raise WhenceError(f"{name}: none of its {best.read:,} rows can be used; the first: {best.listed[0]}")
    counts = {what: getattr(best, what) for what in ("read", "scored", "truncated", "skipped")}
    found = Search(queries, method, unit_of(best.facts), best.facts, counts, tuple(best.listed), best)
    if stream.out:
        write_json(stream.out / "search.json", found.about() | {"corpus": name, "queries": list(queries.ids)})
    return found


def _pass_over(best: Best, rows: Iterator[RawRow], name: str, path: Path) -> None:
    """Read what was read before, and see that it is the same."""
    digest, read = b"", 0
    for row in islice(rows, best.read):
        digest, read = row.digest(digest), read + 1
    if (read, digest) != (best.read, best.digest):
        raise WhenceError(f"{path}: was made from other rows than the first {best.read:,} of {name}; choose another "
                          "folder, or give the corpus it was made from")


def _take(best: Best, part: Part, scores: np.ndarray) -> None:
    examples = part.examples
    lines = [Line(*cells) for cells in zip(part.names, examples.groups, examples.prompts, examples.responses,
                                          strict=True)]
    best.update(scores, np.array(part.numbers, dtype=np.int64), lines)
