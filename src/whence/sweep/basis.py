"""A pair of orthogonal bases for the gradient of one block, each a block-diagonal matrix kept as its blocks.

Shapes: in' = in + 1 with a bias (the homogeneous coordinate, last), else in; the parts of a basis are square and
their sizes add up to in' or out. No parts at all is the identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Basis:
    """`Q_A = diag(a)` [in', in'] for inputs and `Q_S = diag(s)` [out, out] for outputs; columns are basis vectors."""

    a: tuple[Tensor, ...] = ()
    s: tuple[Tensor, ...] = ()

    def rotation_cost(self, rows: int) -> int:
        """Multiply-adds to rotate `rows` inputs and outputs."""
        return rows * sum(q.numel() for q in (*self.a, *self.s))

    def gradient_cost(self, inputs: int, outputs: int) -> int:
        """Multiply-adds to rotate one gradient [outputs, inputs] from both sides."""
        return outputs * sum(q.numel() for q in self.a) + inputs * sum(q.numel() for q in self.s)


def rotate(x: Float[Tensor, "*rows n"], parts: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
    """`x Q` [..., n]."""
    if not parts:
        return x
    return _rotate(x, parts, [None] * len(parts), out)


def rotate_back(x: Float[Tensor, "*rows n"], parts: Sequence[Tensor]) -> Tensor:
    """`x Q^T` [..., n]."""
    return rotate(x, [q.T for q in parts])


def rotate_inputs(a: Float[Tensor, "*rows in"], parts: Sequence[Tensor], bias: bool,
                  out: Tensor | None = None) -> Tensor:
    """`a~ Q_A` [..., in'] for inputs a~ = [a, 1], the 1 never written down."""
    if not bias:
        return rotate(a, parts, out)
    if not parts:
        result = torch.empty(*a.shape[:-1], a.shape[-1] + 1, dtype=a.dtype, device=a.device) if out is None else out
        result[..., :-1] = a
        result[..., -1] = 1
        return result
    return _rotate(a, [*parts[:-1], parts[-1][:-1]], [*[None] * (len(parts) - 1), parts[-1][-1]], out)


def _rotate(x: Tensor, parts: Sequence[Tensor], constants: Sequence[Tensor | None], out: Tensor | None) -> Tensor:
    flat = x.reshape(-1, x.shape[-1])
    width = sum(q.shape[1] for q in parts)
    place = torch.empty(len(flat), width, dtype=x.dtype, device=x.device) if out is None else out.view(-1, width)
    row = column = 0
    for part, constant in zip(parts, constants, strict=True):
        q = part.to(x.dtype)
        piece = flat[:, row : row + q.shape[0]]
        columns = place[:, column : column + q.shape[1]]
        if constant is None:
            torch.mm(piece, q, out=columns)
        else:
            torch.addmm(constant.to(x.dtype), piece, q, out=columns)
        row, column = row + q.shape[0], column + q.shape[1]
    return place.view(*x.shape[:-1], width)


def homogeneous(flat: Float[Tensor, "K P"], outputs: int, inputs: int, bias: bool) -> Float[Tensor, "K out in"]:
    """Gradients in the layout of `Captured.gradients` as matrices [K, out, in'], a bias as the last column."""
    weights = flat[:, : outputs * inputs].unflatten(1, (outputs, inputs))
    return torch.cat([weights, flat[:, outputs * inputs :, None]], dim=2) if bias else weights


def flattened(matrices: Float[Tensor, "K out in"], bias: bool) -> Float[Tensor, "K P"]:
    """The inverse of `homogeneous`."""
    if not bias:
        return matrices.flatten(1)
    return torch.cat([matrices[:, :, :-1].flatten(1), matrices[:, :, -1]], dim=1)
