from __future__ import annotations

import dataclasses
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.report.synthetic import METHODS, content, examples
from whence.report.plots import agreements, distribution, draw_all, hubs, intervals
from whence.report.svg import INK
from whence.scores.matrix import Scores


def words(svg: str) -> list[str]:
    return ["".join(node.itertext()).strip() for node in ElementTree.fromstring(svg).iter("text")]


def test_every_plot_names_its_axes_and_methods_and_takes_the_pages_colours() -> None:
    drawn = draw_all(content())
    assert len(drawn) == 4
    for plot in drawn:
        said = words(plot.svg)
        assert "95 %" in plot.caption
        assert "fill: var(--ink)" in plot.svg and "font-size" in plot.svg
        assert not any(colour in plot.svg for colour in INK.values())
        assert "http" not in plot.svg and "DejaVu" not in plot.svg
        if plot.title != "What do the scores look like?":
            shown = METHODS[:5] if "good" in plot.title else METHODS
            assert set(shown) <= set(said)
    labels = {"Acc (share, 0 to 1)", "chance 0.33", "score (nats; asinh scale)", "share of scores (%)",
              "queries whose top-1 is that row (%)"}
    assert labels <= {word for plot in drawn for word in words(plot.svg)}


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
    assert words(plot.svg).count("−1.00") == 1
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


def test_labels_are_text_and_not_formulas_or_markup() -> None:
    label = "odd(<b>$x_1$</b> & é 漢)"
    made = content(scores={label: Scores(np.eye(5, 30), label), "b": Scores(np.eye(5, 30), "b")},
                   headline=label, baselines=(), metrics=None, blocks=(), block_scores=None)
    assert label in words(hubs(made).svg)
