"""The linear datamodeling score of benchmarks/lds on outcomes made up so that the answer is known."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import spearmanr

from whence.base.errors import WhenceError

FOLDER = Path(__file__).parents[2] / "benchmarks" / "lds"
MEMBERS, QUERIES, ROWS = 48, 30, 100


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    import outcomes

    return outcomes


def planted(members: int = MEMBERS, noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Scores [Q, N], kept [M, N] and outcomes a, b [M, Q]: a rising function of the kept rows' sum, plus noise."""
    rng = np.random.default_rng(seed)
    scores, kept = rng.normal(size=(QUERIES, ROWS)), np.zeros((members, ROWS), bool)
    for row in kept:
        row[rng.permutation(ROWS)[: ROWS // 2]] = True
    told = np.stack([[scores[q][row].sum() for q in range(QUERIES)] for row in kept])
    told /= told.std(0)
    a, b = (told + noise * rng.normal(size=told.shape) for _ in range(2))
    return scores, kept, np.exp(a / 4) - 300, np.exp(b / 4) - 300


def test_a_bank_in_one_file_is_the_same_bank(outcomes: ModuleType, tmp_path: Path) -> None:
    _, kept, a, b = planted()
    outcomes.Bank(kept, a, b).write(tmp_path / "bank.npz")
    back = outcomes.Bank.read(tmp_path / "bank.npz")
    for found, given in ((back.kept, kept), (back.a, a), (back.b, b)):
        np.testing.assert_array_equal(found, given)


def test_planted_truth_gives_one_and_chance_gives_nought(outcomes: ModuleType) -> None:
    scores, kept, a, b = planted()
    rng = np.random.default_rng(1)
    methods = {"true": scores, "turned": -scores, "random": rng.normal(size=scores.shape),
               "rows permuted": scores[:, rng.permutation(ROWS)], "queries permuted": scores[rng.permutation(QUERIES)]}
    result = outcomes.evaluate(methods, outcomes.Bank(kept, a, b), "true", resamples=200)
    assert result.lds["true"] == pytest.approx((1, 1, 1))
    assert result.lds["turned"] == pytest.approx((-1, -1, -1))
    for name in ("random", "rows permuted"):
        value, low, high = result.lds[name]
        assert abs(value) < 0.1 and low < value < high
        assert result.difference[name][2] < -0.8
    assert result.lds["queries permuted"][0] < 0.3
    assert result.ceiling == pytest.approx((1, 1, 1))


def test_score_is_the_mean_of_scipys_spearman_and_ties_get_mean_ranks(outcomes: ModuleType) -> None:
    scores, kept, a, b = planted(noise=1.0)
    a = a.round(1)  # ties
    result = outcomes.evaluate({"m": scores}, outcomes.Bank(kept, a, b), "m", resamples=100)
    literal = [spearmanr([scores[q][row].sum() for row in kept], a[:, q]).statistic for q in range(QUERIES)]
    assert result.per_query["m"] == pytest.approx(literal)
    assert result.lds["m"][0] == pytest.approx(np.mean(literal))
    draws = outcomes.Draws.make(MEMBERS, QUERIES, resamples=3)
    found = draws.correlation(draws.ranks(a), draws.ranks(b))
    for r in range(4):
        drawn = np.repeat(np.arange(MEMBERS), draws.members[r].astype(int))
        assert len(drawn) == MEMBERS
        assert found[r] == pytest.approx([spearmanr(a[drawn, q], b[drawn, q]).statistic for q in range(QUERIES)])
    assert (draws.correlation(draws.ranks(np.ones_like(a)), draws.ranks(b)) == 0).all()


def test_knowing_the_mean_outcome_reaches_the_ceiling(outcomes: ModuleType) -> None:
    scores, kept, a, b = planted(members=200, noise=0.8)
    bank = outcomes.Bank(kept, a, b)
    for truth in ("a", "b", "mean"):
        result = outcomes.evaluate({"told": scores}, bank, "told", truth, resamples=4)
        assert result.agreement[0] < result.ceiling[0] < 0.95
        assert result.lds["told"][0] == pytest.approx(result.ceiling[0], abs=0.02)


def test_interval_covers_the_choice_of_members_and_of_queries(outcomes: ModuleType) -> None:
    """Alike queries leave the spread over members, many members that over queries."""
    scores, kept, a, b = planted(noise=1.0)
    alike = outcomes.Bank(kept, np.repeat(a[:, :1], QUERIES, 1), np.repeat(b[:, :1], QUERIES, 1))
    result = outcomes.evaluate({"m": np.repeat(scores[:1], QUERIES, 0)}, alike, "m", resamples=300)
    value, low, high = result.lds["m"]
    assert 0.1 < high - low < 0.8 and low < value < high
    many = outcomes.Bank(*planted(members=100)[1:])
    half = np.where(np.arange(QUERIES)[:, None] < QUERIES // 2, planted(members=100)[0], 0.0)  # LDS 1 or 0 by query
    result = outcomes.evaluate({"half": half, "again": half}, many, "half", resamples=300)
    assert result.lds["half"][0] == pytest.approx(0.5)
    assert result.lds["half"][2] - result.lds["half"][1] == pytest.approx(4 * 0.5 / QUERIES**0.5, rel=0.2)
    assert result.difference["again"] == (0, 0, 0)


def test_unusable_scores_are_refused(outcomes: ModuleType) -> None:
    scores, kept, a, b = planted()
    for bad in (scores[:, 1:], scores[1:], np.where(scores > 2, np.nan, scores)):
        with pytest.raises((ValueError, WhenceError), match=r"^m: (scores of|of shape|\d+ of)"):
            outcomes.evaluate({"m": bad}, outcomes.Bank(kept, a, b), "m", resamples=100)


def test_command_reads_a_bank_and_writes_table_and_plots(outcomes: ModuleType, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    scores, kept, a, b = planted(noise=1.0)
    for order, values in (("a", a), ("b", b)):
        (tmp_path / order).mkdir()
        for member in range(MEMBERS - (order == "b")):  # the last is not made yet under the second order
            np.savez(tmp_path / order / f"{member:03d}.npz", kept=kept[member], queries=values[member])
    bank = outcomes.Bank.read(tmp_path)
    assert np.array_equal(bank.kept, kept) and np.array_equal(bank.a, a) and np.array_equal(bank.b[:-1], b[:-1])
    assert bank.both.tolist() == [True] * (MEMBERS - 1) + [False]
    import lds

    np.save(tmp_path / "m(x=1).npy", scores)
    where = [f"{name}={tmp_path}/m(x=1).npy" for name in ("m(x=1)@16", "m(x=1)@full")]
    for mode, found in (("--scores", "table"), ("--curve", "curve")):
        out = tmp_path / f"{found}-0.1"
        monkeypatch.setattr(sys, "argv", ["lds.py", "--bank", str(tmp_path), "--out", str(out), "--resamples", "100",
                                         mode, *where])
        lds.main()
        told = json.loads(Path(f"{out}.json").read_text())
        assert told["counts"]["members"] == MEMBERS and told["counts"]["both_orders"] == MEMBERS - 1
        assert told["lds"]["m(x=1)@16"] == told["lds"]["m(x=1)@full"]
        assert Path(f"{out}.csv").read_text().count("\nm(x=1)") == 2
        assert Path(f"{out}.png").stat().st_size > 5000
    np.savez(tmp_path / "b" / "003.npz", kept=~kept[3], queries=b[3])
    with pytest.raises(SystemExit, match=r"003\.npz kept different rows"):
        outcomes.Bank.read(tmp_path)
