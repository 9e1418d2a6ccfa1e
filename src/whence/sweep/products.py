"""A sink for the products of many resident vectors with every training gradient: one pass, whatever their number.

    products[b, q, i] = <x_q, g_i> over block b        x [Q, P_b], g_i = sum over tokens of d a~^T

A tile of some output rows of all gradients at hand is formed in kept memory and multiplied with the same rows of the
vectors while it is in the cache, in pieces of the long inner size, which keeps every core at a whole product of its
own. The vectors are the larger part of what is read, and they are read once for each time this is done: so a and d of
a few batches wait for each other, as long as they are few bytes. Cost: T P_b multiply-adds a row for its gradient,
Q P_b for its products.
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
ROWS = 64  # that are multiplied at once, if they are at hand
HOLD_BYTES = {"cpu": 640 << 20, "cuda": 2 << 30}  # of a and d of all blocks that wait, with those they wait for


class ProductSink:
    """Products with the vectors of each block.

    Args:
        blocks, vectors: x of each block.
        rows: N.
        at_once: rows that are multiplied at once, if they are at hand; default `ROWS`.

    Attributes:
        products: [blocks, Q, N] when the pass is over, rows in the order of the examples.
    """

    def __init__(self, blocks: Sequence[Block], vectors: Sequence[Vectors], rows: int,
                 at_once: int | None = None) -> None:
        self.blocks, self.vectors, self.at_once = tuple(blocks), list(vectors), at_once or ROWS
        like = _like(self.vectors[0])
        self.products = torch.zeros(len(self.blocks), len(self.vectors[0]), rows, dtype=like.dtype, device=like.device)
        self._space, self._parts = Workspace(), Workspace()
        self._waiting: list[list[Captured]] = [[] for _ in self.blocks]
        self._numbers = sum(block.inputs + block.outputs for block in self.blocks)  # of a and d at one position

    @property
    def settled(self) -> bool:
        """Whether nothing waits: what has been taken in is in `products`."""
        return not any(self._waiting)

    def update(self, share: Captured) -> None:
        """Take in one batch, and multiply once enough have come together."""
        waiting = self._waiting[share.block]
        waiting.append(share)
        positions = sum(part.a.shape[0] * part.a.shape[1] for part in waiting)
        held = positions * self._numbers * share.a.element_size()
        limit = HOLD_BYTES.get(share.a.device.type, HOLD_BYTES["cuda"])
        if sum(len(part.a) for part in waiting) >= self.at_once or held + held // len(waiting) > limit:
            self._settle(share.block)

    def _settle(self, block: int) -> None:
        """Multiply the gradients of all that waits with all vectors."""
        shares, self._waiting[block] = self._waiting[block], []
        vectors, dtype = self.vectors[block], self.products.dtype
        place = self.products[block][:, shares[0].at.start : shares[-1].at.stop]
        factors = [(wide(share.a).to(dtype), wide(share.d).to(dtype)) for share in shares]
        inputs, outputs = factors[0][0].shape[2], factors[0][1].shape[2]
        sizes = [len(a) for a, _ in factors]
        for at in chunks(outputs, sum(sizes) * inputs, place):
            tile = self._space.empty(sum(sizes), at.stop - at.start, inputs, like=place)
            for (a, d), part in zip(factors, tile.split(sizes), strict=True):
                torch.bmm(d[:, :, at].mT, a, out=part)
            self._multiply(vectors.rows(at), tile, place)
        if shares[0].bias:
            place += vectors.bias() @ torch.cat([d.sum(dim=1) for _, d in factors]).T

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
        """Multiply what waits, and put the columns into the order of the examples."""
        for block, waiting in enumerate(self._waiting):
            if waiting:
                self._settle(block)
        back = torch.from_numpy(np.argsort(order)).to(self.products.device)
        self.products = self.products[:, :, back]

    def state(self) -> dict[str, Tensor]:
        """The products so far, columns in sweep order; asked for when it is settled."""
        return {"products": self.products}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over products."""
        self.products.copy_(state["products"])


def _like(vectors: Vectors) -> Tensor:
    return vectors.flat if isinstance(vectors, Full) else vectors.left
