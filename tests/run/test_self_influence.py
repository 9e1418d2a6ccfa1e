"""`Run.self_influence`: the diagonal of the matrix that scores every training row for itself."""

from __future__ import annotations

import numpy as np
import pytest

from tests.run.fixtures import ROWS, CopyRun
from whence.base.errors import WhenceError
from whence.run.run import Run

METHODS = ["ekfac", "ekfac(damping=10.0, rule=global, labels=empirical)", "kfac(rows=9)", "eshampoo(parts=2)",
           "shampoo", "diagonal", "gradient-dot"]


@pytest.mark.parametrize("method", METHODS)
def test_it_is_the_diagonal_of_the_scores_of_the_training_rows(method: str, in_memory: Run) -> None:
    run = Run(in_memory.model, in_memory.tokenizer, in_memory.train)
    matrix = run.score(run.train, method)[method].values
    found = run.self_influence(method)
    assert found.shape == (24,) and found.dtype == np.float64 and (found > 0).all()
    np.testing.assert_allclose(found, np.diag(matrix), rtol=2e-4)  # float32, summed in another order


def test_a_full_fine_tune_has_it_too_and_leaves_no_file_behind(copy_run: CopyRun) -> None:
    run = Run.load(copy_run("full"))
    matrix = run.score(ROWS, "ekfac")["ekfac"].values
    np.testing.assert_allclose(run.self_influence("ekfac"), np.diag(matrix), rtol=2e-4)
    assert not list(run.folder.rglob("pass-*"))


def test_methods_without_it_are_told_those_with_it(in_memory: Run) -> None:
    with pytest.raises(WhenceError, match=r"method 'fisher': has no self-influence, .* these have: .*ekfac"):
        in_memory.self_influence("fisher")
    with pytest.raises(WhenceError, match=r"method 'cg': has no self-influence in one pass; these have: .*ekfac") as no:
        in_memory.self_influence("cg")
    assert "arnoldi" not in str(no.value) and "cg," not in str(no.value).partition("these have")[2]
