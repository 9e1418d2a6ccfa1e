"""`Dial`: one measured reason to believe a score or not."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from whence.tasks.interval import plain

Level = Literal["free", "cheap", "paid"]
LEVELS: tuple[Level, ...] = get_args(Level)
Role = Literal["sanity", "cause", "response", "truth", "note"]


class Reading(IntEnum):
    """What a dial says: the larger the worse. `UNKNOWN` where it could not be measured, or was not asked for."""

    UNKNOWN = 0
    GOOD = 1
    POOR = 2
    BAD = 3


@dataclass(frozen=True)
class Dial:
    """One measurement of a result, read against limits.

    Attributes:
        name: of the dial.
        level: what it costs: `free` (passes like those the scores took), `cheap` (a few training epochs), `paid`
            (retraining).
        role: how it enters the verdict (`whence.trust.card.verdict`):
            `sanity`    nothing excuses it
            `cause`     a reason why scores may be wrong; excused where retraining shows that they are not
            `response`  do scores foretell what a nudge does
            `truth`     do scores foretell what retraining does
            `note`      said, and never decides
        reading: of all queries together.
        says: one sentence, with the number in it.
        expected: what a good reading is.
        value: the number; NaN where there is none.
        low, high: its 95 % interval; NaN where there is none.
        unit: of the number.
        per_query: each query's own number; NaN where it has none. None where the dial is not of queries.
        readings: each query's reading; None likewise.
    """

    name: str
    level: Level
    role: Role
    reading: Reading
    says: str
    expected: str
    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    unit: str = ""
    per_query: Float[np.ndarray, " Q"] | None = field(default=None, repr=False)
    readings: tuple[Reading, ...] | None = field(default=None, repr=False)

    def of(self, query: int | None) -> Reading:
        """The reading for one query; for all together where it has none of its own."""
        if query is None or self.readings is None:
            return self.reading
        return self.readings[query]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"name": self.name, "level": self.level, "role": self.role, "reading": self.reading.name.lower(),
                "says": self.says, "expected": self.expected, "value": plain(self.value), "low": plain(self.low),
                "high": plain(self.high), "unit": self.unit,
                "per_query": None if self.per_query is None else [plain(x) for x in self.per_query],
                "readings": None if self.readings is None else [one.name.lower() for one in self.readings]}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Dial:
        """What `to_json` gave."""
        numbers = {name: float("nan") if value[name] is None else value[name] for name in ("value", "low", "high")}
        per_query = value["per_query"]
        return cls(value["name"], value["level"], value["role"], Reading[value["reading"].upper()], value["says"],
                   value["expected"], **numbers, unit=value["unit"],
                   per_query=None if per_query is None else np.array([np.nan if x is None else x for x in per_query]),
                   readings=None if value["readings"] is None else
                   tuple(Reading[name.upper()] for name in value["readings"]))


def at_least(value: float, good: float, bad: float) -> Reading:
    """Good from `good` on, bad below `bad`, poor between; unknown for NaN."""
    if np.isnan(value):
        return Reading.UNKNOWN
    return Reading.GOOD if value >= good else Reading.BAD if value < bad else Reading.POOR


def at_most(value: float, good: float, bad: float) -> Reading:
    """Good up to `good`, bad above `bad`, poor between; unknown for NaN."""
    return at_least(-value, -good, -bad)


def clearly(low: float, high: float, limit: float) -> Reading:
    """Good where the whole interval is above a limit, bad where it is below, poor where it holds the limit."""
    if np.isnan(low) or np.isnan(high):
        return Reading.UNKNOWN
    return Reading.GOOD if low > limit else Reading.BAD if high < limit else Reading.POOR
