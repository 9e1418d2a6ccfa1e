from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report.synthetic import examples
from whence.curvature.gram import Gram
from whence.methods.catalogue import parse_calls
from whence.methods.evidence import Evidence
from whence.run.report import scored_report
from whence.run.scored import Scored
from whence.scores.matrix import Scores

Q, N = 3, 12


def scored(*methods: str) -> Scored:
    """Gradients of two blocks with 5 coordinates each, scored by the named methods."""
    rng = np.random.default_rng(0)
    grams = []
    for name in ("layers.0.q", "layers.1.q"):
        train, queries = rng.standard_normal((N, 5)), rng.standard_normal((Q, 5))
        grams.append(Gram(name, 5, train @ train.T, queries @ train.T, (queries**2).sum(1)))
    evidence = Evidence(examples(N, "train"), examples(Q, "query"), tuple(grams))
    measured = {"values": np.array([-1.0, -2.0, -3.0]), "wrong_tokens": np.array([0, 1, 2])}
    scores = {str(call): call(evidence) for call in parse_calls(methods)}
    return Scored(evidence.train, evidence.queries, scores, evidence, measured)


def written(path: Path) -> tuple[str, dict[str, Any]]:
    page = path.read_text(encoding="utf-8")
    found = re.search(r'id="data">(.*?)</script>', page)
    assert found is not None
    return page, json.loads(found.group(1))


@pytest.mark.parametrize(("methods", "shown"), [
    (("bm25", "datainf(damping=0.1)", "fisher(damping=10.0)", "fisher(damping=0.1)"), "fisher(damping=0.1)"),
    (("bm25", "fisher(damping=10.0)", "fisher(damping=100.0)"), "fisher(damping=10.0)"),
    (("gradient-dot", "datainf(damping=1.0)"), "datainf(damping=1.0)"),
    (("bm25", "gradient-dot"), "bm25"),
    (("fisher",), "fisher"),
])
def test_the_librarys_own_method_at_its_default_damping_is_shown_first(
        methods: tuple[str, ...], shown: str, tmp_path: Path) -> None:
    _, data = written(scored_report(scored(*methods), {}, tmp_path / "r.html", title="t"))
    assert data["methods"][data["headline"]]["label"] == shown


def test_the_page_has_blocks_behaviours_and_the_tables_notes(tmp_path: Path) -> None:
    made = scored("bm25", "fisher(damping=0.1)")
    page, data = written(scored_report(made, {}, tmp_path / "r.html", title="t", answers=["x", "y", "z"]))
    assert data["blocks"] == ["layers.0.q", "layers.1.q"]
    assert not any(query["parts_differ"] for query in data["queries"])  # the blocks add up to the score
    assert data["queries"][1]["behaviour"] == [
        ["log_prob_nats", ["−2", 0]], ["greedy_matches", ["no", 0]], ["greedy", ["y", 0]]]
    assert "Read this first" not in page  # what the metric table remarks stands beside it
    for note in made.table().notes:
        assert note.replace("'", "&#39;") in page
    assert made.table().notes


def with_scores(largest: float, unit: str, measured: float) -> Scored:
    """One method, its score of largest size `-largest`, where what is measured reaches `-measured`."""
    values = np.zeros((Q, N))
    values[1, 2], values[0, 1] = -largest, largest / 2
    return dataclasses.replace(
        scored("fisher"), scores={"fisher": Scores(values, "fisher", unit=unit)},
        measured={"values": np.array([-0.1, -measured, -0.2]), "wrong_tokens": np.array([0, 1, 2])})


@pytest.mark.parametrize(("largest", "unit", "measured", "warned"), [
    (3.5, "nats", 3.0, True),
    (3.0, "nats", 3.0, False),  # what one copy changes could still bring the log-probability to 0
    (0.9, "nats", 0.3, False),  # below one nat, small beside any range
    (1.1, "nats", 0.3, True),
    (1234.0, "cosine", 3.0, False),  # not predicted changes
])
def test_predicted_changes_beyond_the_range_of_what_is_measured_are_warned_of(
        largest: float, unit: str, measured: float, warned: bool, tmp_path: Path) -> None:
    page, _ = written(scored_report(with_scores(largest, unit, measured), {}, tmp_path / "r.html", title="t"))
    assert ("Read this first" in page) == warned
    said = f"fisher predicts changes of up to {largest:.3g} nats from one more copy of one example"
    assert (said in page) == warned
    assert (f"are at most {measured:.3g} nats away from 0" in page) == warned
