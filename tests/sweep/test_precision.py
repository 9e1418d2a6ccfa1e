"""16 bits against 32: what is reported is what two whole passes differ by, and the model stays as it was."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import tiny
from whence.base.errors import WhenceError
from whence.models.blocks import select_blocks
from whence.sweep.gram import GradientStore
from whence.sweep.norms import square_norms
from whence.sweep.precision import Precision, check_precision, rounded, square_differences, widened
from whence.sweep.sweep import Layout, sweep

BF16 = Layout(dtype="bf16")


def passed(model: nn.Module, layout: Layout) -> tuple[np.ndarray, list[Tensor]]:
    data, blocks = tiny.examples(6), select_blocks(model)
    store = GradientStore(blocks, 6, dtype=torch.float32)
    return sweep(model, data, blocks, [store], layout=layout).values, store.take()


@pytest.mark.parametrize("bias", [True, False])
def test_norms_and_differences_are_those_of_gradients(bias: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 3, 5, 4, generator=draw).double()
    d, e = torch.randn(2, 3, 5, 2, generator=draw).double()

    def gradient(x: Tensor, y: Tensor) -> Tensor:
        x = torch.cat([x, torch.ones(3, 5, 1, dtype=x.dtype)], dim=2) if bias else x
        return (y.mT @ x).flatten(1)

    torch.testing.assert_close(square_norms(a, d, bias), gradient(a, d).square().sum(1))
    torch.testing.assert_close(square_differences(a, d, b, e, bias), (gradient(a, d) - gradient(b, e)).square().sum(1))
    near = a + 1e-9 * b  # where norms less products would be all cancellation
    expected = (gradient(a, d) - gradient(near, d)).square().sum(1)
    torch.testing.assert_close(square_differences(a, d, near, d, bias), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("of_weights", [True, False])
def test_what_is_reported_is_what_two_passes_differ_by(architecture: str, of_weights: bool) -> None:
    """Weights in bfloat16, or a bf16 pass of float32 weights, against a whole float32 model."""
    model = getattr(tiny, architecture)(dtype=torch.bfloat16 if of_weights else torch.float32)
    layout = Layout() if of_weights else BF16
    assert rounded(model, layout) and not rounded(model.float() if not of_weights else copy.deepcopy(model).float(),
                                                  Layout())
    before = {name: (tensor.data_ptr(), tensor.dtype) for name, tensor in model.state_dict().items()}
    found = check_precision(model, tiny.examples(6), select_blocks(model), layout)
    assert {name: (tensor.data_ptr(), tensor.dtype) for name, tensor in model.state_dict().items()} == before
    (values, gradients), (exact_values, exact) = passed(model, layout), passed(copy.deepcopy(model).float(), Layout())
    errors = torch.stack([(G - H).square().sum(1) for G, H in zip(gradients, exact, strict=True)])
    norms = torch.stack([H.square().sum(1) for H in exact])
    of_rows, of_blocks = (errors.sum(0) / norms.sum(0)).sqrt(), (errors.sum(1) / norms.sum(1)).sqrt()
    counted = np.array([mask.sum() for mask in tiny.examples(6).is_response])
    assert found.rows == 6 and 1e-4 < found.gradient < 0.2
    assert found.gradient == pytest.approx(np.median(of_rows.numpy()), rel=1e-3)
    assert found.worst == pytest.approx(float(of_rows.max()), rel=1e-3)
    assert found.of_block == pytest.approx(float(of_blocks.max()), rel=1e-3)
    assert found.block == select_blocks(model)[int(of_blocks.argmax())].name
    assert found.value == pytest.approx(float((np.abs(values - exact_values) / counted).max()), rel=1e-3)


def test_sums_of_a_bf16_pass_are_float32() -> None:
    """Sums of many rounded terms keep what a bfloat16 sum would lose."""
    model = tiny.gpt2(dtype=torch.float32)
    _, gradients = passed(model, BF16)
    assert all(G.dtype == torch.float32 for G in gradients)
    assert not all(torch.equal(G, G.bfloat16().float()) for G in gradients)


def test_a_widened_model_is_float32_inside_and_itself_again_after_an_error() -> None:
    model = tiny.llama(dtype=torch.bfloat16)
    with pytest.raises(ZeroDivisionError), widened(model):
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        raise ZeroDivisionError
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_much_rounding_is_not_enough() -> None:
    found = Precision(rows=3, value=0.1, gradient=0.06, worst=0.5, block="x", of_block=0.9)
    assert not found.enough and "off by 6.0% in the median, 50.0% at most (x by 90.0%)" in str(found)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(WhenceError, match="dtype='fp8': expected model or bf16"):
        Layout(dtype="fp8")
