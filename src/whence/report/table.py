"""The metric table and the headline's summary: estimates, what is best, what chance would give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from whence.report.content import ReportContent
from whence.report.wording import show_fact, show_metric

LOWER_IS_BETTER = ("hub_top1_share",)


@dataclass(frozen=True)
class Cell:
    """One estimate. `at_chance`: its interval includes what a random ranking gives, so it shows nothing."""

    value: float
    low: float
    high: float
    n: int
    best: bool
    at_chance: bool


@dataclass(frozen=True)
class MetricTable:
    """Columns are metrics; `rows` pairs a method label with its cells, None where there is no estimate."""

    metrics: tuple[str, ...]
    headings: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]
    chance: tuple[float | None, ...]


@dataclass(frozen=True)
class Tile:
    """The headline under one metric, beside chance and the best baseline (label, value): is it beaten?"""

    heading: str
    cell: Cell
    chance: float | None
    baseline: tuple[str, float] | None
    beaten: bool


def metric_table(content: ReportContent) -> MetricTable | None:
    """The table, or None where nothing was measured. Best is the highest value (lowest for a hub share)."""
    if not content.metrics:
        return None
    metrics = tuple(dict.fromkeys(name for row in content.metrics.values() for name in row))
    chance = tuple((content.chance or {}).get(name) for name in metrics)
    best = {name: _best(content, name, tuple(content.metrics)) for name in metrics}

    def cell(label: str, name: str, by_chance: float | None) -> Cell | None:
        estimate = content.metrics[label].get(name) if content.metrics else None
        if estimate is None or not np.isfinite(estimate.value):
            return None
        at_chance = by_chance is not None and estimate.low <= by_chance <= estimate.high
        top = best[name]
        return Cell(estimate.value, estimate.low, estimate.high, estimate.n,
                    top is not None and estimate.value == top[1], at_chance)

    rows = tuple((label, tuple(cell(label, *pair) for pair in zip(metrics, chance, strict=True)))
                 for label in content.metrics)
    return MetricTable(metrics, tuple(map(show_metric, metrics)), rows, chance)


def tiles(content: ReportContent, table: MetricTable | None) -> list[Tile]:
    """The headline's own estimates, those that another method would win included."""
    cells = dict(table.rows).get(content.headline) if table else None
    if table is None or cells is None:
        return []
    shown = []
    for name, cell, chance in zip(table.metrics, cells, table.chance, strict=True):
        if cell is not None:
            baseline = _best(content, name, content.baselines)
            sign = -1 if name in LOWER_IS_BETTER else 1
            beaten = baseline is not None and sign * (baseline[1] - cell.value) > 0
            shown.append(Tile(show_metric(name), cell, chance, baseline, beaten))
    return shown


def _best(content: ReportContent, metric: str, labels: Sequence[str]) -> tuple[str, float] | None:
    estimates = {label: (content.metrics or {}).get(label, {}).get(metric) for label in labels}
    values = {label: e.value for label, e in estimates.items() if e is not None and np.isfinite(e.value)}
    if not values:
        return None
    label = (min if metric in LOWER_IS_BETTER else max)(values, key=lambda name: values[name])
    return label, values[label]


def fact_sections(facts: Mapping[str, Any], heading: str = "Run") -> list[tuple[str, list[tuple[str, str]]]]:
    """(section, [(name, value)]): a nested mapping is a section of its own, named by its path."""
    plain = [(key, show_fact(value)) for key, value in facts.items() if not isinstance(value, Mapping)]
    sections = [(heading, plain)] if plain else []
    for key, value in facts.items():
        if isinstance(value, Mapping):
            sections += fact_sections(value, key if heading == "Run" else f"{heading} · {key}")
    return sections
