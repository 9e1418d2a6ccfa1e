"""Tokenwise influence against gradients by autograd, and against the products position by position."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import tiny
from tests.views.dense import MODELS, problem
from whence.base.errors import WhenceError
from whence.models.blocks import select_blocks
from whence.sweep.capture import captured, frozen
from whence.sweep.sweep import Layout, sweep
from whence.views.tokens import TokenInfluence, token_influence

N = 50


@pytest.mark.parametrize("architecture", MODELS)
def test_positions_add_up_to_the_score(architecture: str) -> None:
    model, blocks, x = problem(architecture)
    data = tiny.examples(6)
    found = token_influence(model, data, blocks, x, N, by_block=True, layout=Layout(batch_tokens=30))
    gradients = tiny.gradients(model, data, [block.name for block in blocks])
    by_block = torch.stack([v @ g.T for v, g in zip(x, gradients, strict=True)]).numpy() / N
    scale = np.abs(by_block).max()
    np.testing.assert_allclose(found.totals, by_block.sum(axis=0), atol=1e-11 * scale)
    assert found.by_block is not None
    summed = np.stack([values.sum(axis=2) for values in found.by_block], axis=2)
    np.testing.assert_allclose(summed, by_block, atol=1e-11 * scale)
    assert [values.shape[1] for values in found.values] == data.lengths.tolist()


def test_every_position_is_its_own_product() -> None:
    model, blocks, x = problem("gpt2")
    data = tiny.examples(3, shortest=5)
    found = token_influence(model, data, blocks, x, N, by_block=True)
    assert found.by_block is not None
    for row in range(len(data)):
        seen: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        with frozen(model), captured(model, blocks, lambda b, _, a, d, seen=seen: seen.update({b: (a[0], d[0])})):
            tiny.log_prob(model, data, row).backward()
        for b, block in enumerate(blocks):
            a, d = seen[b]
            for q in range(2):
                matrix = x[b][q][: block.outputs * block.inputs].view(block.outputs, block.inputs)
                bias = x[b][q][block.outputs * block.inputs :]
                literal = [float(d[t] @ matrix @ a[t] + bias @ d[t]) / N for t in range(len(a))]
                np.testing.assert_allclose(found.by_block[row][b, q], literal, rtol=1e-9, atol=1e-13)


def test_padding_and_batches_change_nothing() -> None:
    model, blocks, x = problem("llama")
    data = tiny.examples(7)
    once = token_influence(model, data, blocks, x, N)
    for layout in (Layout(batch_size=1), Layout(batch_tokens=25, side="left"), Layout(side="left")):
        again = token_influence(model, data, blocks, x, N, layout=layout)
        for one, other in zip(once.values, again.values, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-13)


def test_only_positions_before_the_last_counted_token_carry_influence() -> None:
    model, blocks, x = problem("llama")
    data = tiny.examples(5)
    found = token_influence(model, data, blocks, x, N)
    for row, values in enumerate(found.values):
        last = int(np.flatnonzero(data.is_response[row])[-1])
        assert found.can_carry[row] == last
        assert np.all(values[:, :last] != 0) and np.all(values[:, last:] == 0)
    assert found.strongest(0, 1, 3) == np.argsort(-np.abs(found.values[1][0]))[:3].tolist()


def test_single_precision_comes_near() -> None:
    double = token_influence(*_arguments(torch.float64))
    single = token_influence(*_arguments(torch.float32))
    for one, other in zip(double.values, single.values, strict=True):
        assert one.dtype == other.dtype == np.float64
        np.testing.assert_allclose(one, other, atol=2e-5 * np.abs(one).max())


def _arguments(dtype: torch.dtype) -> tuple:
    model, _, _ = problem("llama", dtype=dtype)
    _, _, x = problem("llama")
    return model, tiny.examples(3), select_blocks(model), [part.to(dtype) for part in x], N


def test_the_sink_takes_part_in_a_sweep_with_others() -> None:
    model, blocks, x = problem("lora")
    data = tiny.examples(4)
    sinks = [TokenInfluence(blocks, x, data, N), TokenInfluence(blocks, [2 * part for part in x], data, 2 * N)]
    sweep(model, data, blocks, sinks)
    for one, other in zip(sinks[0].result.values, sinks[1].result.values, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_what_does_not_fit_is_refused() -> None:
    model, blocks, x = problem("llama")
    data = tiny.examples(2)
    with pytest.raises(WhenceError, match=r"1 preconditioned gradients for 14 blocks"):
        token_influence(model, data, blocks, x[:1], N)
    with pytest.raises(WhenceError, match=r"block '.*q_proj' have shape \(2, 7\); expected \(2, 256\)"):
        token_influence(model, data, blocks, [x[0][:, :7], *x[1:]], N)
    with pytest.raises(WhenceError, match="train_size=0"):
        token_influence(model, data, blocks, x, 0)
    x[3][0, 0] = float("nan")
    with pytest.raises(WhenceError, match="is not finite; check the curvature"):
        token_influence(model, data, blocks, x, N)
