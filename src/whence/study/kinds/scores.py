"""Scores of every training row for every query, under one or more scorings, and how good each is: class and truth.

    acc, cover, cover_at_positives, auprc     against the groups, of each query (`whence.tasks.metrics`)
    leave-k-out, lds                          rank correlation with what a bank's members did, of each query
    as gradient-dot                           rank correlation of the scores with plain gradient dot's, of each query
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from whence.methods.evidence import Evidence
from whence.study.cell import Cell, Row, kind
from whence.study.cost import Work
from whence.study.encoding import Encoding
from whence.study.kinds.bank import Truth
from whence.study.kinds.evidence import evidence_of
from whence.study.kinds.fine_tune import load_fine_tune, rows_and_tokens
from whence.study.kinds.fine_tune import work as training_work
from whence.study.scoring import GRAM_METHODS, Scoring, scorings
from whence.tasks.hubs import hub_facts
from whence.tasks.metrics import judge, measure
from whence.tasks.ranking import Ranking
from whence.train.checkpoint import checkpoint_folders, checkpoint_step, load_checkpoint

METRICS = ("acc", "cover", "cover_at_positives", "auprc")
COSTLY_PASSES = 40  # of conjugate gradients for one query, about


def work(cell: Cell) -> Work:
    """A few passes over the rows; many for exact products."""
    once, options = training_work(cell.needs[0]), cell.options
    rows, tokens = rows_and_tokens(cell.needs[0].options)
    batches = max(1.0, rows * tokens / 4096)
    exact = any(name.startswith(("cg", "neumann")) for name in options["methods"])
    return Work(batches * (4 + COSTLY_PASSES * exact), once.layers, 4096, once.weights, 1.0)


@kind("scores", work)
def scores(options: Mapping[str, Any], folder: Path, needs: Sequence[Path]) -> list[Row]:
    """One pass over the rows; every scoring from it. Methods that no switch touches stand under the first scoring."""
    tuned = load_fine_tune(needs[0], options["task"], options["seed"])
    truth = Truth.read(needs[1]) if len(needs) > 1 else None
    step = -1
    if options.get("checkpoint") is not None:
        place = checkpoint_folders(needs[0] / "run")[options["checkpoint"]]
        load_checkpoint(tuned.model, place)
        step = checkpoint_step(place)
    chosen = scorings(options["scorings"])
    first = next(iter(chosen.values()))
    calls = [scoring.call(name) for scoring in chosen.values() for name in options["methods"]]
    grams = any(name in GRAM_METHODS or name.startswith("fisher") for name in options["methods"])
    seen = evidence_of(tuned, Encoding.of(options["encoding"]), calls, grams)
    tokens = seen.train.response_lengths, seen.queries.response_lengths
    rows: list[Row] = []
    for label, scoring in chosen.items():
        evidence = scoring.evidence(seen.evidence, *tokens)
        groups = tuned.task.query_groups
        every = scoring.queries == "all" or options.get("positive") not in groups
        asked = [q for q, group in enumerate(groups) if every or group == options["positive"]]
        plain = scoring.scores("gradient-dot", evidence) if grams else None
        for name in options["methods"]:
            if scoring is not first and name not in GRAM_METHODS and scoring.queries == first.queries:
                continue
            values = scoring.scores(name, evidence)
            common = {"scoring": label, "method": name, "step": step, "damping": scoring.damping}
            found = graded(values, scoring, name, evidence, asked, truth)
            if plain is not None and name in GRAM_METHODS:
                found |= likeness(values, plain, asked)
            rows += [{**common, "query": q, "metric": metric, "value": float(value)}
                     for metric, of in found.items() for q, value in zip(asked, of, strict=True)]
            rows += [{**common, "metric": metric, "value": value} for metric, value in hubs(values[asked], evidence)]
            solver = scoring.call(name).solver
            if solver and solver in evidence.products and "residual" in evidence.products[solver].facts:
                residual = evidence.products[solver].facts["residual"]["median"]
                rows.append({**common, "metric": "residual", "value": float(residual)})
    return rows


def graded(values: Float[np.ndarray, "Q N"], scoring: Scoring, name: str, evidence: Evidence, asked: Sequence[int],
           truth: Truth | None) -> dict[str, np.ndarray]:
    """Every metric of the queries `asked`."""
    kept = scoring.kept(name, evidence)
    train = [str(group) for group, keep in zip(evidence.train.groups, kept, strict=True) if keep]
    queries = [str(evidence.queries.groups[q]) for q in asked]
    judged = judge(values[asked][:, kept], train, queries)
    found = measure(judged, METRICS)
    ids = np.array(evidence.train.ids)[kept]
    if any(name.startswith("short-") for name in ids):
        found["top-1 is short"] = np.array([str(ids[row]).startswith("short-")
                                            for row in judged.ranking.order[:, 0]], dtype=float)
    if truth is not None:
        found |= {metric: of[list(asked)] for metric, of in truth.agreement(np.where(kept, values, 0.0)).items()}
    return found


def likeness(values: Float[np.ndarray, "Q N"], plain: Float[np.ndarray, "Q N"],
             asked: Sequence[int]) -> dict[str, np.ndarray]:
    """Rank correlation with gradient dot, and the median ratio to it, of each query."""
    a, b = Ranking.of(values[asked]).ranks(), Ranking.of(plain[asked]).ranks()
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    norms = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    same = np.divide((a * b).sum(axis=1), norms, out=np.zeros(len(a)), where=norms > 0)
    ratio = np.divide(values, plain, out=np.full_like(values, np.nan), where=plain != 0)[asked]
    return {"as gradient-dot": same, "ratio to gradient-dot": np.nanmedian(ratio, axis=1),
            "spread of the ratio": np.nanpercentile(ratio, 75, axis=1) - np.nanpercentile(ratio, 25, axis=1)}


def hubs(values: Float[np.ndarray, "q N"], evidence: Evidence) -> list[tuple[str, float]]:
    """The share of queries with the most common first row; how much larger the scores of short rows are."""
    found = [("hub share", hub_facts(values).top1_share)]
    short = np.array([name.startswith("short-") for name in evidence.train.ids])
    if short.any() and not short.all():
        sizes = np.sqrt(np.square(values).mean(axis=0))
        found.append(("short / other size", float(np.median(sizes[short]) / max(np.median(sizes[~short]), 1e-300))))
    return found
