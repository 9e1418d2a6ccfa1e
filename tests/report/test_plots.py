from __future__ import annotations

import dataclasses
import itertools
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from tests.report.synthetic import METHODS, content, examples
from whence.report.plots import agreements, dampings, distribution, draw_all, hubs, intervals
from whence.report.plots.dampings import APART, _apart
from whence.report.svg import INK
from whence.scores.matrix import Scores
from whence.tasks.interval import short


def words(svg: str) -> list[str]:
    return ["".join(node.itertext()).strip() for node in ElementTree.fromstring(svg).iter("text")]


def test_every_plot_names_its_axes_and_methods_and_takes_the_pages_colours() -> None:
    drawn = draw_all(content())
    assert len(drawn) == 5
    names = {"fisher", "datainf", "repsim(layer=-1,token=mean)", "bm25", "random"}
    for plot in drawn:
        said = words(plot.svg)
        assert "95 %" in plot.caption
        assert "fill: var(--ink)" in plot.svg and "font-size" in plot.svg
        assert not any(colour in plot.svg for colour in INK.values())
        assert "http" not in plot.svg and "DejaVu" not in plot.svg
        if plot.title not in ("What do the scores look like?", "What does the damping change?"):
            assert names <= set(said)
            assert not set(said) & {"fisher(damping=1)", "fisher(damping=0.1)"}
    labels = {"share, 0 to 1", "chance .333", "score (nats; asinh scale)", "share of scores (%)",
              "queries with that row on top (%)", "damping (× mean eigenvalue)"}
    assert labels <= {word for plot in drawn for word in words(plot.svg)}


def test_dampings_are_drawn_where_a_family_has_several() -> None:
    plot = dampings(content())
    assert plot is not None
    said = words(plot.svg)
    assert {"fisher", "0.1", "1", "Acc", "AUPRC", "bm25", "random", "chance"} <= set(said)
    assert "datainf" not in said  # it has one damping only
    assert dampings(content(methods=("fisher(damping=1)", "bm25"))) is None
    assert dampings(content(metrics=None)) is None


def test_the_best_damping_stands_beside_the_default_only_where_it_is_better() -> None:
    values = np.random.default_rng(0).standard_normal((5, 30))
    good = content().scores[METHODS[0]].values
    for first, second, diamonds in ((values, good, True), (good, values, False), (good, good, False)):
        scores = {"f(damping=0.1)": Scores(first, "f"), "f(damping=10)": Scores(second, "f")}
        plot = intervals(content(scores=scores, headline="f(damping=0.1)", baselines=(), blocks=(), block_scores=None))
        assert plot is not None
        assert ("var(--same)" in plot.svg) == diamonds


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10).map(sorted))
def test_names_beside_a_panel_do_not_touch(at: list[float]) -> None:
    placed = _apart(at)
    assert len(placed) == len(at)
    assert min(placed) >= -1e-9 and max(placed) <= 1 + 1e-9
    assert all(b - a >= APART - 1e-9 for a, b in itertools.pairwise(placed))


def test_no_two_plots_share_an_id() -> None:
    ids = [node.get("id") for plot in draw_all(content()) for node in ElementTree.fromstring(plot.svg).iter()
           if node.get("id")]
    assert len(ids) == len(set(ids)) > 0


def test_agreement_prints_the_correlations() -> None:
    values = np.random.default_rng(0).standard_normal((3, 40))
    scores = {"a": Scores(values, "a"), "b": Scores(-values, "b"), "c": Scores(np.zeros((3, 40)), "c")}
    plain = {"headline": "a", "baselines": (), "metrics": None, "blocks": (), "block_scores": None}
    plot = agreements(content(3, 40, scores=scores, **plain))
    assert plot is not None
    assert words(plot.svg).count("−1.000") == 1
    assert words(plot.svg).count("–") == 2
    assert agreements(content(3, 40, scores={"a": scores["a"]}, **plain)) is None


def test_a_hub_is_seen() -> None:
    values = np.random.default_rng(0).standard_normal((6, 20))
    values[:, 7] = 100
    made = content(6, 20, scores={"hub": Scores(values, "hub")}, headline="hub", baselines=(), metrics=None,
                   blocks=(), block_scores=None)
    assert "1" in words(hubs(made).svg)  # one distinct row


@pytest.mark.parametrize("values", [np.zeros((5, 30)), np.full((5, 30), -3.0), np.full((5, 30), 1e-9)])
def test_scores_without_spread_and_rows_without_groups_are_drawn(values: np.ndarray) -> None:
    queries = dataclasses.replace(examples(5, "query"), groups=(None,) * 5)
    made = content(scores={"flat": Scores(values, "flat")}, queries=queries, headline="flat", baselines=(),
                   metrics=None, blocks=(), block_scores=None)
    plot = distribution(made)
    assert any(word.startswith("all rows (n = 150)") for word in words(plot.svg))
    assert "outscores" not in plot.caption
    assert intervals(made) is None


def test_rows_without_a_group_count_nowhere() -> None:
    made = content(4, 30)
    values = np.round(made.scores[made.headline].values, 1)
    groups = (None, *made.train.groups[1:])
    report = content(4, 30, train=dataclasses.replace(made.train, groups=groups), metrics=None, blocks=(),
                     block_scores=None, scores={made.headline: Scores(values, "m")}, baselines=())
    same = np.array(made.queries.groups)[:, None] == np.array(made.train.groups)[None]
    expected = np.mean([roc_auc_score(same[q, 1:], values[q, 1:]) for q in range(4)])
    plot = distribution(report)
    assert f"with probability {short(float(expected))} [" in plot.caption
    assert f"same group (n = {same[:, 1:].sum()})" in words(plot.svg)


def test_labels_are_text_and_not_formulas_or_markup() -> None:
    label = "odd(<b>$x_1$</b> & é 漢)"
    made = content(scores={label: Scores(np.eye(5, 30), label), "b": Scores(np.eye(5, 30), "b")},
                   headline=label, baselines=(), metrics=None, blocks=(), block_scores=None)
    assert label in words(hubs(made).svg)
