"""The trust card: every dial of one result, and a verdict in plain words.

How dials become a verdict, worst first:

    don't     a sanity dial is bad; retraining was looked at and the scores do not foretell it; or a nudge was, and
              they do not foretell that (and no retraining says otherwise)
    doubt     a sanity dial or the truth is not good; or, where no retraining says that the scores are right: a cause
              is not good, the response is not good, or nothing was tested at all
    believe   retraining or a nudge was looked at and the scores foretell it, and nothing above speaks against it

So `believe` always rests on something that was tried: free dials alone can raise doubt and never remove it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import rich.box
import rich.table
from rich.text import Text

from whence.base.errors import WhenceError
from whence.tasks.interval import plain, short
from whence.trust.dial import LEVELS, Dial, Level, Reading, Role

Answer = Literal["believe", "doubt", "don't believe"]
UNTESTED = "nothing was tested"
COLOURS = {Reading.GOOD: "green", Reading.POOR: "yellow", Reading.BAD: "red", Reading.UNKNOWN: "dim"}


@dataclass(frozen=True)
class Verdict:
    """An answer and the names of the dials it rests on: those that speak against, or that were passed."""

    answer: Answer
    because: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.answer}: {', '.join(self.because)}"


def verdict(dials: Sequence[Dial], query: int | None = None) -> Verdict:
    """What dials say together, of one query or of all."""
    def having(role: Role, *readings: Reading) -> tuple[str, ...]:
        return tuple(dial.name for dial in dials if dial.role == role and dial.of(query) in readings)

    def named(*parts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for part in parts for name in part)

    truth, tried = having("truth", Reading.GOOD), having("response", Reading.GOOD)
    tested = named(*(having(role, Reading.GOOD, Reading.POOR, Reading.BAD) for role in ("truth", "response")))
    against = named(having("sanity", Reading.BAD), having("truth", Reading.BAD),
                    () if truth else having("response", Reading.BAD))
    if against:
        return Verdict("don't believe", against)
    doubts = named(having("sanity", Reading.POOR), having("truth", Reading.POOR))
    if not truth:
        doubts = named(doubts, having("cause", Reading.BAD), having("cause", Reading.POOR),
                       having("response", Reading.POOR), () if tested else (UNTESTED,))
    return Verdict("doubt", doubts) if doubts else Verdict("believe", truth or tried)


@dataclass(frozen=True)
class Card:
    """The dials of one method's scores of some queries.

    Attributes:
        method: whose scores.
        level: up to which level was measured.
        queries: ids of the queries.
        dials: in the order of their levels.
        facts: what else a reader wants to know (rows, time, seeds).
    """

    method: str
    level: Level
    queries: tuple[str, ...]
    dials: tuple[Dial, ...]
    facts: Mapping[str, Any]

    def __post_init__(self) -> None:
        for dial in self.dials:
            if dial.readings is not None and len(dial.readings) != len(self.queries):
                raise WhenceError(f"dial {dial.name!r}: of {len(dial.readings)} queries; the card has "
                                  f"{len(self.queries)}")

    def __getitem__(self, name: str) -> Dial:
        for dial in self.dials:
            if dial.name == name:
                return dial
        raise WhenceError(f"no dial {name!r} on this card; there are: {', '.join(dial.name for dial in self.dials)}")

    @property
    def verdict(self) -> Verdict:
        """Of all queries together."""
        return verdict(self.dials)

    @property
    def overall(self) -> float:
        """One number: the rank correlation of scores with what retraining does, measured where it was (`paid`), else
        expected from what nudges did (`cheap`); NaN where neither was looked at.
        """
        values = [dial.value for role in ("truth", "response") for dial in self.dials if dial.role == role]
        return next((value for value in values if not np.isnan(value)), float("nan"))

    @property
    def expectation(self) -> str:
        """The overall number in words, or nothing."""
        if np.isnan(self.overall):
            return ""
        how = "measured" if any(dial.role == "truth" and not np.isnan(dial.value) for dial in self.dials) else (
            "expected from nudges")
        return f"; rank correlation with retraining, {how}: {short(self.overall)}"

    def of(self, query: int) -> Verdict:
        """Of one query."""
        if not 0 <= query < len(self.queries):
            raise WhenceError(f"query {query}: the card has {len(self.queries)} (0 to {len(self.queries) - 1})")
        return verdict(self.dials, query)

    @property
    def answers(self) -> dict[str, int]:
        """How many queries have each answer."""
        found = [self.of(query).answer for query in range(len(self.queries))]
        return {answer: found.count(answer) for answer in ("believe", "doubt", "don't believe")}

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        def plain_verdict(one: Verdict) -> dict[str, Any]:
            return {"answer": one.answer, "because": list(one.because)}

        return {"method": self.method, "level": self.level, "verdict": plain_verdict(self.verdict),
                "overall": plain(self.overall), "expectation": self.expectation.removeprefix("; "),
                "queries": [{"id": name, **plain_verdict(self.of(q))} for q, name in enumerate(self.queries)],
                "dials": [dial.to_json() for dial in self.dials], "facts": dict(self.facts)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Card:
        """What `to_json` gave; verdicts follow from the dials."""
        return cls(value["method"], value["level"], tuple(one["id"] for one in value["queries"]),
                   tuple(Dial.from_json(one) for one in value["dials"]), value["facts"])

    def to_rich(self) -> rich.table.Table:
        """A table for the terminal."""
        table = rich.table.Table(title=f"trust card of {self.method}: {self.verdict.answer}", title_justify="left",
                                 box=rich.box.SIMPLE)
        table.add_column("dial", no_wrap=True)
        table.add_column("reading", no_wrap=True)
        table.add_column("what was measured")
        for level in LEVELS:
            for dial in (one for one in self.dials if one.level == level):
                name = "" if dial.role == "note" and dial.reading is Reading.UNKNOWN else dial.reading.name.lower()
                table.add_row(Text(dial.name), Text(name, style=COLOURS[dial.reading]), Text(dial.says))
            table.add_section()
        return table

