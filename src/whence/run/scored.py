"""`Scored`: one set of queries under several methods, and everything made from that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from whence.base.errors import WhenceError
from whence.data.examples import Examples
from whence.methods.evidence import Evidence
from whence.methods.registry import parse
from whence.scores.matrix import Scores
from whence.tasks.table import MetricTable, metric_table

SUM_OVER_BLOCKS = frozenset({"datainf", "fisher", "lissa", "lissa-published"})  # and every solver's method


@dataclass(frozen=True)
class Scored:
    """Scores [Q, N] of each method, with the examples, the evidence and what was measured of the queries.

    Attributes:
        train, queries: the examples.
        scores: method -> scores, in the order asked for.
        evidence: what the methods saw.
        measured: `values` [Q] in the measurement's unit, `wrong_tokens` [Q] (0 = greedy decoding gives the response).
        what: name and unit of the measurement.
        blocks: names of the attributed blocks.
    """

    train: Examples
    queries: Examples
    scores: Mapping[str, Scores]
    evidence: Evidence
    measured: Mapping[str, np.ndarray]
    what: str = "log_prob_nats"
    blocks: tuple[str, ...] = ()

    def __getitem__(self, method: str) -> Scores:
        return self.scores[method]

    @property
    def accuracy(self) -> float:
        """Share of queries whose response greedy decoding gives exactly."""
        return float(np.mean(self.measured["wrong_tokens"] == 0))

    @property
    def labelled(self) -> bool:
        """Whether every training row and every query has a group."""
        return None not in self.train.groups and None not in self.queries.groups

    def table(self, **options: Any) -> MetricTable:
        """Methods x metrics against the groups, with intervals (see `whence.tasks.table.metric_table`).

        Raises:
            WhenceError: a row or query without a group, or a query whose group no training row has.
        """
        labels = []
        for what, groups in (("training rows", self.train.groups), ("queries", self.queries.groups)):
            if None in groups:
                raise WhenceError(f"{groups.count(None)} of {len(groups)} {what} have no group, so there is nothing to "
                                  "measure against; name the column with --columns group=COLUMN")
            labels.append([str(group) for group in groups])
        return metric_table(self.scores, *labels, **options)

    def block_scores(self, method: str) -> Callable[[int, Sequence[int]], np.ndarray] | None:
        """`(q, rows) -> [len(rows), blocks]`, what each block adds to a method's scores; None if it is no such sum."""
        call = parse(method)
        if call.solver:
            by_block = np.moveaxis(self.evidence.solved(call.solver).by_block, 0, -1) / len(self.train)
            return lambda q, rows: by_block[q, list(rows)]
        if call.method.name not in SUM_OVER_BLOCKS or call.options.get("scope", "block") != "block":
            return None
        if call.options.get("rule") == "global":  # one lambda for all blocks: none can be scored by itself
            return None
        by_block = np.stack([call(self.evidence.only(b)).values for b in range(len(self.evidence.grams))], axis=-1)
        return lambda q, rows: by_block[q, list(rows)]
