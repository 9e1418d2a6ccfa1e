"""Models, random preconditioned gradients, and derivatives along them by autograd: the oracle of the token views."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from tests import tiny
from whence.models.blocks import Block, select_blocks

MODELS = {"llama": tiny.llama, "gpt2": tiny.gpt2, "lora": tiny.lora}


def problem(architecture: str, queries: int = 2, dtype: torch.dtype = torch.float64
            ) -> tuple[nn.Module, list[Block], list[Tensor]]:
    """A model, its blocks, and X: a random [Q, P] for each of them."""
    model = MODELS[architecture](dtype=dtype)
    blocks = select_blocks(model)
    generator = torch.Generator().manual_seed(3)
    return model, blocks, [torch.randn(queries, b.parameters, generator=generator, dtype=dtype) for b in blocks]


@contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Attention spelled out, so that autograd can go through it twice."""
    model.requires_grad_(True)
    with sdpa_kernel(SDPBackend.MATH):
        yield
    model.requires_grad_(False)


def along(value: Tensor, blocks: Sequence[Block], x: Sequence[Tensor]) -> Tensor:
    """<x, grad of `value` by the blocks' weights and biases>, with a graph."""
    total = torch.zeros((), dtype=torch.float64)
    for block, vector in zip(blocks, x, strict=True):
        weight = block.module.weight
        (gradient,) = torch.autograd.grad(value, weight, create_graph=True)
        matrix = vector[: block.outputs * block.inputs].view(block.outputs, block.inputs)
        total = total + (gradient * (matrix.T if block.kind == "conv1d" else matrix)).sum()
        if block.bias:
            (gradient,) = torch.autograd.grad(value, block.module.bias, create_graph=True)
            total = total + (gradient * vector[block.outputs * block.inputs :]).sum()
    return total


def bits(model: nn.Module) -> dict[str, bytes]:
    """Every parameter and buffer, byte by byte."""
    return {name: tensor.detach().numpy().tobytes() for name, tensor in model.state_dict().items()}
