"""`Hits`: the training examples behind one answer, best first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import rich.box
import rich.table
from rich.text import Text

from whence.data.examples import Examples
from whence.run.hit_tokens import HitTokens
from whence.scores.matrix import Scores
from whence.trust.card import Card


@dataclass(frozen=True)
class Hit:
    """One training example and its score.

    Attributes:
        row: index among the training rows.
        rank: 1 = the strongest proponent.
        score: predicted change of the measurement, in the scores' unit.
    """

    row: int
    rank: int
    score: float
    id: str
    group: str | None
    prompt: str
    response: str


@dataclass(frozen=True)
class Hits:
    """All training examples ranked for one query: `hits[0]` is the strongest proponent, `hits[-1]` the opponent.

    Attributes:
        query: the one query, as `Examples` of length 1.
        train: the training rows.
        scores: scores [1, N].
        value: the measurement of the query, such as its log-probability in nats.
        greedy_matches: whether greedy decoding gives the response.
        what: name and unit of the measurement: `log_prob_nats`.
    """

    query: Examples
    train: Examples
    scores: Scores
    value: float
    greedy_matches: bool
    what: str
    _write: Callable[[str | Path, Card], Path]
    _tokens: Callable[[Sequence[int]], list[HitTokens]]
    _verify: Callable[[], Card]

    @cached_property
    def card(self) -> Card:
        """The trust card of this answer, its free dials (`Run.verify` has the others); a few passes, made once."""
        return self._verify()

    @cached_property
    def _order(self) -> np.ndarray:
        return np.argsort(-self.scores.values[0], kind="stable")

    def __len__(self) -> int:
        return len(self.train)

    def __getitem__(self, place: int) -> Hit:
        row = int(self._order[place])
        train = self.train
        return Hit(row, place % len(self) + 1, float(self.scores.values[0, row]), train.ids[row], train.groups[row],
                   train.prompts[row], train.responses[row])

    def __iter__(self) -> Iterator[Hit]:
        return (self[place] for place in range(len(self)))

    def top(self, count: int = 10) -> list[Hit]:
        """The strongest proponents, strongest first."""
        return [self[place] for place in range(min(count, len(self)))]

    def bottom(self, count: int = 10) -> list[Hit]:
        """The strongest opponents, strongest first."""
        return [self[-1 - place] for place in range(min(count, len(self)))]

    def tokens(self, hit: Hit) -> HitTokens:
        """Which tokens of a hit its score comes from; for `ekfac` and its kin, one pass over the hit.

        Raises:
            WhenceError: a method that has no influence by token; names those that have.
        """
        return self.tokens_of([hit])[0]

    def tokens_of(self, hits: Sequence[Hit]) -> list[HitTokens]:
        """The same for several hits, in one pass over all of them."""
        return self._tokens([hit.row for hit in hits]) if hits else []

    def to_html(self, path: str | Path) -> Path:
        """Write the report of this query, with its trust card, as one HTML file; returns its path."""
        return self._write(path, self.card)

    def to_json(self, count: int = 10, tokens: int = 0) -> dict[str, Any]:
        """Plain values: the query, what was measured, `count` proponents and opponents.

        Args:
            tokens: how many of the strongest tokens of each proponent; 0 leaves them out.
        """
        value = {
            "prompt": self.query.prompts[0], "response": self.query.responses[0], "method": self.scores.method,
            "unit": self.scores.unit, self.what: self.value, "greedy_matches": self.greedy_matches,
            "n_train": len(self), "facts": dict(self.scores.facts),
            "proponents": [vars(hit) for hit in self.top(count)],
            "opponents": [vars(hit) for hit in self.bottom(count)],
        }
        if tokens:
            found = self.tokens_of(self.top(count))
            value["proponents"] = [vars(hit) | {"tokens": of_hit.to_json(tokens)}
                                   for hit, of_hit in zip(self.top(count), found, strict=True)]
        return value

    def to_rich(self, count: int = 10) -> rich.table.Table:
        """A table for the terminal: proponents, then opponents."""
        title = f"{self.scores.method}, score in {self.scores.unit}"
        return table_of(title, self.top(count), self.bottom(min(count, len(self) - count))[::-1])

    def tokens_to_rich(self, count: int = 10, tokens: int = 5) -> rich.table.Table:
        """A table for the terminal: the strongest tokens of the proponents."""
        found = self.tokens_of(self.top(count))
        table = rich.table.Table(title="tokens that the scores come from", title_justify="left", box=rich.box.SIMPLE)
        table.add_column("rank", justify="right", min_width=4, no_wrap=True)
        table.add_column("strongest tokens: share of the score at each")
        for hit, of_hit in zip(self.top(count), found, strict=True):
            strongest = of_hit.strongest(tokens)
            table.add_row(str(hit.rank), Text("  ".join(f"{text!r} {score:+.2g}" for _, text, score in strongest)))
        table.caption, table.caption_justify = found[0].what if found else None, "left"
        return table


def table_of(title: str, top: Sequence[Hit], bottom: Sequence[Hit]) -> rich.table.Table:
    """A table for the terminal: one end, then the other."""
    table = rich.table.Table(title=Text(title), title_justify="left")
    for name, least in (("rank", 4), ("score", 9)):
        table.add_column(name, justify="right", min_width=least, no_wrap=True)
    for name, least in (("id", 4), ("group", 6), ("prompt", 16), ("response", 12)):
        table.add_column(name, min_width=least, max_width=48, overflow="ellipsis", no_wrap=True)
    for part in (top, bottom):
        for hit in part:
            texts = (hit.id, hit.group or "", _line(hit.prompt), _line(hit.response))
            table.add_row(str(hit.rank), f"{hit.score:+.3g}", *map(Text, texts))  # [brackets] are no markup
        table.add_section()
    return table


def _line(text: str) -> str:
    return " ".join(text.split())
