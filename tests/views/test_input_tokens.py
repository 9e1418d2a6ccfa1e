"""Input-token influence against dense double differentiation in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import tiny
from tests.views.dense import MODELS, along, bits, problem, twice_differentiable
from whence.data.examples import Examples
from whence.models.blocks import Block
from whence.sweep.sweep import Layout
from whence.views.input_tokens import input_token_influence, scaling_gradients

N = 40
TOLERANCE = {"gpt2": 1e-9, "llama": 1e-4, "lora": 1e-4}  # Llama computes its norms in float32


def literal(model: torch.nn.Module, data: Examples, row: int, blocks: list[Block],
            x: list[torch.Tensor]) -> np.ndarray:
    """d/d eps <x, grad_theta log p(z; theta, eps)>: autograd twice, with the embeddings scaled by hand."""
    tokens = torch.from_numpy(data.tokens[row])[None]
    kept = torch.from_numpy(data.is_response[row])[1:]
    eps = torch.zeros(tokens.shape[1], dtype=torch.float64, requires_grad=True)
    embeddings = model.get_input_embeddings()(tokens).detach() * (1 + eps)[None, :, None]
    log_p = model(inputs_embeds=embeddings).logits[0, :-1].log_softmax(dim=1)
    value = log_p[kept].gather(1, tokens[0, 1:][kept][:, None]).sum()
    (gradient,) = torch.autograd.grad(along(value, blocks, x), eps)
    return gradient.numpy() / N


@pytest.mark.parametrize("architecture", MODELS)
def test_every_token_is_the_second_derivative(architecture: str) -> None:
    model, blocks, x = problem(architecture)
    data = tiny.examples(3, shortest=5)
    before = bits(model)
    found = input_token_influence(model, data, blocks, x, N, tolerance=0.0)
    assert bits(model) == before
    scale = max(np.abs(values).max() for values in found.values)
    assert scale > 0
    with twice_differentiable(model):
        for row in range(len(data)):
            for q in range(2):
                expected = literal(model, data, row, blocks, [part[q] for part in x])
                np.testing.assert_allclose(found.values[row][q], expected, atol=TOLERANCE[architecture] * scale)
    assert all(fact["error"] < TOLERANCE[architecture] for fact in found.facts["queries"])


def test_tokens_after_the_last_counted_one_have_none() -> None:
    model, blocks, x = problem("llama")
    data = tiny.examples(4)
    found = input_token_influence(model, data, blocks, x, N)
    for row, values in enumerate(found.values):
        assert np.all(values[:, found.can_carry[row] :] == 0)
        assert np.any(values[:, : found.can_carry[row]] != 0)


def test_padding_and_batches_change_nothing() -> None:
    model, _, _ = problem("gpt2")
    model.requires_grad_(False)
    data = tiny.examples(7)
    once = scaling_gradients(model, data)
    for layout in (Layout(batch_size=1), Layout(batch_tokens=25, side="left")):
        np.testing.assert_allclose(once, scaling_gradients(model, data, layout=layout), rtol=1e-9, atol=1e-12)


def test_nothing_is_left_behind() -> None:
    model, blocks, x = problem("lora")
    model.train()
    hooks = len(model.get_input_embeddings()._forward_hooks)
    input_token_influence(model, tiny.examples(2), blocks, x, N)
    assert model.training
    assert len(model.get_input_embeddings()._forward_hooks) == hooks
    assert all(p.grad is None for p in model.parameters())
