"""The sweep against gradients taken one example at a time, and against itself under other layouts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import tiny
from whence.base.errors import WhenceError
from whence.measure.measurement import LogOdds
from whence.models.blocks import select_blocks
from whence.sweep.gram import DotSink, GradientStore, check_finite
from whence.sweep.sweep import Layout, sweep

MODELS = {"llama": tiny.llama, "gpt2": tiny.gpt2, "lora": tiny.lora}


@pytest.mark.parametrize("architecture", MODELS)
def test_gradients_match_autograd_one_by_one(architecture: str) -> None:
    model, data = MODELS[architecture](), tiny.examples(9)
    blocks = select_blocks(model)
    store = GradientStore(blocks, len(data), dtype=torch.float64)
    measured = sweep(model, data, blocks, [store], layout=Layout(batch_tokens=40))
    oracle = tiny.gradients(model, data, [block.name for block in blocks])
    for b, expected in enumerate(oracle):
        expected = expected.numpy()
        scale = np.abs(expected @ expected.T).max()
        assert scale > 0
        np.testing.assert_allclose(store.gram(b), expected @ expected.T, atol=1e-11 * scale)
        np.testing.assert_allclose(store.squared_norms(b), (expected**2).sum(axis=1), rtol=1e-9)
    with torch.no_grad():
        alone = [float(tiny.log_prob(model, data, i)) for i in range(len(data))]
    np.testing.assert_allclose(measured.values, alone, rtol=1e-10)


def test_output_head_as_a_block_sees_every_position() -> None:
    model, data = tiny.llama(), tiny.examples(5)
    blocks = select_blocks(model, ["lm_head"])
    store = GradientStore(blocks, len(data), dtype=torch.float64)
    sweep(model, data, blocks, [store])
    expected = tiny.gradients(model, data, ["lm_head"])[0].numpy()
    np.testing.assert_allclose(store.gram(0), expected @ expected.T, rtol=1e-9)


def test_dot_sink_gives_the_same_products_without_keeping_training_gradients() -> None:
    model, train, queries = tiny.lora(), tiny.examples(11), tiny.examples(4, seed=1)
    blocks = select_blocks(model)
    store = GradientStore(blocks, len(queries), dtype=torch.float64)
    sweep(model, queries, blocks, [store])
    dots = DotSink(store, len(train))
    sweep(model, train, blocks, [dots], layout=Layout(batch_tokens=30))
    names = [block.name for block in blocks]
    for b, (g, v) in enumerate(zip(tiny.gradients(model, train, names), tiny.gradients(model, queries, names),
                                   strict=True)):
        np.testing.assert_allclose(dots.products[b], (v @ g.T).numpy(), rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(dots.norms[b], g.square().sum(dim=1).numpy(), rtol=1e-8)


def test_only_counted_tokens_matter() -> None:
    model, data = tiny.llama(), tiny.examples(6)
    cut = data.select(range(6))
    longer = [np.concatenate([t, [1, 2, 3]]) for t in cut.tokens]  # uncounted tail: causal, so no effect
    masks = [np.concatenate([m, [False] * 3]) for m in cut.is_response]
    extended = type(data)(data.ids, data.groups, data.prompts, data.responses, tuple(longer), tuple(masks),
                          data.truncated)
    np.testing.assert_allclose(sweep(model, data).values, sweep(model, extended).values, rtol=1e-10)


def test_measurement_is_exchangeable_and_matches_autograd() -> None:
    model, data = tiny.llama(), tiny.examples(5)
    blocks = select_blocks(model)
    store = GradientStore(blocks, 5, dtype=torch.float64)
    measured = sweep(model, data, blocks, [store], measurement=LogOdds())
    row = 2
    model.requires_grad_(True)
    tokens = torch.from_numpy(data.tokens[row])[None]
    kept = torch.from_numpy(data.is_response[row])[1:]
    p = model(input_ids=tokens).logits[0, :-1][kept].softmax(dim=1).gather(1, tokens[0, 1:][kept][:, None])
    value = (p / (1 - p)).log().sum()
    assert measured.values[row] == pytest.approx(value.item(), rel=1e-9)
    weight = dict(model.named_modules())[blocks[0].name].weight
    (expected,) = torch.autograd.grad(value, weight)
    assert store.squared_norms(0)[row] == pytest.approx(float(expected.square().sum()), rel=1e-8)


def test_greedy_match_is_greedy_decoding() -> None:
    model, data = tiny.llama(), tiny.examples(20, shortest=4)
    prompts = [data.tokens[i][: int(np.argmax(data.is_response[i]))] for i in range(20)]
    tokens, masks = [], []
    for i, prompt in enumerate(prompts):  # half of the rows get the model's own greedy answer
        answer = data.tokens[i][len(prompt) :]
        if i % 2:
            out = model.generate(torch.from_numpy(prompt)[None], max_new_tokens=len(answer), do_sample=False,
                                 eos_token_id=None, pad_token_id=0)
            answer = out[0, len(prompt) :].numpy()
        tokens.append(np.concatenate([prompt, answer]))
        masks.append(np.arange(len(tokens[-1])) >= len(prompt))
    rows = type(data)(data.ids, data.groups, data.prompts, data.responses, tuple(tokens), tuple(masks), data.truncated)
    matches = sweep(model, rows).matches
    assert matches[1::2].all()
    assert not matches[::2].all()


def test_model_is_left_as_it_was() -> None:
    model = tiny.lora()
    model.train()
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    cache = model.config.use_cache
    blocks = select_blocks(model)
    sweep(model, tiny.examples(3), blocks, [GradientStore(blocks, 3, dtype=torch.float64)])
    assert model.training and model.config.use_cache == cache
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before
    assert all(p.grad is None for p in model.parameters())


def test_not_finite_names_the_example_and_the_block() -> None:
    with pytest.raises(WhenceError, match=r"example 'c' at block 'mlp.up' is not finite \(1 of 3"):
        check_finite(np.array([1.0, 2.0, np.nan]), "mlp.up", ("a", "b", "c"))
    model, data = tiny.llama(), tiny.examples(4)
    with torch.no_grad():
        model.model.embed_tokens.weight[int(data.tokens[2][0])] = float("nan")
    with pytest.raises(WhenceError, match="log_prob of example"):
        sweep(model, data)


def test_a_block_that_runs_twice_is_refused() -> None:
    model = tiny.llama()
    model.model.layers[1].mlp = model.model.layers[0].mlp
    blocks = select_blocks(model, ["*layers.0.mlp.up_proj"])
    with pytest.raises(WhenceError, match="more than once in a forward pass"):
        sweep(model, tiny.examples(2), blocks, [GradientStore(blocks, 2, dtype=torch.float64)])
