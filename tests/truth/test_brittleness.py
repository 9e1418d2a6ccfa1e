"""Brittleness on a bank whose outcomes are known, and tail-patch on a small model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from tests import tiny
from whence.base.errors import WhenceError
from whence.data.examples import Examples
from whence.train.recipe import Recipe
from whence.truth.bank import Bank, Outcomes
from whence.truth.brittleness import RANDOM, brittleness
from whence.truth.subsets import Subset
from whence.truth.tail_patch import tail_patch

TRAIN, QUERIES = tiny.examples(20), tiny.examples(6, seed=1, prefix="q")


class Additive(Bank):
    """A bank in which every row adds a known number to every query; a query is answered while its sum is above 0."""

    def __init__(self, effect: np.ndarray) -> None:
        self.train, self.effect, self.asked = TRAIN, effect, 0

    def outcomes(self, subsets: Sequence[Subset], queries: Examples, measurement: object = None,
                 **options: Any) -> Outcomes:
        self.asked += len(subsets)
        values = np.stack([self.effect @ subset.kept for subset in subsets])
        return Outcomes(tuple(subsets), values, (values <= 0).astype(int), "nats")


def test_the_right_rows_are_those_that_change_the_answer() -> None:
    rng = np.random.default_rng(0)
    effect = rng.normal(size=(6, 20)) + 0.2
    bank = Additive(effect)
    found = brittleness(bank, {"truth": effect, "turned": -effect}, QUERIES, [1, 4], draws=5)
    order = np.argsort(-effect, axis=1)
    for k in (1, 4):
        expected = -np.take_along_axis(effect, order[:, :k], axis=1).sum(axis=1)
        np.testing.assert_allclose(found.removed["truth", k].per_query, expected)
        assert found.removed["truth", k].against_random.high < 0 < found.removed["turned", k].against_random.low
    assert found.removed[RANDOM, 1].against_random.value == 0
    answered = effect.sum(axis=1) > 0
    after = effect.sum(axis=1) + found.removed["truth", 4].per_query
    assert found.removed["truth", 4].flipped.value == pytest.approx(np.mean(after[answered] <= 0))
    assert found.removed["truth", 4].flipped.n == answered.sum()
    assert bank.asked == found.members and found.members <= 1 + 2 * 6 * (5 + 2)
    assert {row["method"] for row in found.to_json()["removed"]} == {"truth", "turned", RANDOM}


def test_methods_that_agree_share_members() -> None:
    effect = np.random.default_rng(1).normal(size=(6, 20))
    one, two = Additive(effect), Additive(effect)
    first = brittleness(one, {"a": effect}, QUERIES, [2])
    second = brittleness(two, {"a": effect, "b": 3 * effect}, QUERIES, [2])
    assert first.members == second.members == two.asked


@pytest.mark.parametrize(("scores", "ks", "says"), [
    ({}, [1], "expected one at least"), ({RANDOM: np.zeros((6, 20))}, [1], "none called"),
    ({"a": np.zeros((6, 19))}, [1], r"expected \[6, 20\]"), ({"a": np.zeros((6, 20))}, [20], "k=20")])
def test_what_cannot_be_removed(scores: dict[str, np.ndarray], ks: list[int], says: str) -> None:
    with pytest.raises(WhenceError, match=says):
        brittleness(Additive(np.zeros((6, 20))), scores, QUERIES, ks)


def test_a_step_on_the_right_rows_helps_and_the_model_is_left_alone() -> None:
    model = tiny.lora()
    before = {name: p.clone() for name, p in model.state_dict().items()}
    wanted = [p.requires_grad for p in model.parameters()]
    names = [name for name, _ in model.named_modules() if name.endswith(("lora_A.default", "lora_B.default"))]
    grads = [torch.cat(tiny.gradients(model, data, names), dim=1) for data in (QUERIES, TRAIN)]
    for p, required in zip(model.parameters(), wanted, strict=True):
        p.requires_grad_(required)
    dots = (grads[0] @ grads[1].T).numpy()
    found = tail_patch(model, TRAIN, QUERIES, {"dot": dots, "turned": -dots}, Recipe(rank=3), k=2, learning_rate=1e-3)
    assert found.change["dot"].low > 0 > found.change["turned"].high
    assert found.against_random["dot"].low > 0
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == wanted
    assert all(p.grad is None for p in model.parameters() if p.requires_grad)


def test_no_learning_rate_changes_nothing() -> None:
    found = tail_patch(tiny.gpt2(), TRAIN, QUERIES, {"a": np.zeros((6, 20))}, Recipe(tune="full"), learning_rate=0.0)
    assert not found.per_query["a"].any()
    with pytest.raises(WhenceError, match="k=21"):
        tail_patch(tiny.gpt2(), TRAIN, QUERIES, {}, Recipe(tune="full"), k=21)

