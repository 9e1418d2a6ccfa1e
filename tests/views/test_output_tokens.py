"""Output-token influence against autograd token by token, in float64, and its sum against the score."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import tiny
from tests.views.dense import MODELS, along, bits, problem
from whence.models.blocks import select_blocks
from whence.sweep.sweep import Layout
from whence.views.output_tokens import output_token_influence, token_log_probs
from whence.views.tokens import token_influence

N = 40
TOLERANCE = {"gpt2": 1e-9, "llama": 1e-4, "lora": 1e-4}  # Llama computes its norms in float32


@pytest.mark.parametrize("architecture", MODELS)
def test_every_token_is_the_derivative_of_its_log_probability(architecture: str) -> None:
    model, blocks, x = problem(architecture)
    data = tiny.examples(3)
    before = bits(model)
    found = output_token_influence(model, data, blocks, x, N, tolerance=0.0)
    assert bits(model) == before
    model.requires_grad_(True)
    scale = max(np.abs(values).max() for values in found.values)
    for row in range(len(data)):
        tokens = torch.from_numpy(data.tokens[row])[None]
        log_p = model(input_ids=tokens).logits[0].log_softmax(dim=1)
        for q in range(2):
            expected = np.zeros(tokens.shape[1])
            for t in np.flatnonzero(data.is_response[row]):
                log_p_t = log_p[t - 1, tokens[0, t]]
                expected[t] = along(log_p_t, blocks, [part[q] for part in x]).item() / N
            np.testing.assert_allclose(found.values[row][q], expected, atol=TOLERANCE[architecture] * scale)
    assert all(fact["error"] < TOLERANCE[architecture] for fact in found.facts["queries"])


@pytest.mark.parametrize("architecture", MODELS)
def test_its_sum_is_the_score(architecture: str) -> None:
    model, blocks, x = problem(architecture)
    data = tiny.examples(6)
    found = output_token_influence(model, data, blocks, x, N, tolerance=0.0)
    score = token_influence(model, data, blocks, x, N).totals
    np.testing.assert_allclose(found.totals, score, atol=TOLERANCE[architecture] * np.abs(score).max())


def test_single_precision_comes_near() -> None:
    _, _, x = problem("llama")
    data = tiny.examples(5)
    both = []
    for dtype in (torch.float64, torch.float32):
        model = tiny.llama(dtype=dtype)
        both.append(output_token_influence(model, data, select_blocks(model), [part.to(dtype) for part in x], N))
    scale = max(np.abs(values).max() for values in both[0].values)
    for one, other in zip(both[0].values, both[1].values, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3 * scale)
    assert all(fact["error"] < 5e-3 for fact in both[1].facts["queries"])


def test_padding_and_batches_change_nothing() -> None:
    model, _, _ = problem("gpt2")
    data = tiny.examples(7)
    once = token_log_probs(model, data)
    for layout in (Layout(batch_size=1), Layout(batch_tokens=25, side="left")):
        np.testing.assert_allclose(once, token_log_probs(model, data, layout=layout), rtol=1e-10)
    alone = [tiny.log_prob(model, data, row).item() for row in range(7)]
    sums = [part.sum() for part in np.split(once, np.cumsum(data.response_lengths)[:-1])]
    np.testing.assert_allclose(sums, alone, rtol=1e-10)


def test_modes_and_gradients_are_left_as_they_were() -> None:
    model, blocks, x = problem("lora")
    model.train()
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    output_token_influence(model, tiny.examples(2), blocks, x, N)
    assert model.training
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before
