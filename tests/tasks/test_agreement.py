"""Agreement between methods, held against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from whence.base.errors import WhenceError
from whence.scores.matrix import Scores
from whence.scores.published import read_scores
from whence.tasks.agreement import agreement, agreement_matrix


def scores(values: np.ndarray, name: str = "m") -> Scores:
    return Scores(np.asarray(values, dtype=float), name)


@pytest.mark.parametrize("levels", [4, 10_000])
def test_equals_scipy_and_counting(levels):
    rng = np.random.default_rng(levels)
    a, b = (rng.integers(0, levels, size=(7, 25)).astype(float) for _ in "ab")
    got = agreement(scores(a), scores(b), k=5)
    by_scipy = [spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    assert got.spearman.value == pytest.approx(np.mean(by_scipy))
    top_a, top_b = (np.argsort(-x, axis=1, kind="stable")[:, :5] for x in (a, b))
    assert got.top1.value == pytest.approx(np.mean(top_a[:, 0] == top_b[:, 0]))
    shared = [len({*x} & {*y}) / 5 for x, y in zip(top_a, top_b, strict=True)]
    assert got.overlap.value == pytest.approx(np.mean(shared))


def test_itself_its_growing_transform_and_its_opposite():
    values = np.random.default_rng(0).normal(size=(5, 12))
    same = agreement(scores(values), scores(np.exp(values) * 7))
    assert (same.spearman.value, same.top1.value, same.overlap.value) == (pytest.approx(1), 1, 1)
    opposite = agreement(scores(values), scores(-values), k=6)
    assert (opposite.spearman.value, opposite.top1.value, opposite.overlap.value) == (pytest.approx(-1), 0, 0)


def test_a_query_with_constant_scores_is_unscored_for_spearman_alone():
    a, b = np.random.default_rng(0).normal(size=(2, 4, 8))
    a[2] = 1.0
    got = agreement(scores(a), scores(b))
    assert (got.spearman.n, got.spearman.unscored, got.top1.n) == (3, 1, 4)
    assert got.k == 8


def test_the_matrix_is_symmetric_and_holds_the_pairs():
    rng = np.random.default_rng(0)
    methods = {name: scores(rng.normal(size=(5, 9)), name) for name in "xyz"}
    matrix = agreement_matrix(methods, k=3)
    assert list(matrix) == list(matrix["z"]) == ["x", "y", "z"]
    assert matrix["y"]["x"] == matrix["x"]["y"] == agreement(methods["x"], methods["y"], k=3)
    assert matrix["y"]["y"].spearman.value == pytest.approx(1)
    assert matrix["x"]["z"].to_json()["k"] == 3


def test_different_shapes_are_refused():
    with pytest.raises(WhenceError, match=r"one has scores of \[2, 3\] .* and other of \[2, 4\]"):
        agreement(scores(np.zeros((2, 3)), "one"), scores(np.zeros((2, 4)), "other"))


def test_real_scores_lissa_ranks_as_gradient_matching(shared_data):
    folder = shared_data / "li2024" / "scores"
    matrix = agreement_matrix({method: read_scores(folder / f"llama2-7b-chat.grammars_10_{method}.csv.gz")
                               for method in ("gmatch", "inf", "lissa")})
    assert matrix["gmatch"]["lissa"].spearman.value == pytest.approx(0.999, abs=1e-3)
    assert 0.5 < matrix["gmatch"]["inf"].spearman.value < 0.9
