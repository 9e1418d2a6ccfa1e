"""The metric table by family: the default damping first, what is best, what chance would give; the facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from whence.report.content import ReportContent
from whence.report.wording import show_fact
from whence.tasks.hubs import Hubs
from whence.tasks.interval import Estimate


@dataclass(frozen=True)
class Cell:
    """One estimate. `at_chance`: its interval includes what a random ranking gives, so it shows nothing."""

    estimate: Estimate
    best: bool
    at_chance: bool


@dataclass(frozen=True)
class Row:
    """A method: its cells in the order of the metrics, None where nothing could be scored; its hub facts."""

    label: str
    cells: tuple[Cell | None, ...]
    hubs: Hubs


def metric_rows(content: ReportContent) -> list[tuple[Row, ...]]:
    """The rows of each family, its default first, then the others by damping; empty where nothing was measured.

    Best is the highest value of the column, wherever its interval ends; several may share it.
    """
    table = content.metrics
    if table is None:
        return []
    tops = {name: max((row[name].value for row in table.rows.values() if row[name].n), default=None)
            for name in table.metrics}

    def row(label: str) -> Row:
        return Row(label, tuple(cell(table.rows[label][name], name) for name in table.metrics),
                   table.hubs[label][0])

    def cell(estimate: Estimate, name: str) -> Cell | None:
        if estimate.n == 0:
            return None
        at_chance = estimate.low <= table.chance[name] <= estimate.high
        return Cell(estimate, estimate.value == tops[name], at_chance)

    grouped = []
    for family in content.families:
        measured = [label for label in family.members if label in table.rows]
        measured.sort(key=lambda label: label != family.default)
        if measured:
            grouped.append(tuple(map(row, measured)))
    return grouped


def fact_sections(facts: Mapping[str, Any], heading: str = "Run") -> list[tuple[str, list[tuple[str, str]]]]:
    """(section, [(name, value)]): a nested mapping is a section of its own, named by its path."""
    plain = [(key, show_fact(value)) for key, value in facts.items() if not isinstance(value, Mapping)]
    sections = [(heading, plain)] if plain else []
    for key, value in facts.items():
        if isinstance(value, Mapping):
            sections += fact_sections(value, key if heading == "Run" else f"{heading} · {key}")
    return sections
