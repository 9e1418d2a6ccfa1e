"""`Search`: the best rows of a corpus for each query."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import rich.table

from whence.data.examples import Examples
from whence.run.best import Best, Extreme
from whence.run.hits import Hit, table_of


@dataclass(frozen=True)
class Search:
    """What a pass over a corpus found.

    Attributes:
        queries: Q queries.
        method, unit, facts: as those of `Scores`; a score is the predicted change of the query's measurement when one
            more copy of the row is trained on with weight 1 / `facts["n"]`.
        counts: rows `read`, and of these `scored`, `skipped` (could not be used); `truncated` of the scored.
        listed: the first messages about skipped rows.
    """

    queries: Examples
    method: str
    unit: str
    facts: Mapping[str, Any]
    counts: Mapping[str, int]
    listed: tuple[str, ...]
    _best: Best

    def __len__(self) -> int:
        return len(self.queries)

    def top(self, query: int = 0, count: int | None = None) -> list[Hit]:
        """The strongest proponents of a query, strongest first."""
        return self._hits(self._best.top, query, count)

    def bottom(self, query: int = 0, count: int | None = None) -> list[Hit]:
        """The strongest opponents of a query, strongest first."""
        return self._hits(self._best.bottom, query, count)

    def _hits(self, end: Extreme, query: int, count: int | None) -> list[Hit]:
        hits = []
        for place, (row, score) in enumerate(zip(end.rows[query].tolist(), end.scores[query].tolist(), strict=True)):
            line = self._best.texts[row]
            rank = place + 1 if end.sign > 0 else self.counts["scored"] - place
            hits.append(Hit(row, rank, score, line.id, line.group, line.prompt, line.response))
        return hits[:count]

    def __str__(self) -> str:
        """`12,000 rows read: 11,990 scored (31 truncated), 10 skipped`."""
        n = self.counts
        return (f"{n['read']:,} rows read: {n['scored']:,} scored ({n['truncated']:,} truncated), "
                f"{n['skipped']:,} skipped")

    def about(self) -> dict[str, Any]:
        """Plain values, without the rows."""
        return {"method": self.method, "unit": self.unit, "facts": dict(self.facts), "counts": dict(self.counts),
                "skipped_rows": list(self.listed)}

    def to_json(self, count: int | None = None) -> dict[str, Any]:
        """Plain values: facts and counts, and the rows of each query."""
        return self.about() | {"queries": [
            {"id": name, "prompt": prompt, "response": response,
             "proponents": [vars(hit) for hit in self.top(q, count)],
             "opponents": [vars(hit) for hit in self.bottom(q, count)]}
            for q, (name, prompt, response) in enumerate(zip(self.queries.ids, self.queries.prompts,
                                                            self.queries.responses, strict=True))]}

    def to_rich(self, query: int = 0, count: int = 10) -> rich.table.Table:
        """A table for the terminal."""
        title = f"query {self.queries.ids[query]}: {self.method}, score in {self.unit}"
        top = self.top(query, count)
        shown = {hit.row for hit in top}
        return table_of(title, top, [hit for hit in self.bottom(query, count) if hit.row not in shown][::-1])
