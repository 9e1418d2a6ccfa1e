"""The table of a probe run: means by partition, and a ratio that is honest near zero."""

from __future__ import annotations

import io

import numpy as np
import pytest
import rich.console

from whence.base.errors import WhenceError
from whence.views import probe_table
from whence.views.probe_table import ProbeTable
from whence.views.probes import FLIPPED, PARAPHRASE, Probe, ProbeQuery, ProbeSuite, variants, word_order_suite


def suite(kept: int = 6, flipped: int = 6, queries: int = 1) -> ProbeSuite:
    names = "abc"[:queries]
    return ProbeSuite(tuple(ProbeQuery(name, "p", "c") for name in names), tuple(
        Probe(name, part, "text") for name in names for part, n in ((PARAPHRASE, kept), (FLIPPED, flipped))
        for _ in range(n)))


def spread(mean: float, n: int, width: float = 0.01) -> np.ndarray:
    return mean + width * np.linspace(-1, 1, n)


def test_means_by_query_and_partition_by_a_literal_loop() -> None:
    words = word_order_suite()
    scores = np.random.default_rng(0).normal(1.0, 0.2, size=words.own.shape)
    table = ProbeTable.of(words, scores)
    for column, (part, found) in enumerate(table.partitions.items()):
        means = []
        for q, query in enumerate(words.queries):
            mine = [scores[q, i] for i, p in enumerate(words.probes) if (p.query, p.partition) == (query.name, part)]
            means.append(np.mean(mine))
            assert table.by_query[q, column] == pytest.approx(means[-1], rel=1e-12)
        assert found.value == pytest.approx(np.mean(means), rel=1e-12)
        assert found.low < found.value < found.high
        assert found.n == 4 * len(words.queries)
    kept, flipped = table.partitions["paraphrase"], [
        table.partitions[name].value for name in ("order flipped", "order flipped, relation removed")]
    assert table.ratio.value == pytest.approx(kept.value / np.mean(flipped), rel=1e-12)


def test_scores_for_other_queries_are_not_looked_at() -> None:
    words = word_order_suite()
    scores = np.random.default_rng(0).normal(1.0, 0.2, size=words.own.shape)
    other = np.where(words.own, scores, 1e6)
    assert ProbeTable.of(words, scores).to_json() == ProbeTable.of(words, other).to_json()


def test_the_ratio_and_its_interval() -> None:
    table = ProbeTable.of(suite(), np.concatenate([spread(2.0, 6, 0.2), spread(0.5, 6, 0.1)])[None])
    assert table.ratio.value == pytest.approx(4.0)
    assert 3 < table.ratio.low < 4 < table.ratio.high < 5
    assert table.ratio.notes == () and table.ratio.n == 12
    # first-order error of a ratio: (0.2 / 2)^2 and (0.1 / 0.5)^2 by the variance of the points over n
    spread_of = np.linspace(-1, 1, 6).std() / np.sqrt(6)
    error = 4 * spread_of * np.hypot(0.1, 0.2)
    assert (table.ratio.high - table.ratio.low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.1)


def test_flipped_probes_around_zero_leave_the_ratio_without_a_bound() -> None:
    table = ProbeTable.of(suite(), np.concatenate([spread(1.0, 6), spread(0.05, 6, 0.5)])[None])
    assert table.ratio.high == np.inf and probe_table.UNBOUNDED in table.ratio.notes
    assert table.to_json()["ratio_kept_flipped"]["high"] is None
    below = ProbeTable.of(suite(), np.concatenate([spread(1.0, 6), spread(-1.0, 6)])[None])
    assert below.ratio.value == below.ratio.low == np.inf


def test_no_influence_in_either_order_has_no_ratio() -> None:
    table = ProbeTable.of(suite(), np.concatenate([spread(-1.0, 6), spread(-1.0, 6)])[None])
    assert np.isnan(table.ratio.value) and probe_table.NOTHING in table.ratio.notes
    assert any("100.0% of the resamples" in note for note in table.ratio.notes)
    against = ProbeTable.of(suite(), np.concatenate([spread(-1.0, 6), spread(2.0, 6)])[None])
    assert against.ratio.value == pytest.approx(-0.5)  # kept hurts, flipped helps: no reason to hide it


def test_a_suite_without_both_orders_says_so() -> None:
    table = ProbeTable.of(suite(flipped=0), spread(1.0, 6)[None])
    assert np.isnan(table.ratio.value) and table.ratio.notes == (probe_table.NO_ORDER,)


def test_single_probes_are_noted() -> None:
    pair = variants("one two", "three", irrelevant=["else"])
    table = ProbeTable.of(pair, np.arange(1.0, 6.0)[None])
    assert table.ratio.value == pytest.approx(1 / 2)  # as given 1, order flipped 2
    assert probe_table.SINGLE in table.ratio.notes
    assert all(part.notes == (probe_table.SINGLE,) for part in table.partitions.values())


def test_it_prints() -> None:
    words = word_order_suite()
    table = ProbeTable.of(words, np.ones(words.own.shape), unit="nats")
    out = io.StringIO()
    rich.console.Console(file=out, width=160).print(table.to_rich())
    for name in (*table.partitions, *table.queries, "order kept / flipped", "probes: mean score in nats"):
        assert name in out.getvalue()


def test_scores_of_another_shape_or_not_finite_are_refused() -> None:
    with pytest.raises(WhenceError, match=r"scores of shape \(1, 3\), 0 of them not finite; expected \(1, 12\)"):
        ProbeTable.of(suite(), np.zeros((1, 3)))
    with pytest.raises(WhenceError, match="1 of them not finite"):
        ProbeTable.of(suite(), np.where(np.arange(12) == 3, np.nan, 1.0)[None])
