"""From scored queries to the page a person opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from whence.methods.catalogue import BASELINES, DEFAULT, METHODS
from whence.report.content import ReportContent
from whence.report.family import families
from whence.report.page import write_report
from whence.report.wording import base_name, show_number
from whence.run.scored import Scored
from whence.trust.card import Card

FAR_BEYOND = 10


def scored_report(scored: Scored, facts: Mapping[str, Any], path: str | Path, *, title: str,
                  headline: str | None = None, answers: Sequence[str] | None = None,
                  notes: Sequence[str] = (), card: Card | None = None) -> Path:
    """Write the report of all queries under all methods.

    Args:
        headline: the method shown first; default the library's own at its default damping, else the first that is
            no baseline.
        answers: what the model itself says to each query, greedily.
        notes: warnings that must be seen; those of the metric table stand beside it.
        card: the trust card of the headline's scores.
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
        blocks=scored.blocks if shares else (), block_scores=shares,
        behaviours=behaviours, notes=(*notes, *_beyond_linear(scored, headline)),
        card=card.to_json() if card else None)
    return write_report(content, path)


def _beyond_linear(scored: Scored, headline: str) -> list[str]:
    """A warning where predicted gains are far larger than what is left to gain: -log p of each query's response."""
    if scored.what != "log_prob_nats":
        return []  # other measurements have no bound to compare with
    left = np.maximum(-scored.measured["values"], 1e-9)
    told = []
    for method, scores in scored.scores.items():
        gains = scores.values.max(axis=1)
        beyond = gains > FAR_BEYOND * left
        if scores.unit == "nats" and beyond.any():
            told.append((method, int(beyond.sum()), float(gains[beyond].max())))
    if not told:
        return []
    method, count, largest = min(told, key=lambda one: one[0] != headline)
    others = f" (and {len(told) - 1} more of the {len(scored.scores)} methods likewise)" if len(told) > 1 else ""
    return [f"{method}{others}: for {count} of {len(left)} queries the predicted gain from one more copy of the first "
            f"example, up to {show_number(largest)} nats, is more than {FAR_BEYOND} times all there is left to gain. "
            "That is linear extrapolation far beyond its range (a model that nearly interpolates, a small damping): "
            "read the order, not the size."]


def hits_report(scored: Scored, facts: Mapping[str, Any], path: str | Path, card: Card) -> Path:
    """Write the report of one traced answer with its trust card."""
    return scored_report(scored, facts, path, title="The training examples behind an answer", card=card)
