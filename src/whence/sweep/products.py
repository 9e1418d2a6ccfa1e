"""A sink for the products of many resident vectors with every training gradient: one pass, whatever their number.

    products[b, q, i] = <x_q, g_i> over block b        x [Q, P_b], g_i = sum over tokens of d a~^T

A tile of some output rows of all the batch's gradients is formed in kept memory and multiplied with the same rows
of the vectors while it is in the cache, in pieces of the long inner size, which keeps every core at a whole product of
its own. Cost: B T P_b multiply-adds for a batch's gradients, B Q P_b for the products.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from whence.models.blocks import Block
from whence.sweep.capture import Captured
from whence.sweep.vectors import Full, Vectors
from whence.sweep.workspace import Workspace, chunks, wide

PIECE = 8192  # numbers of the inner size taken at once


class ProductSink:
    """Products with the vectors of each block.

    Attributes:
        products: [blocks, Q, N] when the pass is over, rows in the order of the examples.
    """

    def __init__(self, blocks: Sequence[Block], vectors: Sequence[Vectors], rows: int) -> None:
        self.blocks, self.vectors = tuple(blocks), list(vectors)
        like = _like(self.vectors[0])
        self.products = torch.zeros(len(self.blocks), len(self.vectors[0]), rows, dtype=like.dtype, device=like.device)
        self._space, self._parts = Workspace(), Workspace()

    def update(self, share: Captured) -> None:
        """Multiply one batch's gradients with all vectors."""
        vectors, place = self.vectors[share.block], self.products[share.block][:, share.at]
        dtype = self.products.dtype
        a, d = wide(share.a).to(dtype), wide(share.d).to(dtype)
        size, inputs, outputs = len(a), a.shape[2], d.shape[2]
        for at in chunks(outputs, size * inputs, a):
            rows = at.stop - at.start
            tile = self._space.empty(size, rows, inputs, like=a)
            torch.bmm(d[:, :, at].mT, a, out=tile)
            self._multiply(vectors.rows(at), tile, place)
        if share.bias:
            place += vectors.bias() @ d.sum(dim=1).T

    def _multiply(self, x: Tensor, tile: Tensor, place: Tensor) -> None:
        """`place [Q, B] += x [Q, rows, in] tile [B, rows, in]^T`."""
        size, rows, inputs = tile.shape
        each = max(1, PIECE // inputs)
        pieces = rows // each
        if pieces > 1:
            left, right = (part[:, : pieces * each].unflatten(1, (pieces, each)).flatten(2) for part in (x, tile))
            parts = self._parts.empty(pieces, len(x), size, like=tile)
            torch.bmm(left.transpose(0, 1), right.permute(1, 2, 0), out=parts)
            place += parts.sum(dim=0)
            x, tile = x[:, pieces * each :], tile[:, pieces * each :]
        if tile.shape[1]:
            place += x.flatten(1) @ tile.flatten(1).T

    def finish(self, order: np.ndarray) -> None:
        """Put the columns into the order of the examples."""
        back = torch.from_numpy(np.argsort(order)).to(self.products.device)
        self.products = self.products[:, :, back]

    def state(self) -> dict[str, Tensor]:
        """The products so far, columns in sweep order."""
        return {"products": self.products}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over products."""
        self.products.copy_(state["products"])


def _like(vectors: Vectors) -> Tensor:
    return vectors.flat if isinstance(vectors, Full) else vectors.left
