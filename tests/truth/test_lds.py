"""LDS and leave-out agreement on outcomes made up so that the answer is known, and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from whence.base.errors import WhenceError
from whence.truth.lds import linear_datamodeling, noise_ceiling
from whence.truth.leave_out import leave_out_agreement
from whence.truth.resample import Draws, affordable
from whence.truth.subsets import leave_one_out, random_subsets

MEMBERS, QUERIES, ROWS = 40, 20, 60


def planted(noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """scores [Q, N], kept [M, N] and two outcomes [M, Q]: a rising function of the kept rows' sum, plus noise."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(QUERIES, ROWS))
    kept = np.stack([subset.kept for subset in random_subsets(ROWS, MEMBERS, seed=seed)])
    told = kept @ scores.T
    told /= told.std(axis=0)
    a, b = (told + noise * rng.normal(size=told.shape) for _ in range(2))
    return scores, kept, np.exp(a / 4) - 300, np.exp(b / 4) - 300


def test_truth_is_one_its_opposite_minus_one_and_chance_nought() -> None:
    scores, kept, outcomes, _ = planted()
    rng = np.random.default_rng(1)
    found = linear_datamodeling({"true": scores, "turned": -scores, "random": rng.normal(size=scores.shape)}, kept,
                                outcomes, resamples=200)
    assert found.reference == "true" and found.ceiling is None
    assert (found.scores["true"].value, found.scores["true"].low) == pytest.approx((1, 1))
    assert found.scores["turned"].value == pytest.approx(-1)
    assert abs(found.scores["random"].value) < 0.1 and found.differences["random"].high < -0.8
    assert found.scores["random"].low < found.scores["random"].value < found.scores["random"].high


def test_it_is_the_mean_of_scipys_correlations_in_every_resample() -> None:
    scores, kept, a, b = planted(noise=1.0)
    a = a.round(1)  # ties
    found = linear_datamodeling({"m": scores}, kept, a, resamples=50)
    literal = [spearmanr(kept @ scores[q], a[:, q]).statistic for q in range(QUERIES)]
    assert found.per_query["m"] == pytest.approx(literal) and found.scores["m"].value == pytest.approx(np.mean(literal))
    draws = Draws.make(MEMBERS, QUERIES, resamples=3)
    for vectors, scipys in ((draws.ranks, spearmanr), (draws.centred, pearsonr)):
        together = draws.correlation(vectors(a), vectors(b))
        for r in range(4):
            drawn = np.repeat(np.arange(MEMBERS), draws.members[r].astype(int))
            assert together[r] == pytest.approx([scipys(a[drawn, q], b[drawn, q]).statistic for q in range(QUERIES)])
    assert (draws.correlation(draws.centred(np.ones_like(a)), draws.centred(b)) == 0).all()


def test_the_ceiling_is_what_the_mean_outcome_would_score() -> None:
    scores, _, _, _ = planted()
    kept = np.stack([s.kept for s in random_subsets(ROWS, 300, seed=5)])
    rng = np.random.default_rng(0)
    told = kept @ scores.T
    told /= told.std(axis=0)
    a, b = (told + 0.8 * rng.normal(size=told.shape) for _ in range(2))
    b[7] = np.nan  # a member that was not made again
    found = linear_datamodeling({"mean": scores}, kept, a, other=b, resamples=4)
    assert found.ceiling is not None and found.agreement is not None
    assert found.agreement.value < found.ceiling.value < 0.95
    assert found.scores["mean"].value == pytest.approx(found.ceiling.value, abs=0.02)


def test_leaving_out_follows_sign_and_size() -> None:
    """A world where outcomes are sums: the change is minus the score, slope one, and noise is seen as noise."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(QUERIES, ROWS))
    kept = np.stack([subset.kept for subset in leave_one_out(ROWS)])
    control = scores.sum(axis=1)
    found = leave_out_agreement(scores, kept, kept @ scores.T, control, resamples=50)
    assert found.pearson.value == pytest.approx(1) and found.slope == pytest.approx(1) and found.above_noise
    turned = leave_out_agreement(-scores, kept, kept @ scores.T, control, resamples=50)
    assert turned.spearman.value == pytest.approx(-1) and turned.slope == pytest.approx(-1)
    halved = leave_out_agreement(scores, kept, control + (kept @ scores.T - control) / 2, control, resamples=50)
    assert halved.slope == pytest.approx(0.5) and halved.pearson.value == pytest.approx(1)
    loud = leave_out_agreement(scores, kept, kept @ scores.T, control, resamples=50,
                               reseeded=control + 5 * rng.normal(size=(4, QUERIES)))
    assert not loud.above_noise and loud.noise == pytest.approx(5, rel=0.2)


def test_what_does_not_fit_is_refused() -> None:
    scores, kept, a, b = planted()
    for bad, said in ((scores[:, 1:], r"m: of shape \[20, 59\]"), (scores[1:], "m: scores of 19 queries"),
                      (np.where(scores > 2, np.nan, scores), "are not finite")):
        with pytest.raises(WhenceError, match=said):
            linear_datamodeling({"m": bad}, kept, a)
    with pytest.raises(WhenceError, match="2 members: expected at least 3"):
        linear_datamodeling({"m": scores}, kept[:2], a[:2])
    with pytest.raises(WhenceError, match="reference 'x': not among m"):
        linear_datamodeling({"m": scores}, kept, a, reference="x")
    with pytest.raises(WhenceError, match="0 members in both banks"):
        noise_ceiling(a, np.full_like(b, np.nan))
    with pytest.raises(WhenceError, match="at least 3 for a correlation"):
        leave_out_agreement(scores, kept[:1], a[:1], a[0])


def test_resamples_are_fewer_where_there_are_many_queries() -> None:
    assert [affordable(24, queries) for queries in (50, 4000, 10**7)] == [2000, 416, 200]
