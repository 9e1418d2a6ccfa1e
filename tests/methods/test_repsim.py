"""RepSim: the cosine of the representations asked for, and of no others."""

from __future__ import annotations

import numpy as np
import pytest

from tests import tiny
from whence.methods.evidence import Evidence
from whence.methods.registry import parse


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    rng = np.random.default_rng(0)
    hidden = {(model, layer, token): (rng.normal(size=(3, 5)), rng.normal(size=(7, 5)))
              for model in ("tuned", "base") for layer in (-1, 1) for token in ("last_prompt", "mean")}
    hidden["tuned", -1, "mean"][0][1] = 0  # a query and a row without a direction
    hidden["tuned", -1, "mean"][1][4] = 0
    return Evidence(tiny.examples(7), tiny.examples(3), hidden=hidden)


@pytest.mark.parametrize(("text", "key"), [
    ("repsim", ("tuned", -1, "last_prompt")),
    ("repsim(layer=1)", ("tuned", 1, "last_prompt")),
    ("repsim(token=mean, model=base)", ("base", -1, "mean")),
])
def test_scores_are_cosines(evidence: Evidence, text: str, key: tuple) -> None:
    scores = parse(text)(evidence)
    queries, train = evidence.hidden[key]
    expected = [[float(q @ j) / np.linalg.norm(q) / np.linalg.norm(j) for j in train] for q in queries]
    np.testing.assert_allclose(scores.values, expected, rtol=1e-12)
    assert (scores.method, scores.unit, scores.facts) == (text, "cosine", {"width": 5})
    assert np.abs(scores.values).max() <= 1 + 1e-12


def test_a_vector_of_zeros_is_like_nothing(evidence: Evidence) -> None:
    values = parse("repsim(token=mean)")(evidence).values
    assert (values[1] == 0).all() and (values[:, 4] == 0).all()
    assert (np.delete(values[[0, 2]], 4, axis=1) != 0).all()


def test_scale_does_not_matter_and_a_copy_scores_one(evidence: Evidence) -> None:
    queries, train = evidence.hidden["tuned", -1, "last_prompt"]
    scaled = Evidence(evidence.train, evidence.queries,
                      hidden={("tuned", -1, "last_prompt"): (100 * queries, np.concatenate([queries, train[3:]]))})
    values = parse("repsim")(scaled).values
    np.testing.assert_allclose(np.diag(values[:, :3]), 1, rtol=1e-12)
    np.testing.assert_allclose(values[:, 3:], parse("repsim")(evidence).values[:, 3:], rtol=1e-12)
