"""Per-example gradients in a pair of orthogonal bases, `Q_S^T G Q_A` with G = sum over tokens of d a~^T  [out, in'].

Rotating the factors costs T (in'^2 + out^2) multiply-adds an example, rotating the gradient in' out (in' + out); the
cheaper of the two is taken, block by block and batch by batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from whence.models.blocks import Block
from whence.sweep.basis import Basis, rotate, rotate_inputs
from whence.sweep.capture import Captured
from whence.sweep.gram import GradientStore
from whence.sweep.workspace import Workspace, chunks, wide


class Rotated:
    """Per-example gradients of a batch in the bases of their block, a few examples at a time in kept memory."""

    def __init__(self, bases: Sequence[Basis]) -> None:
        self.bases = tuple(bases)
        self._a, self._d, self._G, self._half = Workspace(), Workspace(), Workspace(), Workspace()
        self._inputs: tuple[tuple[int, slice, int], Tensor] | None = None  # rotated inputs that several blocks share

    def __call__(self, share: Captured) -> Iterator[tuple[slice, Float[Tensor, "c out in"]]]:
        """`(examples of the batch, Q_S^T G Q_A)` in chunks; a chunk is overwritten by the next."""
        basis = self.bases[share.block]
        a, d = wide(share.a), wide(share.d)
        size, length, inputs = a.shape
        inputs, outputs = inputs + share.bias, d.shape[2]
        by_factor = basis.rotation_cost(length) <= basis.gradient_cost(inputs, outputs)
        left = rotate(d, basis.s, self._d.empty(*d.shape, like=d)) if by_factor else d
        right = self._rotated_inputs(share, a, basis.a if by_factor else ())
        for at in chunks(size, outputs * inputs, a):
            G = self._G.empty(at.stop - at.start, outputs, inputs, like=a)
            torch.bmm(left[at].mT, right[at], out=G)
            if not by_factor:
                half = rotate(G, basis.a, self._half.empty(*G.shape, like=G))
                q = torch.block_diag(*basis.s).to(G.dtype) if basis.s else None
                G = half if q is None else torch.matmul(q.T, half, out=G)
            yield at, G

    def _rotated_inputs(self, share: Captured, a: Tensor, parts: Sequence[Tensor]) -> Tensor:
        if not parts and not share.bias:
            return a
        key = share.source, share.at, id(parts)
        if self._inputs is None or self._inputs[0] != key:
            place = self._a.empty(*a.shape[:2], a.shape[2] + share.bias, like=a)
            self._inputs = key, rotate_inputs(a, parts, share.bias, place)
        return self._inputs[1]


class RotatedStore(GradientStore):
    """Keeps the coordinates of per-example gradients in the bases of their blocks, [N, out in'] each, row-major."""

    def __init__(self, blocks: Sequence[Block], bases: Sequence[Basis], rows: int, device: torch.device | str = "cpu",
                 dtype: torch.dtype = torch.float32) -> None:
        super().__init__(blocks, rows, device, dtype)
        self._rotated = Rotated(bases)

    def update(self, share: Captured) -> None:
        """Write the batch's coordinates into their place."""
        place = self.gradients[share.block][share.at]
        for at, G in self._rotated(share):
            place[at] = G.flatten(1)
