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
from whence.curvature.products import Products
from whence.methods.catalogue import parse_calls, solvers_of
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
    calls = parse_calls(methods)
    products = {solver: Products(rng.standard_normal((2, Q, N)), {}) for solver in solvers_of(calls)}
    evidence = Evidence(examples(N, "train"), examples(Q, "query"), tuple(grams), products=products)
    measured = {"values": np.array([-1.0, -2.0, -3.0]), "wrong_tokens": np.array([0, 1, 2])}
    scores = {str(call): call(evidence) for call in calls}
    return Scored(evidence.train, evidence.queries, scores, evidence, measured, blocks=("layers.0.q", "layers.1.q"))


def written(path: Path) -> tuple[str, dict[str, Any]]:
    page = path.read_text(encoding="utf-8")
    found = re.search(r'id="data">(.*?)</script>', page)
    assert found is not None
    return page, json.loads(found.group(1))


@pytest.mark.parametrize(("methods", "shown"), [
    (("bm25", "datainf(damping=0.1)", "ekfac(damping=10.0)", "ekfac(damping=0.1)"), "ekfac(damping=0.1)"),
    (("bm25", "fisher", "ekfac(damping=10.0)", "ekfac(damping=100.0)"), "ekfac(damping=10.0)"),
    (("gradient-dot", "datainf(damping=1.0)"), "datainf(damping=1.0)"),
    (("bm25", "gradient-dot"), "bm25"),
    (("ekfac",), "ekfac"),
    (("fisher", "datainf"), "fisher"),
])
def test_the_librarys_own_method_at_its_default_damping_is_shown_first(
        methods: tuple[str, ...], shown: str, tmp_path: Path) -> None:
    _, data = written(scored_report(scored(*methods), {}, tmp_path / "r.html", title="t"))
    assert data["methods"][data["headline"]]["label"] == shown


@pytest.mark.parametrize("method", ["fisher(damping=0.1)", "ekfac", "gradient-dot"])
def test_the_page_has_blocks_behaviours_and_the_tables_notes(method: str, tmp_path: Path) -> None:
    made = scored(method) if method == "gradient-dot" else scored("bm25", method)
    page, data = written(scored_report(made, {}, tmp_path / "r.html", title="t", answers=["x", "y", "z"]))
    assert data["blocks"] == ["layers.0.q", "layers.1.q"]
    assert not any(query["parts_differ"] for query in data["queries"])  # the blocks add up to the score
    assert data["queries"][1]["behaviour"] == [
        ["log_prob_nats", ["−2", 0]], ["greedy_matches", ["no", 0]], ["greedy", ["y", 0]]]
    assert "Read this first" not in page  # what the metric table remarks stands beside it
    for note in made.table().notes:
        assert note.replace("'", "&#39;") in page
    assert made.table().notes


def with_scores(gain: float, unit: str, what: str) -> Scored:
    """One method: the second query, 2 nats from certain, has a best score of `gain`; every other score is -1000."""
    values = np.full((Q, N), -1000.0)
    values[1, 2] = gain
    measured = {"values": np.array([-0.1, -2.0, -0.2]), "wrong_tokens": np.array([0, 1, 2])}
    return dataclasses.replace(scored("fisher"), scores={"fisher": Scores(values, "fisher", unit=unit)},
                               measured=measured, what=what)


@pytest.mark.parametrize(("gain", "unit", "what", "warned"), [
    (20.5, "nats", "log_prob_nats", True),
    (19.5, "nats", "log_prob_nats", False),  # ten times what is left is still taken for a rough guess
    (20500.0, "cosine", "log_prob_nats", False),  # not predicted changes
    (20.5, "nats", "log_odds_nats", False),  # log-odds have no bound
])
def test_predicted_gains_far_beyond_what_is_left_to_gain_are_warned_of(gain: float, unit: str, what: str, warned: bool,
                                                                       tmp_path: Path) -> None:
    page, _ = written(scored_report(with_scores(gain, unit, what), {}, tmp_path / "r.html", title="t"))
    assert ("Read this first" in page) == warned
    assert (f"fisher: for 1 of {Q} queries the predicted gain from one more copy of the first example, up to {gain:g} "
            "nats, is more than 10 times all there is left to gain" in page) == warned


def test_other_methods_with_such_gains_are_counted(tmp_path: Path) -> None:
    one = with_scores(50.0, "nats", "log_prob_nats")
    two = dataclasses.replace(one, scores={**one.scores, "datainf": Scores(one.scores["fisher"].values, "datainf")})
    page, _ = written(scored_report(two, {}, tmp_path / "r.html", title="t"))
    assert "fisher (and 1 more of the 2 methods likewise): for 1 of" in page
