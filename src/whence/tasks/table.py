"""`MetricTable`: methods x metrics, every number with its interval, and a row for chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from whence.base.errors import WhenceError
from whence.scores.matrix import Scores
from whence.tasks.hubs import Hubs, hub_facts
from whence.tasks.interval import (
    LEVEL,
    RESAMPLES,
    Estimate,
    bootstrap_mean,
    bootstrap_seeds,
    mean_scored,
    plain,
    short,
)
from whence.tasks.labels import check_known, relevance
from whence.tasks.metrics import DEFAULT_METRICS, check_shape, judge, measure, metric

CHANCE = "chance"
LEAST_TELLING_FIRST = ("cover", "roc_auc", "mrr", "cover_at_positives", "auprc")  # what a narrow terminal leaves out


@dataclass(frozen=True)
class MetricTable:
    """Metrics of several methods on one task.

    Attributes:
        rows: method -> metric -> estimate.
        chance: metric -> expectation under a random ranking, exactly (see `whence.tasks.chance`).
        hubs: method -> hub facts, one for each seed.
        per_query: method -> metric -> float [seeds, queries], NaN = unscored: what the estimates are made of.
        query_labels: the label of each query, one tuple for each seed.
        n_train: training rows.
        level: of the intervals.
    """

    rows: Mapping[str, Mapping[str, Estimate]]
    chance: Mapping[str, float]
    hubs: Mapping[str, tuple[Hubs, ...]]
    per_query: Mapping[str, Mapping[str, np.ndarray]]
    query_labels: tuple[tuple[str, ...], ...]
    n_train: int
    level: float

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(self.chance)

    @property
    def seeds(self) -> int:
        return len(self.query_labels)

    @property
    def notes(self) -> tuple[str, ...]:
        """Reasons to distrust intervals, and what was left out; each once."""
        estimates = [(name, e) for row in self.rows.values() for name, e in row.items()]
        notes = dict.fromkeys(note for _, e in estimates for note in e.notes)
        unscored = {name: e.unscored for name, e in estimates if e.unscored}
        notes |= dict.fromkeys(f"{name}: undefined for {count} queries, which are left out"
                               for name, count in unscored.items())
        tied = {method: sum(h.tied_top1 for h in hubs) for method, hubs in self.hubs.items()}
        notes |= dict.fromkeys(f"{method}: the top score is tied for {count} queries; row order decides"
                               for method, count in tied.items() if count)
        return tuple(notes)

    @property
    def caption(self) -> str:
        seeds = f", {self.seeds} seeds" if self.seeds > 1 else ""
        size = f"{len(self.query_labels[0])} queries, {self.n_train} training rows{seeds}"
        return f"{size}; mean [{self.level:.0%} interval]"

    @classmethod
    def over_seeds(cls, tables: Sequence[MetricTable], *, resamples: int = RESAMPLES, level: float = LEVEL,
                   seed: int = 0) -> MetricTable:
        """One table of several seeds' tables: seeds and queries are both resampled (see `bootstrap_seeds`).

        Raises:
            WhenceError: the tables differ in methods, metrics, or number of queries or training rows.
        """
        if not tables:
            raise WhenceError("no tables to put together")
        first = tables[0]
        for i, table in enumerate(tables):
            for what, of in _SAME.items():
                if of(table) != of(first):
                    raise WhenceError(f"table {i} has other {what} than table 0: {of(table)} and {of(first)}")
        per_query = {method: {name: np.concatenate([t.per_query[method][name] for t in tables])
                              for name in first.metrics} for method in first.rows}
        labels = tuple(of_seed for t in tables for of_seed in t.query_labels)
        alike = labels[0] if all(len(set(of_seed)) == 1 for of_seed in labels) else None
        how: dict[str, Any] = {"query_labels": alike, "resamples": resamples, "level": level, "seed": seed}
        return cls(
            rows={method: {name: bootstrap_seeds(x, **how) for name, x in row.items()}
                  for method, row in per_query.items()},
            chance={name: mean_scored(np.array([t.chance[name] for t in tables])) for name in first.metrics},
            hubs={method: tuple(h for t in tables for h in t.hubs[method]) for method in first.rows},
            per_query=per_query, query_labels=labels, n_train=first.n_train, level=level)

    def to_json(self) -> dict[str, Any]:
        """Plain values; null for what could not be scored."""
        return {
            "n_queries": len(self.query_labels[0]), "n_train": self.n_train, "seeds": self.seeds,
            "metrics": list(self.metrics),
            "level": self.level,
            "rows": {method: {name: e.to_json() for name, e in row.items()}
                     for method, row in self.rows.items()},
            "chance": {name: plain(x) for name, x in self.chance.items()},
            "hubs": {method: [h.to_json() for h in hubs] for method, hubs in self.hubs.items()},
            "notes": list(self.notes),
        }

    def select(self, methods: Mapping[str, str]) -> MetricTable:
        """The same table with the given methods alone, in their order: name to show -> method."""
        return replace(self, rows={name: self.rows[method] for name, method in methods.items()},
                       hubs={name: self.hubs[method] for name, method in methods.items()},
                       per_query={name: self.per_query[method] for name, method in methods.items()})

    def to_markdown(self) -> str:
        """A table in GitHub's Markdown, then its caption and notes."""
        lines = ["| " + " | ".join(row) + " |" for row in self._cells()]
        lines.insert(1, "|---" * (len(self.metrics) + 2) + "|")
        return "\n".join([*lines, "", self.caption + ".", *(f"- {note}" for note in self.notes)]) + "\n"

    def to_rich(self, title: str | None = None, width: int | None = None) -> Table:
        """A table for the terminal; with `width`, the metrics that fit in so many characters, the rest named below."""
        head, *rows = self._cells()
        room = list(range(len(head)))
        if width is not None:
            widest = [max(len(row[i]) for row in (head, *rows)) + 3 for i in room]  # a space each side, a line between
            for name in LEAST_TELLING_FIRST:
                if name in head and sum(widest[i] for i in room) + 1 > width:
                    room.remove(head.index(name))
        left_out = ", ".join(name for i, name in enumerate(head) if i not in room)
        head, *rows = ([row[i] for i in room] for row in (head, *rows))
        notes = [self.caption, *([f"no room here for {left_out}"] if left_out else []), *self.notes]
        caption = escape("\n".join(notes))
        table = Table(title=title, caption=caption, caption_justify="left", box=box.SIMPLE_HEAD)
        for i, name in enumerate(head):
            table.add_column(name.replace("_", " "), justify="left" if i == 0 else "right", overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row), style="dim" if row[0] == CHANCE else None)
        return table

    def _cells(self) -> list[list[str]]:
        cells = [["method", *self.metrics, "hub"]]
        for method, row in self.rows.items():
            hub = float(np.mean([h.top1_share for h in self.hubs[method]]))
            cells.append([method, *(str(row[name]) for name in self.metrics), short(hub)])
        cells.append([CHANCE, *(short(self.chance[name]) for name in self.metrics), ""])
        return cells


