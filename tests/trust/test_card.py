"""How dials become a verdict, and the card as JSON and on a terminal."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console

from whence.base.errors import WhenceError
from whence.trust.card import Card, verdict
from whence.trust.dial import Dial, Reading, Role, at_least, at_most, clearly

GOOD, POOR, BAD, UNKNOWN = Reading.GOOD, Reading.POOR, Reading.BAD, Reading.UNKNOWN


def dial(role: Role, reading: Reading, name: str = "", readings: tuple[Reading, ...] | None = None) -> Dial:
    return Dial(name or role, "free", role, reading, f"{name or role} is {reading.name}", "", readings=readings)


@pytest.mark.parametrize(("dials", "answer", "because"), [
    ([], "doubt", ("nothing was tested",)),
    ([dial("sanity", GOOD), dial("cause", GOOD)], "doubt", ("nothing was tested",)),
    ([dial("response", GOOD)], "believe", ("response",)),
    ([dial("response", GOOD), dial("cause", POOR)], "doubt", ("cause",)),
    ([dial("response", GOOD), dial("sanity", POOR)], "doubt", ("sanity",)),
    ([dial("response", GOOD), dial("sanity", BAD)], "don't believe", ("sanity",)),
    ([dial("response", BAD), dial("cause", BAD)], "don't believe", ("response",)),
    ([dial("response", POOR)], "doubt", ("response",)),
    ([dial("response", UNKNOWN)], "doubt", ("nothing was tested",)),
    ([dial("truth", GOOD), dial("response", BAD), dial("cause", BAD)], "believe", ("truth",)),
    ([dial("truth", GOOD), dial("sanity", POOR)], "doubt", ("sanity",)),
    ([dial("truth", BAD), dial("response", GOOD)], "don't believe", ("truth",)),
    ([dial("truth", POOR), dial("response", GOOD)], "doubt", ("truth",)),
    ([dial("response", GOOD), dial("note", BAD)], "believe", ("response",))])
def test_the_verdict_follows_the_roles(dials: list[Dial], answer: str, because: tuple[str, ...]) -> None:
    found = verdict(dials)
    assert (found.answer, found.because) == (answer, because)


def test_a_worse_reading_never_makes_a_better_verdict() -> None:
    """Over every combination of one dial a role, turned one step down."""
    order = {"believe": 0, "doubt": 1, "don't believe": 2}
    roles: tuple[Role, ...] = ("sanity", "cause", "response", "truth")
    for number in range(3 ** len(roles)):
        readings = [Reading(1 + number // 3**place % 3) for place in range(len(roles))]
        found = order[verdict([dial(role, r) for role, r in zip(roles, readings, strict=True)]).answer]
        for place in range(len(roles)):
            if readings[place] is not BAD:
                worse = [*readings[:place], Reading(readings[place] + 1), *readings[place + 1 :]]
                assert order[verdict([dial(role, r) for role, r in zip(roles, worse, strict=True)]).answer] >= found


def card() -> Card:
    per_query = Dial("nudge test", "cheap", "response", GOOD, "it holds", "above .5", 0.9, 0.8, 0.95, "correlation",
                     np.array([0.9, np.nan]), (GOOD, BAD))
    return Card("ekfac", "cheap", ("a", "b"), (dial("sanity", GOOD, "rows"), per_query), {"n": 7})


def test_queries_have_verdicts_of_their_own() -> None:
    made = card()
    assert made.verdict.answer == "believe" and made.of(0).answer == "believe"
    assert (made.of(1).answer, made.of(1).because) == ("don't believe", ("nudge test",))
    assert made.answers == {"believe": 1, "doubt": 0, "don't believe": 1}
    with pytest.raises(WhenceError, match="query 2: the card has 2"):
        made.of(2)
    with pytest.raises(WhenceError, match="no dial 'x'"):
        made["x"]
    with pytest.raises(WhenceError, match="of 1 queries"):
        Card("m", "free", ("a", "b"), (dial("cause", GOOD, readings=(GOOD,)),), {})


def test_json_goes_there_and_back() -> None:
    made = card()
    value = json.loads(json.dumps(made.to_json(), allow_nan=False))
    assert value["verdict"] == {"answer": "believe", "because": ["nudge test"]}
    assert [one["answer"] for one in value["queries"]] == ["believe", "don't believe"]
    assert Card.from_json(value).to_json() == made.to_json()


def test_the_overall_number_is_what_retraining_says_and_else_what_nudges_say() -> None:
    def overall(*values: tuple[Role, float]) -> tuple[float, str]:
        dials = tuple(Dial(role, "paid", role, GOOD, "", "", value) for role, value in values)
        made = Card("m", "paid", ("a",), dials, {})
        return made.overall, made.expectation

    assert overall(("response", 0.4), ("truth", 0.7)) == (0.7, "; rank correlation with retraining, measured: .700")
    assert overall(("response", 0.4), ("truth", float("nan"))) == (
        0.4, "; rank correlation with retraining, expected from nudges: .400")
    nothing = overall(("cause", 0.9))
    assert np.isnan(nothing[0]) and nothing[1] == ""


def test_the_terminal_shows_every_dial() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(card().to_rich())
    text = console.export_text()
    assert "trust card of ekfac: believe" in text and "it holds" in text and "rows is GOOD" in text


def test_limits() -> None:
    nan = float("nan")
    assert [at_least(x, 0.9, 0.5) for x in (0.9, 0.6, 0.4, nan)] == [GOOD, POOR, BAD, UNKNOWN]
    assert [at_most(x, 0.1, 0.5) for x in (0.1, 0.5, 0.6, nan)] == [GOOD, POOR, BAD, UNKNOWN]
    assert [clearly(*ends, 0.5) for ends in ((0.6, 0.8), (0.4, 0.8), (0.1, 0.4), (nan, 1.0))] == [GOOD, POOR, BAD,
                                                                                                 UNKNOWN]
