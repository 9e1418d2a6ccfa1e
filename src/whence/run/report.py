"""From scored queries to the page a person opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from whence.methods.catalogue import BASELINES, DEFAULT, METHODS
from whence.report.content import ReportContent
from whence.report.family import families
from whence.report.page import write_report
from whence.report.wording import base_name
from whence.run.scored import Scored


def scored_report(scored: Scored, facts: Mapping[str, Any], path: str | Path, *, title: str,
                  headline: str | None = None, answers: Sequence[str] | None = None,
                  notes: Sequence[str] = ()) -> Path:
    """Write the report of all queries under all methods.

    Args:
        headline: the method shown first; default the library's own at its default damping, else the first that is
            no baseline.
        answers: what the model itself says to each query, greedily.
        notes: warnings that must be seen; those of the metric table stand beside it.
    """
    labels = list(scored.scores)
    baselines = tuple(label for label in labels if base_name(label) in BASELINES)
    damping = METHODS[DEFAULT].options["damping"]
    own = next((family.default for family in families(labels, damping) if family.name == DEFAULT), None)
    headline = headline or own or next((label for label in labels if label not in baselines), labels[0])
    table = scored.table() if scored.labelled else None
    shares = scored.block_scores(headline)
    behaviours: list[dict[str, Any]] = []
    for q in range(len(scored.queries)):
        behaviour = {scored.what: float(scored.measured["values"][q]),
                     "greedy_matches": bool(scored.measured["wrong_tokens"][q] == 0)}
        behaviours.append(behaviour | ({"greedy": answers[q]} if answers else {}))
    content = ReportContent(
        title=title, facts=facts, train=scored.train, queries=scored.queries, scores=scored.scores, headline=headline,
        baselines=baselines, metrics=table, default_damping=damping,
        blocks=tuple(gram.name for gram in scored.evidence.grams) if shares else (), block_scores=shares,
        behaviours=behaviours, notes=(*notes, *_beyond_linear(scored, headline)))
    return write_report(content, path)


def _beyond_linear(scored: Scored, method: str) -> list[str]:
    """A warning where predicted changes are larger than what is measured could ever change by."""
    scores = scored.scores[method]
    largest, measured = float(abs(scores.values).max()), float(abs(scored.measured["values"]).max())
    if scores.unit != "nats" or largest <= max(1.0, measured):
        return []
    return [f"{method} predicts changes of up to {largest:,.3g} nats from one more copy of one example, where the "
            f"log-probabilities themselves are at most {measured:,.3g} nats away from 0: a linear extrapolation far "
            "beyond its range (a nearly interpolating model, a small damping). Read the order, not the size."]


def hits_report(scored: Scored, facts: Mapping[str, Any], path: str | Path) -> Path:
    """Write the report of one traced answer."""
    return scored_report(scored, facts, path, title="The training examples behind an answer")
