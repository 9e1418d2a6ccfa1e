"""`ReportContent`: everything the report shows, checked once so that the page never contradicts itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from whence.base.errors import WhenceError
from whence.data.examples import Examples
from whence.report.family import Family, families
from whence.scores.matrix import Scores
from whence.tasks.table import MetricTable

BlockScores = Callable[[int, Sequence[int]], np.ndarray]
"""`(q, rows) -> float [len(rows), blocks]`: what each block contributes to the headline's score of `rows`
for query `q`, in the unit of the score."""


@dataclass(frozen=True)
class ReportContent:
    """What one report shows: Q queries, N training rows, M methods.

    Attributes:
        title: the heading of the page.
        facts: the run's facts (model, data, sizes, versions, seeds, hashes, timings, peak memory, counts of
            truncated rows, n used / n total); mappings may be nested and become sections.
        train: the N training rows.
        queries: the Q queries.
        scores: method label, such as `fisher(damping=0.1)` -> scores [Q, N]; positive = proponent. Labels
            that differ in their damping alone are one family.
        headline: the label that is shown first.
        baselines: labels that are trivial baselines; they are marked wherever they stand, and the best of them
            is held against the best of the others.
        metrics: the table of these scores, one seed, or None where nothing is labelled.
        default_damping: which member stands for a family where one must; in multiples of the mean eigenvalue.
        blocks: names of the model's blocks, in the order of the columns of `block_scores`.
        block_scores: contribution of each block to the headline's scores, or None.
        behaviours: for each query, facts about what the model does with it: `log_prob_nats`, `greedy` (its
            own answer), `greedy_matches`, and whatever else was measured; or None.
        notes: warnings that must be seen.
        card: the trust card of the headline's scores as `whence.trust.card.Card.to_json` writes it, or None.

    Raises `WhenceError` where the parts do not fit together, naming the part.
    """

    title: str
    facts: Mapping[str, Any]
    train: Examples
    queries: Examples
    scores: Mapping[str, Scores]
    headline: str
    baselines: tuple[str, ...] = ()
    metrics: MetricTable | None = None
    default_damping: float = 0.1
    blocks: tuple[str, ...] = ()
    block_scores: BlockScores | None = None
    behaviours: Sequence[Mapping[str, Any]] | None = None
    notes: Sequence[str] = ()
    card: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        shape = (len(self.queries), len(self.train))
        if 0 in shape:
            raise WhenceError(f"report: {shape[0]} queries and {shape[1]} training rows; "
                              "expected one of each at least")
        for label, scores in self.scores.items():
            if scores.values.shape != shape:
                raise WhenceError(f"report: scores of {label!r} have shape {list(scores.values.shape)}; "
                                  f"expected [queries, train] = {list(shape)}; score these queries again")
        known = ", ".join(self.scores) or "none"
        named = {"headline": (self.headline,), "baselines": self.baselines,
                 "metrics": tuple(self.metrics.rows) if self.metrics else ()}
        for part, labels in named.items():
            for label in labels:
                if label not in self.scores:
                    raise WhenceError(f"report: {part} names the method {label!r}, which has no scores; "
                                      f"there are: {known}")
        if self.metrics is not None and [len(of_seed) for of_seed in self.metrics.query_labels] != [shape[0]]:
            met = [len(of_seed) for of_seed in self.metrics.query_labels]
            raise WhenceError(f"report: metrics of {met} queries, a number for each seed; expected one seed with "
                              f"{shape[0]}; measure these scores again")
        if self.behaviours is not None and len(self.behaviours) != shape[0]:
            raise WhenceError(f"report: behaviours of {len(self.behaviours)} queries; expected {shape[0]}")
        if self.card is not None and (self.card["method"], len(self.card["queries"])) != (self.headline, shape[0]):
            raise WhenceError(f"report: a card of {self.card['method']!r} for {len(self.card['queries'])} queries; "
                              f"expected one of the headline {self.headline!r} for {shape[0]}")
        if (self.block_scores is None) != (not self.blocks):
            given = "no" if self.block_scores is None else "a"
            raise WhenceError(f"report: {len(self.blocks)} block names and {given} block_scores; "
                              "give both or neither")


    @cached_property
    def families(self) -> tuple[Family, ...]:
        """The methods by family, in the order of `scores`."""
        return families(self.scores, self.default_damping)
