"""`evaluate_scores`: how good one score matrix is, with what tells whether to believe the number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from whence.scores.matrix import Scores
from whence.tasks.hubs import Hubs
from whence.tasks.interval import LEVEL, RESAMPLES, Estimate, plain
from whence.tasks.metrics import DEFAULT_METRICS, cover_cut
from whence.tasks.permutation import Null, permutation_nulls
from whence.tasks.table import metric_table


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one method: estimate, chance and permutation null of each, hub facts, and notes."""

    method: str
    n_queries: int
    n_train: int
    n_classes: int
    estimates: Mapping[str, Estimate]
    chance: Mapping[str, float]
    nulls: Mapping[str, Null]
    hubs: Hubs
    notes: tuple[str, ...]
    level: float

    def to_json(self) -> dict[str, Any]:
        """One object: each metric by name, then what belongs to it; null for what could not be scored."""
        estimates = {name: e.to_json() for name, e in self.estimates.items()}
        return {
            "method": self.method,
            **{name: e["value"] for name, e in estimates.items()},
            "n_queries": self.n_queries, "n_train": self.n_train, "n_classes": self.n_classes,
            "cover_cut": cover_cut(self.n_train, self.n_classes),
            "hub_top1_share": self.hubs.top1_share,
            "intervals": {name: [e["low"], e["high"]] for name, e in estimates.items()},
            "level": self.level,
            "n_scored": {name: e["n"] for name, e in estimates.items()},
            "chance": {name: plain(x) for name, x in self.chance.items()},
            "null": {name: null.to_json() for name, null in self.nulls.items()},
            "hubs": self.hubs.to_json(),
            "notes": list(self.notes),
        }


def evaluate_scores(scores: Scores, train_labels: Sequence[str], query_labels: Sequence[str], *,
                    metrics: Sequence[str] = DEFAULT_METRICS, resamples: int = RESAMPLES,
                    level: float = LEVEL, permutations: int = 200, seed: int = 0) -> Evaluation:
    """Measure one score matrix against labels.

    Raises:
        WhenceError: a shape that does not match the labels; a query label no training row has.
    """
    table = metric_table({scores.method: scores}, train_labels, query_labels, metrics=metrics,
                         resamples=resamples, level=level, seed=seed)
    return Evaluation(
        method=scores.method, n_queries=len(query_labels), n_train=len(train_labels),
        n_classes=len(set(train_labels)), estimates=table.rows[scores.method], chance=table.chance,
        nulls=permutation_nulls(scores.values, train_labels, query_labels, metrics, permutations, seed),
        hubs=table.hubs[scores.method][0], notes=table.notes, level=level)
