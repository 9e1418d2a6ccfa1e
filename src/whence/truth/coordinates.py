"""Coordinates u in which the weights' change delta is looked for: a minimiser's steps, not its minimum, depend on them.

    Plain      delta = u / sqrt(lambda)
    Whitened   delta = Q_S [ u / sqrt(L + lambda) ] Q_A^T    for the weights of a block, its bias the last column;
               delta = u / sqrt(lambda)                      for the others

with C = (Q_S x Q_A) diag(L) (Q_S x Q_A)^T a Kronecker curvature of the block. In whitened coordinates the Hessian of
a proximal objective is near the identity, as far as C is near the Gauss-Newton matrix, and a method of gradients
needs few steps. Both maps are linear, `weights` and its transpose `pulled`.

Shapes: P weights that may move, flat, in the order they were given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from whence.curvature.kronecker import BlockCurvature
from whence.models.blocks import Block


@runtime_checkable
class Coordinates(Protocol):
    """A linear map to the weights' change, and its transpose."""

    def weights(self, u: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """delta of u."""
        ...

    def pulled(self, gradient: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """The gradient in u of one in delta."""
        ...


class Plain:
    """One scale for all."""

    def __init__(self, damping: float) -> None:
        self.scale = damping**-0.5

    def weights(self, u: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """`u / sqrt(lambda)`."""
        return u * self.scale

    def pulled(self, gradient: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """`g / sqrt(lambda)`."""
        return gradient * self.scale


class Whitened:
    """Each block in its own eigenbasis, divided by the root of its damped eigenvalues.

    Args:
        damping: lambda.
        moved: the weights that may move, by name.
        blocks, curved: linear maps, and the curvature of each; `NAME.weight` and `NAME.bias` of those that may move.
    """

    def __init__(self, damping: float, moved: Mapping[str, Tensor], blocks: Sequence[Block],
                 curved: Sequence[BlockCurvature]) -> None:
        self.plain = Plain(damping)
        places, start = dict[str, slice](), 0
        for name, p in moved.items():
            places[name] = slice(start, start + p.numel())
            start += p.numel()
        self.blocks = [(one, places[f"{block.name}.weight"], places.get(f"{block.name}.bias"), block.kind == "conv1d",
                        (one.eigenvalues + damping).rsqrt())
                       for block, one in zip(blocks, curved, strict=True) if f"{block.name}.weight" in places]

    def weights(self, u: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """`Q_S [u / sqrt(L + lambda)] Q_A^T` of each block."""
        delta = self.plain.weights(u)
        for curved, weight, bias, turned, root in self.blocks:
            _put(delta, curved.rotated_back((_taken(u, weight, bias, turned, root.shape) * root)[None])[0], weight,
                 bias, turned)
        return delta

    def pulled(self, gradient: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """`(Q_S^T g Q_A) / sqrt(L + lambda)` of each block."""
        found = self.plain.pulled(gradient)
        for curved, weight, bias, turned, root in self.blocks:
            _put(found, curved.rotated(_taken(gradient, weight, bias, turned, root.shape)[None])[0] * root, weight,
                 bias, turned)
        return found


def _taken(flat: Tensor, weight: slice, bias: slice | None, turned: bool, shape: torch.Size) -> Float[Tensor, "out in"]:
    """A block's part as a matrix [out, in'], zero where its bias does not move."""
    out, width = shape
    matrix = flat[weight].view(-1, out).T if turned else flat[weight].view(out, -1)
    if matrix.shape[1] == width:
        return matrix
    last = matrix.new_zeros(out) if bias is None else flat[bias]
    return torch.cat([matrix, last[:, None]], dim=1)


def _put(flat: Tensor, matrix: Float[Tensor, "out in"], weight: slice, bias: slice | None, turned: bool) -> None:
    out = matrix.shape[0]
    inputs = (weight.stop - weight.start) // out
    flat[weight] = (matrix[:, :inputs].T if turned else matrix[:, :inputs]).reshape(-1)
    if bias is not None and matrix.shape[1] > inputs:
        flat[bias] = matrix[:, -1]