_SAME: dict[str, Callable[[MetricTable], Any]] = {
    "methods": lambda table: tuple(table.rows),
    "metrics": lambda table: table.metrics,
    "number of queries": lambda table: len(table.query_labels[0]),
    "number of training rows": lambda table: table.n_train,
}


def metric_table(scores: Mapping[str, Scores], train_labels: Sequence[str], query_labels: Sequence[str], *,
                 metrics: Sequence[str] = DEFAULT_METRICS, resamples: int = RESAMPLES, level: float = LEVEL,
                 seed: int = 0) -> MetricTable:
    """Measure every method against the labels; all methods see the same resamples of the queries.

    Raises:
        WhenceError: no scores; a shape that does not match the labels; a query label no training row has.
    """
    if not scores:
        raise WhenceError("no scores to make a table of")
    check_known(train_labels, query_labels)
    for name, of_method in scores.items():
        check_shape(of_method.values, len(train_labels), len(query_labels), scores_from=name)
    per_query = {name: measure(judge(of_method.values, train_labels, query_labels), metrics)
                 for name, of_method in scores.items()}
    positives = relevance(train_labels, query_labels).sum(axis=1)
    how: dict[str, Any] = {"query_labels": query_labels, "resamples": resamples, "level": level, "seed": seed}
    return MetricTable(
        rows={method: {name: bootstrap_mean(x, **how) for name, x in row.items()}
              for method, row in per_query.items()},
        chance={name: mean_scored(metric(name).by_chance(positives, len(train_labels))) for name in metrics},
        hubs={name: (hub_facts(of_method.values),) for name, of_method in scores.items()},
        per_query={method: {name: x[None, :] for name, x in row.items()}
                   for method, row in per_query.items()},
        query_labels=(tuple(query_labels),), n_train=len(train_labels), level=level)
