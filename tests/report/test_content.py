from __future__ import annotations

import doctest

import numpy as np
import pytest

from tests.report.synthetic import content, examples
from whence.base.errors import WhenceError
from whence.report import wording
from whence.scores.matrix import Scores
from whence.tasks.table import MetricTable


@pytest.mark.parametrize(("changes", "message"), [
    ({"headline": "ekfac"}, r"headline names the method 'ekfac'.*there are: fisher\(damping=0.1\), "),
    ({"baselines": ("tfidf",)}, "baselines names the method 'tfidf'"),
    ({"metrics": content(methods=("mystery",)).metrics}, "metrics names the method 'mystery'"),
    ({"metrics": content(4).metrics}, r"metrics of \[4\] queries.*expected one seed with 5"),
    ({"metrics": MetricTable.over_seeds([content().metrics] * 2)}, r"metrics of \[5, 5\] queries"),
    ({"behaviours": [{}]}, "behaviours of 1 queries; expected 5"),
    ({"block_scores": None}, "6 block names and no block_scores"),
    ({"blocks": ()}, "0 block names and a block_scores"),
    ({"queries": examples(0, "query")}, "0 queries and 30 training rows"),
    ({"scores": {"bm25": Scores(np.zeros((5, 29)), "bm25")}, "metrics": None},
     r"scores of 'bm25' have shape \[5, 29\]; expected \[queries, train\] = \[5, 30\]"),
])
def test_parts_that_do_not_fit_together_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(WhenceError, match=message):
        content(**changes)


def test_wording_examples() -> None:
    tried = doctest.testmod(wording)
    assert tried.attempted >= 2
    assert tried.failed == 0
