"""Gauss-Newton products against explicit Jacobians, against curvlinops, and against themselves in other layouts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import LlamaConfig, LlamaForCausalLM

from tests import tiny
from tests.curvature import dense
from whence.base.errors import WhenceError
from whence.curvature.gauss_newton import GaussNewton, squared_error_hessian
from whence.models.blocks import Block, list_blocks, select_blocks
from whence.sweep.gram import GradientStore
from whence.sweep.sweep import sweep

MODELS = {"llama": tiny.llama, "gpt2": tiny.gpt2, "lora": tiny.lora}


def grouped() -> nn.Module:
    """Two key and value heads for four query heads: the attention call that repeats them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(LlamaConfig(
            vocab_size=tiny.VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64)).double().eval()


def vectors_for(blocks: list[Block], count: int = 3, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return dense.vectors([block.parameters for block in blocks], count, dtype=dtype)


def close(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for f, e in zip(found, expected, strict=True):
        assert f.shape == e.shape and f.dtype == e.dtype and e.abs().max() > 0
        torch.testing.assert_close(f, e, rtol=tolerance, atol=tolerance * float(e.abs().max()))


@pytest.mark.parametrize("architecture", [*MODELS, "grouped"])
def test_products_match_explicit_jacobians(architecture: str) -> None:
    model, data = dense.exact((MODELS | {"grouped": grouped})[architecture]()), tiny.examples(4, longest=9)
    blocks = select_blocks(model)
    v = vectors_for(blocks)
    found = GaussNewton.of_language_model(model, data, blocks, positions=60).product(v)
    roots = dense.language_model(model, blocks, data)
    expected = dense.times(roots, torch.cat(v, dim=1)).split([block.parameters for block in blocks], dim=1)
    close(found, list(expected), 1e-9)


def test_the_output_head_and_blocks_out_of_order() -> None:
    model, data = dense.exact(tiny.llama()), tiny.examples(3, longest=7)
    chosen = {block.name: block for block in list_blocks(model)}
    blocks = [chosen["lm_head"], chosen["model.layers.1.self_attn.q_proj"], chosen["model.layers.0.mlp.up_proj"]]
    v = vectors_for(blocks)
    found = GaussNewton.of_language_model(model, data, blocks).product(v)
    expected = dense.times(dense.language_model(model, blocks, data), torch.cat(v, dim=1))
    close(found, list(expected.split([block.parameters for block in blocks], dim=1)), 1e-9)


@pytest.mark.parametrize("error", ["softmax", "squared"])
def test_a_plain_network_with_its_own_outputs(error: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x = torch.randn(11, 3, dtype=torch.float64)
    blocks = list_blocks(model)
    v = vectors_for(blocks, 10)  # more vectors than are taken at once
    curvature = GaussNewton(model, blocks, lambda rows: model(x[rows]), np.arange(11), positions=24)
    if error == "squared":
        curvature = GaussNewton(model, blocks, lambda rows: model(x[rows]), np.arange(11), squared_error_hessian)
    roots = dense.square_roots(model, blocks, [(x[i : i + 1], slice(None)) for i in range(11)], error == "squared")
    sizes = [block.parameters for block in blocks]
    close(curvature.product(v), list(dense.times(roots, torch.cat(v, dim=1)).split(sizes, dim=1)), 1e-10)
    some = np.array([7, 2, 5])
    expected = dense.times([roots[i] for i in some], torch.cat(v, dim=1))
    close(curvature.on(some).product(v), list(expected.split(sizes, dim=1)), 1e-10)


def test_one_linear_layer_with_squared_error_is_the_covariance_of_its_inputs() -> None:
    model = nn.Linear(3, 2, bias=False).double()
    x = torch.randn(20, 3, dtype=torch.float64)
    model_in = nn.Sequential(model)
    curvature = GaussNewton(model_in, list_blocks(model_in), lambda rows: model_in(x[rows]), np.arange(20),
                            squared_error_hessian)
    G = curvature.product([torch.eye(6, dtype=torch.float64)])[0]
    torch.testing.assert_close(G, torch.kron(torch.eye(2, dtype=torch.float64), x.T @ x / 20))


def test_agrees_with_curvlinops() -> None:
    curvlinops = pytest.importorskip("curvlinops", reason="the independent oracle curvlinops is not installed")
    model, data = tiny.gpt2(), tiny.examples(4, longest=8)
    blocks = select_blocks(model)

    class Predictions(nn.Module):  # it wants tensors in and out
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, tokens: Tensor) -> Tensor:
            return self.model(tokens).logits[0, kept]  # type: ignore[no-any-return]

    wrapped, parameters = Predictions(), []
    for block in blocks:
        parameters += [block.module.weight, *([block.module.bias] if block.bias else [])]
    v = vectors_for(blocks, 2)
    expected = [torch.zeros_like(part) for part in v]
    for tokens, mask in zip(data.tokens, data.is_response, strict=True):
        kept = torch.from_numpy(np.flatnonzero(mask) - 1)
        pair = (torch.from_numpy(tokens)[None], torch.from_numpy(tokens[mask]))
        ggn = curvlinops.GGNLinearOperator(wrapped, nn.CrossEntropyLoss(reduction="sum"), parameters, [pair],
                                           check_deterministic=False, num_data=1)
        for k in range(2):
            given = []
            for block, part in zip(blocks, v, strict=True):
                given += list(dense.weights_of(block, part[k]).values())
            with sdpa_kernel(SDPBackend.MATH):
                images = iter(ggn @ given)
            for block, total in zip(blocks, expected, strict=True):
                W = next(images)
                parts = [(W.T if block.kind == "conv1d" else W).reshape(-1)]
                total[k] += torch.cat([*parts, next(images)] if block.bias else parts) / len(data)
    close(GaussNewton.of_language_model(model, data, blocks).product(v), expected, 1e-9)


@pytest.mark.parametrize("architecture", MODELS)
def test_layout_is_not_a_parameter(architecture: str) -> None:
    model, data = MODELS[architecture](), tiny.examples(7)
    blocks = select_blocks(model)
    v = vectors_for(blocks, 9)
    whole = GaussNewton.of_language_model(model, data, blocks).product(v)
    for given in ({"positions": 1}, {"side": "left"}, {"side": "left", "positions": 150, "pad_id": 5}):
        close(GaussNewton.of_language_model(model, data, blocks, **given).product(v), whole, 1e-10)
    mixed = data.select([3, 0, 6, 5, 1, 2, 4])
    close(GaussNewton.of_language_model(model, mixed, blocks).product(v), whole, 1e-10)
    alone = [GaussNewton.of_language_model(model, data, blocks).product([part[k : k + 1] for part in v])
             for k in (0, 8)]
    close([torch.cat(parts) for parts in zip(*alone, strict=True)], [part[[0, 8]] for part in whole], 1e-10)


def test_a_mini_batch_is_the_matrix_of_its_examples() -> None:
    model, data = tiny.lora(), tiny.examples(6)
    blocks = select_blocks(model)
    v, rows = vectors_for(blocks), np.array([4, 1])
    curvature = GaussNewton.of_language_model(model, data, blocks)
    alone = GaussNewton.of_language_model(model, data.select(rows), blocks)
    close(curvature.on(rows).product(v), alone.product(v), 1e-10)
    drawn = np.random.default_rng(3).choice(6, size=2, replace=False)
    random = curvature.mini_batches(2)(np.random.default_rng(3))
    close(random(v), curvature.on(drawn).product(v), 1e-10)


def test_it_is_the_fisher_matrix_of_the_models_own_labels() -> None:
    """sum over labels of p(label) g g^T at one counted token: the sweep's gradients, each with its probability."""
    model, data = dense.exact(tiny.lora()), tiny.examples(1, shortest=5, longest=5)
    prompt = data.tokens[0][:4]
    rows = type(data)(tuple(map(str, range(tiny.VOCAB))), (None,) * tiny.VOCAB, ("",) * tiny.VOCAB, ("",) * tiny.VOCAB,
                      tuple(np.append(prompt, label) for label in range(tiny.VOCAB)),
                      (np.arange(5) == 4,) * tiny.VOCAB, (False,) * tiny.VOCAB)
    blocks = select_blocks(model)
    store = GradientStore(blocks, len(rows), dtype=torch.float64)
    p = torch.from_numpy(np.exp(sweep(model, rows, blocks, [store]).values))
    assert float(p.sum()) == pytest.approx(1)
    v = vectors_for(blocks)
    g = torch.cat(store.gradients, dim=1)[store._back]
    expected = (torch.cat(v, dim=1) @ g.T * p) @ g
    found = GaussNewton.of_language_model(model, rows.select([0]), blocks).product(v)
    close(found, list(expected.split([block.parameters for block in blocks], dim=1)), 1e-9)


def test_symmetric_and_positive_and_float32_close_to_float64() -> None:
    data, exact = tiny.examples(6), tiny.gpt2()
    blocks = select_blocks(exact)
    v = vectors_for(blocks, 4)
    wide = GaussNewton.of_language_model(exact, data, blocks).product(v)
    inner = torch.cat(v, dim=1) @ torch.cat(wide, dim=1).T
    torch.testing.assert_close(inner, inner.T, rtol=1e-10, atol=1e-10 * float(inner.abs().max()))
    assert float(torch.linalg.eigvalsh(inner).min()) > 0
    model = tiny.gpt2(dtype=torch.float32)
    narrow = GaussNewton.of_language_model(model, data, select_blocks(model)).product([part.float() for part in v])
    close([part.double() for part in narrow], wide, 1e-4)
    half = tiny.gpt2(dtype=torch.bfloat16)
    rough = GaussNewton.of_language_model(half, data, select_blocks(half)).product([part.float() for part in v])
    for r, w in zip(rough, wide, strict=True):
        assert r.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(r.double(), w).min() > 0.98


@pytest.mark.parametrize("attention", ["eager", "sdpa", "flex_attention"])
def test_model_is_left_as_it_was_whatever_its_attention(attention: str) -> None:
    model, data = tiny.lora(), tiny.examples(3)
    blocks = select_blocks(model)
    v = vectors_for(blocks)
    expected = GaussNewton.of_language_model(model, data, blocks).product(v)
    model.set_attn_implementation(attention)
    model.train()
    needs = {name: p.requires_grad for name, p in model.named_parameters()}
    curvature = GaussNewton.of_language_model(model, data, blocks)
    close(curvature.product(v), expected, 1e-5)  # eager attention takes its softmax in float32
    assert model.training and model.config._attn_implementation == attention
    assert {name: p.requires_grad for name, p in model.named_parameters()} == needs
    assert all(p.grad is None for p in model.parameters())
    assert not any(block.module._forward_hooks for block in blocks)
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_a_block_that_moves_nothing_has_a_product_of_zero() -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"used": nn.Linear(2, 2), "idle": nn.Linear(2, 2), "dead": nn.Linear(2, 2)}).double()
    x = torch.randn(4, 2, dtype=torch.float64)

    def outputs(rows: np.ndarray) -> Tensor:
        model["dead"](x[rows])  # runs, and nobody reads it
        return model["used"](x[rows])  # type: ignore[no-any-return]

    blocks = list_blocks(model)
    found = GaussNewton(model, blocks, outputs, np.arange(4)).product(vectors_for(blocks))
    sizes = {block.name: float(part.abs().max()) for block, part in zip(blocks, found, strict=True)}
    assert sizes["used"] > 0 and sizes["idle"] == 0 and sizes["dead"] == 0


def test_mistakes_are_named() -> None:
    model, data = tiny.llama(), tiny.examples(3)
    blocks = select_blocks(model, ["*layers.0.mlp.up_proj"])
    curvature = GaussNewton.of_language_model(model, data, blocks)
    with pytest.raises(WhenceError, match=r"vectors of shapes \[\(2, 5\)\]; expected"):
        curvature.product([torch.zeros(2, 5, dtype=torch.float64)])
    with pytest.raises(WhenceError, match=r"not finite at block 'model.layers.0.mlp.up_proj'"):
        curvature.product([torch.full((1, 384), float("nan"), dtype=torch.float64)])
    assert curvature.product([torch.zeros(0, 384, dtype=torch.float64)])[0].shape == (0, 384)
    with pytest.raises(WhenceError, match="a mini-batch of 4 examples: expected 1 to 3"):
        curvature.mini_batches(4)
    with pytest.raises(WhenceError, match="no examples"):
        curvature.on(np.array([], dtype=int))
    model.model.layers[1].mlp = model.model.layers[0].mlp
    with pytest.raises(WhenceError, match="more than once in a forward pass"):
        curvature.product([torch.zeros(1, 384, dtype=torch.float64)])
