"""Representations: each choice of token and layer against a forward pass of one row, alone and unpadded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests import tiny
from whence.base.errors import WhenceError
from whence.curvature.collect import collect_hidden
from whence.data.batch import PaddingSide, collate
from whence.data.examples import Examples
from whence.models.adapter import adapter_disabled
from whence.sweep.hidden import TOKENS, HiddenStates, Token, known_token, token_weights
from whence.sweep.sweep import Layout


def rows() -> Examples:
    """Lengths 5, 3 and 2; counted from position 2, 1 and 1; the first stops counting before its end."""
    return Examples(ids=("a", "b", "c"), groups=(None,) * 3, prompts=("",) * 3, responses=("",) * 3,
                    tokens=(np.arange(5), np.arange(3), np.arange(2)),
                    is_response=(np.array([0, 0, 1, 1, 0], dtype=bool), np.array([0, 1, 1], dtype=bool),
                                 np.array([0, 1], dtype=bool)), truncated=(False,) * 3)


@pytest.mark.parametrize(("token", "side", "expected"), [
    ("last_prompt", "right", [[0, 1, 0, 0, 0], [1, 0, 0, 0, 0], [1, 0, 0, 0, 0]]),
    ("last_prompt", "left", [[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]]),
    ("last_response", "right", [[0, 0, 0, 0, 1], [0, 0, 1, 0, 0], [0, 1, 0, 0, 0]]),
    ("last_response", "left", [[0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1]]),
    ("mean", "right", [[0.2] * 5, [1 / 3, 1 / 3, 1 / 3, 0, 0], [0.5, 0.5, 0, 0, 0]]),
    ("mean", "left", [[0.2] * 5, [0, 0, 1 / 3, 1 / 3, 1 / 3], [0, 0, 0, 0.5, 0.5]]),
])
def test_weights_pick_the_token_on_either_side(token: Token, side: PaddingSide, expected: list[list[float]]) -> None:
    weights = token_weights(collate(rows(), range(3), pad_id=0, side=side), token)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def alone(model: nn.Module, data: Examples, row: int, layer: int, token: Token) -> np.ndarray:
    tokens = torch.from_numpy(data.tokens[row])[None]
    with torch.no_grad():
        state = model(input_ids=tokens, output_hidden_states=True).hidden_states[layer][0].numpy()
    first = int(np.argmax(data.is_response[row]))
    return {"last_prompt": state[first - 1], "last_response": state[-1], "mean": state.mean(axis=0)}[token]


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "lora"])
@pytest.mark.parametrize("layout", [Layout(batch_size=4), Layout(batch_size=4, side="left"), Layout(batch_size=1)])
def test_every_choice_equals_a_forward_pass_of_the_row_alone(architecture: str, layout: Layout) -> None:
    model, data = getattr(tiny, architecture)(), tiny.examples(9, seed=2)
    choices = [(layer, token) for layer in (0, 1, -1) for token in TOKENS]
    states = collect_hidden(model, data, choices, layout=layout)
    for layer, token in choices:
        expected = [alone(model, data, row, layer, token) for row in range(len(data))]
        ours = states.get(layer, token)
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)
        assert np.ptp(ours, axis=0).max() > 0 or layer == 0


@pytest.mark.parametrize("side", ["left", "right"])
def test_filling_that_attention_does_not_see_is_in_no_choice(side: str) -> None:
    model, data = tiny.llama(), tiny.examples(6, seed=3)
    pairs = [(np.array([9, 9, 9]), row) for row in data.tokens]

    def joined(filling: np.ndarray, row: np.ndarray) -> np.ndarray:
        return np.concatenate([filling, row] if side == "left" else [row, filling])

    nothing = np.zeros(3, dtype=bool)
    longer = replace(data, tokens=tuple(joined(*pair) for pair in pairs),
                     is_response=tuple(joined(nothing, mask) for mask in data.is_response),
                     hidden=tuple(joined(~nothing, np.zeros(len(row), dtype=bool)) for row in data.tokens))
    choices = [(1, token) for token in TOKENS]
    ours, plain = (collect_hidden(model, rows, choices) for rows in (longer, data))
    for layer, token in choices:
        np.testing.assert_allclose(ours.get(layer, token), plain.get(layer, token), rtol=1e-8, atol=1e-12)


def test_minus_one_is_the_last_layer_after_the_final_normalisation() -> None:
    model, data = tiny.llama(), tiny.examples(4)
    states = collect_hidden(model, data, [(-1, "last_response"), (2, "last_response")])
    np.testing.assert_array_equal(states.get(-1, "last_response"), states.get(2, "last_response"))
    logits = model.lm_head(torch.from_numpy(states.get(-1, "last_response")))
    expected = model(input_ids=torch.from_numpy(data.tokens[3])[None]).logits[0, -1]
    torch.testing.assert_close(logits[3], expected, rtol=1e-9, atol=1e-12)


def test_narrow_states_are_kept_in_float32() -> None:
    model, data = tiny.llama(dtype=torch.bfloat16), tiny.examples(4)
    states = collect_hidden(model, data, [(-1, "mean")]).get(-1, "mean")
    assert states.dtype == np.float64
    exact = collect_hidden(model.double(), data, [(-1, "mean")]).get(-1, "mean")
    assert 0 < np.abs(states - exact).max() < 0.05 * np.abs(exact).max()


def test_the_adapter_switched_off_gives_the_base_models_states() -> None:
    model, data = tiny.lora(), tiny.examples(5)
    tuned = collect_hidden(model, data, [(-1, "mean")]).get(-1, "mean")
    with adapter_disabled(model) as base:
        off = collect_hidden(base, data, [(-1, "mean")]).get(-1, "mean")
    np.testing.assert_array_equal(off, collect_hidden(tiny.llama(), data, [(-1, "mean")]).get(-1, "mean"))
    assert np.abs(tuned - off).max() > 1e-3


def test_a_choice_named_twice_is_one_and_unknown_ones_are_refused() -> None:
    assert HiddenStates([(0, "mean"), (-1, "mean"), (0, "mean")]).choices == ((0, "mean"), (-1, "mean"))
    assert [known_token(name) for name in TOKENS] == list(TOKENS)
    with pytest.raises(WhenceError, match="token=first: expected last_prompt, last_response or mean"):
        HiddenStates([(0, "first")])
    for layer in (3, -4):
        with pytest.raises(WhenceError, match=rf"layer {layer} does not exist: this model has 2 layers"):
            collect_hidden(tiny.llama(), tiny.examples(2), [(layer, "mean")])
