"""The sweep against gradients taken one example at a time, and against itself under other layouts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests import tiny
from whence.base.errors import WhenceError
from whence.data.examples import Examples
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


def filled(data: Examples, side: str, hide: bool, counts: bool = False) -> Examples:
    """Four tokens more a row."""
    def joined(filling: np.ndarray, row: np.ndarray) -> np.ndarray:
        return np.concatenate([filling, row] if side == "left" else [row, filling])

    def counted(mask: np.ndarray) -> np.ndarray:
        return joined(np.full(4, counts), mask) & (np.arange(len(mask) + 4) > 0)

    return replace(data, tokens=tuple(joined(np.array([1, 2, 3, 3]), t) for t in data.tokens),
                   is_response=tuple(map(counted, data.is_response)),
                   hidden=tuple(joined(np.full(4, hide), np.zeros(len(t), dtype=bool)) for t in data.tokens))


@pytest.mark.parametrize(("architecture", "side"), [("llama", "left"), ("llama", "right"), ("lora", "left"),
                                                    ("gpt2", "right")])  # GPT-2 learned positions: left moves them
def test_filling_that_attention_does_not_see_changes_nothing_of_its_row(architecture: str, side: str) -> None:
    model, data = MODELS[architecture](), tiny.examples(7)
    blocks, stores, values = select_blocks(model), [], []
    for examples in (data, filled(data, side, hide=True), filled(data, side, hide=False)):
        stores.append(GradientStore(blocks, len(data), dtype=torch.float64))
        values.append(sweep(model, examples, blocks, [stores[-1]], layout=Layout(batch_size=3)).values)
    close = 1e-5 if side == "left" else 1e-9  # Llama's angles are float32: moved, they are rounded otherwise
    np.testing.assert_allclose(values[1], values[0], rtol=close)
    for b in range(len(blocks)):
        plain = stores[0].gram(b)
        np.testing.assert_allclose(stores[1].gram(b), plain, rtol=close, atol=close * np.abs(plain).max())
    if side == "left":
        assert np.abs(values[2] / values[0] - 1).max() > 1e-3


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_counted_filling_that_is_not_seen_is_the_same_in_every_batch(architecture: str, side: str) -> None:
    """Its positions see nothing at all, and yet no other row of the batch."""
    model, data = MODELS[architecture](), filled(tiny.examples(9), side, hide=True, counts=True)
    assert min(mask.sum() for mask in data.is_response) >= 4
    alone = sweep(model, data, layout=Layout(batch_size=1)).values
    assert np.isfinite(alone).all()
    for layout in (Layout(batch_size=4), Layout(batch_size=9, side="left")):
        np.testing.assert_allclose(sweep(model, data, layout=layout).values, alone, rtol=1e-9)


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
