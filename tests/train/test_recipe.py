from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.base.errors import WhenceError
from whence.train.recipe import Recipe


@given(st.builds(Recipe, tune=st.just("lora"), rank=st.integers(1, 64), targets=st.tuples(st.text()),
                 learning_rate=st.floats(1e-9, 1.0),
                 betas=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)),
                 clip_norm=st.none() | st.floats(0.1, 9.0), schedule=st.sampled_from(["linear", "cosine"]),
                 seed=st.integers(0, 2**63 - 1)))
def test_json_gives_back_an_equal_recipe(recipe: Recipe) -> None:
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_json_may_hold_whole_numbers_and_numpy_numbers() -> None:
    recipe = Recipe.from_json({"learning_rate": 1, "seed": np.int64(3)})
    assert recipe == Recipe(learning_rate=1.0, seed=3)
    json.dumps(recipe.to_json())


@pytest.mark.parametrize(("changes", "message"), [
    ({"tune": "qlora"}, "tune is 'qlora'; expected lora or full"),
    ({"reduction": "sum"}, "reduction is 'sum'; expected token or example"),
    ({"rank": 0}, "rank is 0; expected a whole number of at least 1"),
    ({"rank": 2.5}, "rank is 2.5; expected a whole number"),
    ({"learning_rate": float("nan")}, "learning_rate is nan"),
    ({"learning_rate": "high"}, "learning_rate is 'high'; expected a number"),
    ({"betas": [0.9]}, "betas is .0.9,.; expected two numbers"),
    ({"epochs": 2, "max_steps": 9}, "expected one of them"),
    ({"epochs": 0}, "epochs is 0"),
    ({"tune": "full", "rank": 4}, "rank is LoRA's"),
    ({"learning_rte": 1.0}, "unknown field 'learning_rte'"),
])
def test_a_value_that_cannot_be_used_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(WhenceError, match=message):
        Recipe.from_json(changes)


def test_how_long_is_three_epochs_unless_steps_are_given() -> None:
    assert Recipe().epochs == Recipe(epochs=None).epochs == 3
    assert Recipe(max_steps=2).epochs is None
    assert Recipe.from_json(Recipe(max_steps=2).to_json()) == Recipe(max_steps=2)
