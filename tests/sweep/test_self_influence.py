"""Self-influence against dense float64 inverses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import tiny
from whence.models.blocks import Block, select_blocks
from whence.sweep.basis import Basis
from whence.sweep.self_influence import SelfInfluenceSink
from whence.sweep.sweep import Layout, sweep


def random_basis(block: Block, seed: int, parts: int = 1) -> Basis:
    """Random orthogonal bases, each in some diagonal blocks."""
    generator = torch.Generator().manual_seed(seed)

    def of(size: int) -> tuple[torch.Tensor, ...]:
        sizes = [len(piece) for piece in torch.arange(size).tensor_split(parts)]
        return tuple(torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0] for n in sizes)

    return Basis(of(block.inputs + block.bias), of(block.outputs))


def with_bias_last(gradients: torch.Tensor, block: Block) -> torch.Tensor:
    """[N, out, in'], from weights row-major and then biases."""
    weights = gradients[:, : block.outputs * block.inputs].reshape(-1, block.outputs, block.inputs)
    return torch.cat([weights, gradients[:, block.outputs * block.inputs :, None]], dim=2) if block.bias else weights


@pytest.mark.parametrize("make", [tiny.llama, tiny.gpt2, tiny.lora])
@pytest.mark.parametrize("parts", [0, 1, 2])  # 0: no basis, a diagonal curvature
@pytest.mark.parametrize("longest", [6, 40])  # short rows are rotated by their factors, long ones as whole gradients
def test_it_is_the_quadratic_form_of_the_dense_inverse(make, parts: int, longest: int) -> None:
    model, data = make(), tiny.examples(7, longest=longest)
    blocks = [block for block in select_blocks(model) if block.outputs <= 24][:5]
    bases = [random_basis(block, b, parts) if parts else Basis() for b, block in enumerate(blocks)]
    generator = torch.Generator().manual_seed(9)
    eigenvalues = [torch.rand(block.outputs, block.inputs + block.bias, generator=generator, dtype=torch.float64)
                   for block in blocks]
    damping = 0.05
    found = []
    for layout in (Layout(), Layout(batch_size=2, side="left")):
        sink = SelfInfluenceSink(blocks, bases, [1 / (L + damping) for L in eigenvalues], len(data))
        sweep(model, data, blocks, [sink], layout=layout)
        found.append(sink.values.numpy())
    truth = tiny.gradients(model, data, [block.name for block in blocks])
    for b, block in enumerate(blocks):
        G = with_bias_last(truth[b], block).flatten(1)
        Q_A, Q_S = (torch.block_diag(*part) if part else torch.eye(n, dtype=torch.float64) for part, n in
                    ((bases[b].a, block.inputs + block.bias), (bases[b].s, block.outputs)))
        Q = torch.kron(Q_S, Q_A)
        C = Q @ torch.diag(eigenvalues[b].flatten()) @ Q.T + damping * torch.eye(len(Q), dtype=torch.float64)
        expected = (G * torch.linalg.solve(C, G.T).T).sum(dim=1).numpy()
        for values in found:
            np.testing.assert_allclose(values[b], expected, rtol=1e-9)
    assert (found[0] > 0).all()


def test_its_state_is_taken_over() -> None:
    model, data = tiny.gpt2(), tiny.examples(6)
    blocks = select_blocks(model)[:2]
    inverse = [torch.ones(block.outputs, block.inputs + block.bias, dtype=torch.float64) for block in blocks]
    sinks = [SelfInfluenceSink(blocks, [Basis()] * 2, inverse, 6) for _ in range(2)]
    sweep(model, data, blocks, [sinks[0]])
    sinks[1].restore(sinks[0].state())
    np.testing.assert_array_equal(sinks[1].values.numpy(), sinks[0].values.numpy())


def test_eigenvalues_of_another_shape_are_a_bug() -> None:
    block = select_blocks(tiny.gpt2())[0]
    with pytest.raises(ValueError, match="eigenvalues; expected"):
        SelfInfluenceSink([block], [Basis()], [torch.ones(block.outputs, block.inputs)], 3)
