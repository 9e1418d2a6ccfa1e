"""The switches of a ranking, each against the gradients themselves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import median_abs_deviation

from tests.tiny import examples
from whence.base.errors import WhenceError
from whence.curvature.gram import Gram
from whence.methods.evidence import Evidence
from whence.study.scoring import Scoring, by_module, high_outliers

N, Q = 7, 3
NAMES = ("model.0.q.lora_A.default", "model.0.q.lora_B.default", "model.1.q.lora_A.default")


@pytest.fixture(scope="module")
def gradients() -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    sizes = (4, 6, 5)
    return [rng.normal(size=(N, p)) for p in sizes], [rng.normal(size=(Q, p)) for p in sizes]


@pytest.fixture(scope="module")
def evidence(gradients: tuple[list[np.ndarray], list[np.ndarray]]) -> Evidence:
    grams = tuple(Gram(name, G.shape[1], G @ G.T, V @ G.T, (V**2).sum(axis=1))
                  for name, G, V in zip(NAMES, *gradients, strict=True))
    return Evidence(examples(N), examples(Q, seed=1, prefix="query"), grams)


TOKENS = np.arange(2.0, 2 + N), np.arange(3.0, 3 + Q)


def dense(G: np.ndarray, V: np.ndarray, damping: float) -> np.ndarray:
    """(1/N) v^T (F + lambda)^-1 g, lambda relative to the mean eigenvalue."""
    fisher = G.T @ G / len(G)
    lam = damping * np.trace(fisher) / len(fisher)
    return V @ np.linalg.solve(fisher + lam * np.eye(len(fisher)), G.T) / len(G)


@pytest.mark.parametrize(("blocks", "groups"), [("tensor", [[0], [1], [2]]), ("module", [[0, 1], [2]]),
                                                ("model", [[0, 1, 2]])])
def test_blocks(blocks: str, groups: list[list[int]], evidence: Evidence,
                gradients: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    scoring = Scoring(blocks=blocks)
    found = scoring.scores("fisher", scoring.evidence(evidence, *TOKENS))
    expected = sum(dense(np.hstack([gradients[0][b] for b in group]), np.hstack([gradients[1][b] for b in group]), 0.1)
                   for group in groups)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_mean_loss_divides_gradients_by_their_tokens(evidence: Evidence,
                                                     gradients: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    scoring = Scoring(reduction="mean")
    found = scoring.scores("fisher", scoring.evidence(evidence, *TOKENS))
    expected = sum(dense(G / TOKENS[0][:, None], V / TOKENS[1][:, None], 0.1)
                   for G, V in zip(*gradients, strict=True))
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_gradient_dot_and_what_normalises_it(evidence: Evidence,
                                             gradients: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    G, V = (np.hstack(parts) for parts in gradients)
    dot = V @ G.T / N

    def of(**switches: object) -> np.ndarray:
        scoring = Scoring(**switches)  # type: ignore[arg-type]
        return scoring.scores("gradient-dot", scoring.evidence(evidence, *TOKENS))

    np.testing.assert_allclose(of(), dot)
    np.testing.assert_allclose(of(normalise="unit"), dot / np.linalg.norm(G, axis=1))
    np.testing.assert_allclose(of(normalise="column"), dot / np.sqrt((dot**2).mean(axis=0)))
    np.testing.assert_allclose(of(absolute=True), abs(dot))


def test_a_rule_for_all_blocks_reaches_the_methods(evidence: Evidence) -> None:
    seen = Scoring().evidence(evidence, *TOKENS)
    assert str(Scoring(rule="global", damping=1.0).call("datainf")) == "datainf(damping=1.0, rule=global)"
    assert str(Scoring(lissa="published").call("lissa")) == "lissa-published(damping=0.1)"
    assert str(Scoring().call("lissa")) == "lissa(damping=0.1)"
    a, b = (Scoring(rule=rule).scores("fisher", seen) for rule in ("block", "global"))
    assert not np.allclose(a, b)


def test_outliers_are_high_ones_alone(evidence: Evidence) -> None:
    norms = np.exp(np.random.default_rng(1).normal(size=200) * 0.1)
    norms[3], norms[5] = 10.0, 1e-4
    logs = np.log(norms)
    limit = np.median(logs) + 3.5 * median_abs_deviation(logs, scale="normal")
    assert np.flatnonzero(high_outliers(norms)).tolist() == np.flatnonzero(logs > limit).tolist()
    assert high_outliers(norms)[3] and not high_outliers(norms)[5]
    assert not high_outliers(np.ones(5)).any()
    assert Scoring(outliers="dropped").kept("tfidf", evidence).all()


def test_modules_keep_their_order(evidence: Evidence) -> None:
    assert [gram.name for gram in by_module(list(evidence.grams))] == ["model.0.q", "model.1.q"]


def test_what_is_refused() -> None:
    with pytest.raises(WhenceError, match="blocks='layer': expected tensor, module, model"):
        Scoring(blocks="layer")
