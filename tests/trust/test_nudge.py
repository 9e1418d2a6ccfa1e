"""The nudge test: groups, the two dials, and what it says of right, wrong and shuffled scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests import tiny
from whence.base.errors import WhenceError
from whence.curvature.fit import Situation
from whence.curvature.products import collect_products
from whence.measure.measurement import LogProb
from whence.methods.catalogue import parse_calls
from whence.models.blocks import select_blocks
from whence.sweep.sweep import Layout
from whence.trust.dial import Reading
from whence.trust.nudge import (
    FEWEST,
    Nudged,
    behaviour_dial,
    nudge,
    nudge_dial,
    plan_nudges,
    plan_pushes,
)
from whence.truth.proximal import Nudge, Proximal
from whence.truth.resample import fisher_interval

TRAIN, QUERIES = tiny.examples(12), tiny.examples(4, seed=1, prefix="q")


@pytest.fixture(scope="module")
def tried() -> tuple[Proximal, np.ndarray]:
    """A problem of small nudges, and scores by exact products."""
    model = tiny.gpt2()
    blocks = select_blocks(model)
    of = Situation(model, TRAIN, blocks, layout=Layout(batch_size=4))
    (call,) = parse_calls(["cg(rows=-1, iterations=60, tolerance=0.0001, rule=absolute, damping=0.1)"])
    assert call.solver is not None
    scores = collect_products(of, QUERIES, [call.solver])[call.solver].total() / len(TRAIN)
    names = {f"{block.name}.{part}" for block in blocks for part in ("weight", "bias")}
    weights = {name: p for name, p in model.named_parameters() if name in names}
    return Proximal(model, TRAIN, range(12), 0.1, weights=weights, layout=of.layout), scores


def test_right_scores_are_believed_and_wrong_ones_are_not(tried: tuple[Proximal, np.ndarray]) -> None:
    problem, scores = tried
    groups = plan_nudges(scores, copies=0.01)
    right = nudge_dial(nudge(problem, groups, QUERIES, scores, LogProb(), steps=15))
    assert right.reading is Reading.GOOD and right.value > 0.9, right.says
    assert "observed is 1" in right.says or "observed is 0.9" in right.says
    turned = nudge_dial(nudge(problem, groups[:9], QUERIES, -scores, LogProb(), steps=15))
    assert turned.reading is Reading.BAD and turned.value < -0.5


def test_time_ends_it_but_not_before_a_few(tried: tuple[Proximal, np.ndarray]) -> None:
    problem, scores = tried
    made = nudge(problem, plan_nudges(scores), QUERIES, scores, LogProb(), steps=1, seconds=0.0)
    assert len(made.nudges) == FEWEST and made.observed.shape == (FEWEST, 4)
    with pytest.raises(WhenceError, match="no nudges"):
        nudge(problem, [], QUERIES, scores, LogProb())
    with pytest.raises(WhenceError, match=r"expected \[4 queries, 12 rows\]"):
        nudge(problem, [], QUERIES, scores[:2], LogProb())


def test_groups_are_top_bottom_and_random_of_many_queries() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 300))
    groups = plan_nudges(scores, 24)
    assert len(groups) == 24 and all(len(np.unique(one.rows)) == 3 for one in groups)
    top = [one for one in groups if one.name.startswith("top")]
    assert {int(one.name.split()[3].rstrip(",")) for one in top} == set(range(5))
    order = np.argsort(-scores, axis=1)
    for one in top:
        q, start = int(one.name.split()[3].rstrip(",")), int(one.name.split()[-1])
        assert list(one.rows) == list(order[q][start : start + 3])
    assert len({tuple(one.rows) for one in groups}) == 24
    assert len(plan_nudges(scores[:1], 24)) == 24


def test_pushes_go_against_the_answer_that_stands() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 200)) * 1e-3
    pushes = {one.name: one for one in plan_pushes(scores, np.array([True, False, False]))}
    for q, side in ((0, -1), (1, 1), (2, 1)):
        rows, copies = pushes[f"push of query {q}"].rows, pushes[f"push of query {q}"].copies
        assert set(rows) == set(np.argsort(-side * scores[q])[:2])
        foretold = scores[q, rows] @ copies
        assert foretold == pytest.approx(side * min(3.0, 100 * abs(scores[q, rows].sum())))
    assert plan_pushes(np.zeros((1, 200)), np.array([True]))[0].copies[0] == 100
    (once,), (less,), (wrong,) = (plan_pushes(100 * scores[:1], np.array([True]), slope=s) for s in (1.0, 0.25, -1.0))
    assert less.copies[0] == pytest.approx(4 * once.copies[0]) and wrong.copies[0] == once.copies[0] < 25


def test_the_slope_is_that_of_what_was_observed() -> None:
    foretold = np.random.default_rng(0).normal(size=(9, 3))
    assert nudged(foretold, 0.3 * foretold).slope == pytest.approx(0.3)
    assert np.isnan(nudged(np.zeros((9, 3)), foretold).slope)


def nudged(foretold: np.ndarray, observed: np.ndarray) -> Nudged:
    count, queries = foretold.shape
    return Nudged((Nudge.of("x", [0]),) * count, foretold, observed, np.ones(queries, bool),
                  np.zeros(foretold.shape, bool), 0.1, "nats")


def test_shuffled_scores_are_not_believed() -> None:
    wrong = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        wrong += nudge_dial(nudged(rng.normal(size=(24, 6)), rng.normal(size=(24, 6)))).reading is not Reading.BAD
    assert wrong <= 1
    assert nudge_dial(nudged(np.ones((9, 2)), np.zeros((9, 2)))).reading is Reading.UNKNOWN


def test_nudges_that_were_not_minimised_say_nothing() -> None:
    values = np.random.default_rng(0).normal(size=(24, 3))
    assert nudge_dial(nudged(values, values)).reading is Reading.GOOD
    unfinished = nudge_dial(replace(nudged(values, values), left=0.5))
    assert unfinished.reading is Reading.UNKNOWN and set(unfinished.readings or ()) == {Reading.UNKNOWN}
    assert "too much for a reading" in unfinished.says


def test_intervals_of_rank_correlations_cover() -> None:
    """Over draws of a bivariate normal, 95 % within a couple of points."""
    rng, inside, count = np.random.default_rng(0), 0, 24
    truth = 6 / np.pi * np.arcsin(0.8 / 2)
    for _ in range(400):
        x = rng.normal(size=count)
        y = 0.8 * x + 0.6 * rng.normal(size=count)
        r = np.corrcoef(np.argsort(np.argsort(x)), np.argsort(np.argsort(y)))[0, 1]
        low, high = fisher_interval(float(r), count)
        inside += low <= truth <= high
    assert 0.91 < inside / 400 < 0.99
    assert fisher_interval(0.9, 3) == (-1.0, 1.0)


def test_behaviour_wants_the_answer_to_move_with_the_measurement() -> None:
    moved = np.array([[1.0, 0.1, -2.0, 1, 1, 1], [0.0, 0.2, 0.0, 0, 0, 0]])
    never, ever = np.zeros((2, 6), bool), np.zeros((2, 6), bool)
    ever[0] = True
    assert behaviour_dial(moved, never, "nats", "nudges").reading is Reading.POOR  # 0 of 5: below .451
    found = behaviour_dial(moved, ever, "nats", "nudges")
    assert found.reading is Reading.GOOD
    assert found.readings == (Reading.GOOD, Reading.UNKNOWN, *[Reading.GOOD] * 4)
    assert behaviour_dial(moved[:, :5], never[:, :5], "nats", "nudges").reading is Reading.UNKNOWN  # 0 of 4 says little
    assert behaviour_dial(moved * 0.1, never, "nats", "nudges").reading is Reading.UNKNOWN
