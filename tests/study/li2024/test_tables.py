"""Tables of the page: what is said of a switch is read off its interval."""

from __future__ import annotations

from tests.study.li2024.worlds import rows, table
from whence.study.li2024.tables import moved

START = {"experiment": "switches", "training": "published", "scoring": "published"}


def test_switches_that_are_clear_of_zero_are_named() -> None:
    world = table(*(rows({"gradient-dot": value, "datainf": value, "lissa": value}, **{**START, **place}, metric=metric)
                    for metric, start in (("acc", 0.5), ("leave-k-out", 0.3))
                    for place, value in (
                        ({}, start), ({"training": "prompt masked"}, start + 0.2 * (metric == "acc")),
                        ({"scoring": "absolute"}, start - 0.1), ({"scoring": "sum loss"}, start))))
    text = moved(world)
    assert "**Acc** is raised by prompt not in the loss; lowered by ranked by the absolute value" in text
    assert "**leave-k-out** is raised by none; lowered by ranked by the absolute value" in text
    assert "sum instead of mean" not in text
